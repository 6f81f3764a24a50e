/** What the whole page shares: who is signed in, theme, engine, toasts, palette. */
import type { Overview, Session } from '../../sdk/gen'
import { change, Refusal } from './api'
import { refresh, resource, type Resource } from './resource.svelte'

type Theme = 'dark' | 'light'
export type Toast = { id: number; text: string; detail?: string; tone: 'ok' | 'crit' }
type Stored = { sequence: number }

const stored = (() => {
  try {
    return localStorage.getItem('vibe.theme') as Theme | null
  } catch {
    return null
  }
})()
const system: Theme = matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark'

class Shared {
  theme = $state<Theme>(stored ?? system)
  session = $state.raw<Session | null | undefined>(undefined)
  overview = $state.raw<Resource<Overview> | undefined>()
  palette = $state(false)
  help = $state(false)
  nav = $state(false)
  toasts = $state.raw<Toast[]>([])

  /** Follows the overview, whose engine and attention every page shows. Called once, inside a component. */
  follow() {
    this.overview = resource<Overview>(() => (this.session ? '/overview' : null), 10)
  }
  get engine() {
    return this.overview?.data?.engine.state ?? 'running'
  }
  get mayChange() {
    return this.session?.role === 'operator' || this.session?.role === 'admin'
  }
  setTheme(theme: Theme) {
    this.theme = theme
    try {
      localStorage.setItem('vibe.theme', theme)
    } catch {
      /* a page without storage still has a theme */
    }
  }
  toast(text: string, detail?: string, tone: Toast['tone'] = 'ok') {
    const id = (this.toasts.at(-1)?.id ?? 0) + 1
    this.toasts = [...this.toasts, { id, text, detail, tone }]
    setTimeout(() => (this.toasts = this.toasts.filter((t) => t.id !== id)), tone === 'crit' ? 12_000 : 6_000)
  }
  /** Sends a switch, says at which place it is stored, and shows the page as it is behind that place. */
  async control(action: string, body: unknown, done: string) {
    await this.store('POST', `/control/${action}`, body, done)
  }
  async store(method: 'POST' | 'PUT' | 'DELETE', path: string, body: unknown, done: string, match?: string): Promise<boolean> {
    try {
      const answer = await change<Partial<Stored>>(method, path, body, match)
      this.toast(done, answer.sequence ? `CONFIG:${answer.sequence}, in force from the next decision on` : undefined)
      await refresh()
      return true
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      this.toast(error.message, error.problem.errors?.join('; '), 'crit')
      return false
    }
  }
}
export const shared = new Shared()
