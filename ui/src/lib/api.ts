/** Requests to /api/v1 with this browser's session: ETags, problem documents, and the token that changes must carry. */
import type { ProblemDocument, Session } from '../../sdk/gen'

/** A refusal: `status` 0 when the server did not answer. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly problem: Partial<ProblemDocument>,
  ) {
    super(problem.detail ?? 'The server does not answer.')
  }
}

const kept = new Map<string, { tag: string; body: unknown }>()
const KEPT = 60
let csrf = ''
/** Milliseconds to add to this machine's clock for the time of the log. */
let offset = 0
const lost = new Set<() => void>()

/** Now by the log's clock, in ms: a demo's log has a time of its own. */
export const logNow = () => Date.now() + offset
/** Calls `then` when the server no longer knows this session. */
export const onSignedOut = (then: () => void) => void lost.add(then)

const send = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
  let answer: Response
  try {
    answer = await fetch(path.startsWith('/api') ? path : '/api/v1' + path, {
      method,
      headers: { ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...(method === 'GET' ? {} : { 'X-CSRF-Token': csrf }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store',
    })
  } catch {
    throw new Refusal(0, { detail: 'The server does not answer. It may be restarting.' })
  }
  const time = Number(answer.headers.get('X-Log-Time'))
  if (time) offset = time - Date.now()
  if (answer.ok || answer.status === 304) return answer
  const problem = (await answer.json().catch(() => ({}))) as Partial<ProblemDocument>
  if (answer.status === 401 && !path.startsWith('/session')) lost.forEach((then) => then())
  throw new Refusal(answer.status, problem)
}

/** The answer to a question; one that has not changed is not sent again. */
export const get = async <T>(path: string): Promise<T> => {
  const known = kept.get(path)
  const answer = await send('GET', path, undefined, known ? { 'If-None-Match': known.tag } : {})
  if (answer.status === 304 && known) return known.body as T
  const body = (await answer.json()) as T
  const tag = answer.headers.get('ETag')
  if (tag) {
    kept.delete(path)
    kept.set(path, { tag, body })
    if (kept.size > KEPT) kept.delete(kept.keys().next().value!)
  }
  return body
}

/** Stores an intent; `match` is the version that it was made on. */
export const change = async <T>(method: 'POST' | 'PUT' | 'DELETE', path: string, body: unknown = {}, match?: string): Promise<T> =>
  (await send(method, path, body, match ? { 'If-Match': match } : {})).json() as Promise<T>

/** Who is signed in; null when no one is. */
export const whoAmI = async (): Promise<Session | null> => {
  try {
    const session = (await (await send('GET', '/session')).json()) as Session
    csrf = session.csrf
    return session
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) return null
    throw error
  }
}
export const signIn = async (token: string): Promise<Session> => {
  const session = (await (await send('POST', '/session', { token })).json()) as Session
  csrf = session.csrf
  return session
}
export const signOut = async () => {
  await send('DELETE', '/session', {})
  kept.clear()
}

/** A path with the parameters that have a value. */
export const path = (of: string, query: Record<string, string | number | boolean | null | undefined> = {}) => {
  const search = new URLSearchParams(Object.entries(query).filter(([, v]) => v != null && v !== '' && v !== false).map(([k, v]) => [k, String(v)])).toString()
  return search ? `${of}?${search}` : of
}
