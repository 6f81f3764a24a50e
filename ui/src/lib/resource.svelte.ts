/** An answer that is asked for again: at intervals, when something was changed, and when the log has moved on. */
import { get, Refusal } from './api'

const all = new Set<Resource<unknown>>()
/** Asks for everything on the page anew, after a change. */
export const refresh = () => Promise.all([...all].map((each) => each.load()))

let seconds = $state(Date.now())
setInterval(() => (seconds = Date.now()), 1000)
/** This machine's time, which moves on once a second. */
export const ticking = () => seconds

export class Resource<T> {
  data = $state.raw<T | undefined>()
  error = $state.raw<Refusal | undefined>()
  /** When the data arrived, in ms. */
  at = $state(0)
  #path: string | null = null
  #asked = 0

  constructor(readonly every: number) {}

  /** Seconds since the data arrived. */
  get age() {
    return this.at ? Math.max(0, (ticking() - this.at) / 1000) : undefined
  }
  get state(): 'loading' | 'ready' | 'error' | 'stale' {
    if (this.data !== undefined) return this.error ? 'stale' : 'ready'
    return this.error ? 'error' : 'loading'
  }
  /** What a panel needs to show the state. */
  get panel() {
    return { state: this.state, age: this.age, every: this.every, error: this.error?.message, hint: this.#hint, onretry: () => void this.load() }
  }
  get #hint() {
    if (!this.error) return undefined
    if (this.data !== undefined) return 'The server does not answer; these are the last values received.'
    return this.error.problem.request_id ? `Request ${this.error.problem.request_id}. The rest of the page is not affected.` : undefined
  }
  point(path: string | null) {
    if (path === this.#path) return
    this.#path = path
    this.data = undefined
    this.error = undefined
    this.at = 0
    void this.load()
  }
  async load() {
    const path = this.#path
    if (path == null) return
    const asked = ++this.#asked
    try {
      const data = await get<T>(path)
      if (asked !== this.#asked) return
      this.data = data
      this.error = undefined
      this.at = Date.now()
    } catch (error) {
      if (asked !== this.#asked) return
      if (!(error instanceof Refusal)) throw error
      this.error = error
    }
  }
}

/** The answer under a path, asked for every so many seconds while the component lives and the page is seen. */
export const resource = <T>(path: () => string | null, every: number): Resource<T> => {
  const made = new Resource<T>(every)
  $effect(() => made.point(path()))
  $effect(() => {
    all.add(made as Resource<unknown>)
    const timer = setInterval(() => document.visibilityState === 'visible' && void made.load(), every * 1000)
    return () => {
      clearInterval(timer)
      all.delete(made as Resource<unknown>)
    }
  })
  return made
}

/** Pages of a list: the first one is asked for again, further ones are appended behind it. */
export class Pages<T> {
  first: Resource<{ items: T[]; next?: string | null; names?: Record<string, string> }>
  more = $state.raw<T[]>([])
  names = $state.raw<Record<string, string>>({})
  next = $state.raw<string | null | undefined>(undefined)
  busy = $state(false)
  constructor(readonly path: () => string | null, every: number) {
    this.first = resource(path, every)
    $effect(() => {
      void path()
      this.more = []
      this.next = undefined
    })
  }
  get rows(): T[] {
    return [...(this.first.data?.items ?? []), ...this.more]
  }
  get rest() {
    return this.next === undefined ? this.first.data?.next : this.next
  }
  name(id: string) {
    return this.first.data?.names?.[id] ?? this.names[id]
  }
  get panel() {
    return this.first.panel
  }
  /** Appends the rows behind the last one. Rows that were added meanwhile come with the first page. */
  async load() {
    const cursor = this.rest
    const path = this.path()
    if (!cursor || path == null || this.busy) return
    this.busy = true
    try {
      const page = await get<{ items: T[]; next?: string | null; names?: Record<string, string> }>(path + (path.includes('?') ? '&' : '?') + 'cursor=' + encodeURIComponent(cursor))
      this.more = [...this.more, ...page.items]
      this.names = { ...this.names, ...page.names }
      this.next = page.next ?? null
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      this.first.error = error
    } finally {
      this.busy = false
    }
  }
}
