/** A trace of the API as the steps of one copy: what happened when, under which cause, at work or waiting by design. */
import type { Check, Hop, TraceDocument, TracedAttempt } from '../../sdk/gen'
import { ms, num, usd } from './format'
import { assetName, m, priceDigits, sizeDigits } from './units'

export type Facts = Record<string, any>
export type Step = { kind: string; place: string; id: string; stage: string; at: number; dur: number; wait: number; waitWhy: string; text: string; cause: number | null; causeText: string; facts: Facts; text0: string; bytes: number; ledger: boolean }
export type Chain = { t0: number; end: number; steps: Step[]; decision: number }

const price = (micros: number) => num(m(micros), priceDigits(m(micros)))
const size = (micros: number) => num(m(micros), sizeDigits(m(micros)))

const describe = (type: string, f: Facts, names: Record<string, string>): string => {
  const asset = f.asset ? assetName(f.asset, names) : ''
  switch (type) {
    case 'raw.received': { const p = f.payload ?? {}; return p.px != null ? `${p.side === 'A' ? 'sell' : 'buy'} ${p.sz} ${p.coin ?? asset} @ ${p.px}` : p.type ? `${String(p.type).toLowerCase()} ${p.size ?? ''} ${p.outcome ?? ''} @ ${p.price ?? ''}` : `${f.channel} of ${f.influencer_id}` }
    case 'signal.recorded': return `${f.influencer_id} ${f.action} ${asset} ${size(f.delta_micros)} @ ${price(f.price_micros)}`
    case 'group.closed': return `${f.influencer_id} ${f.action} ${asset} ${f.trade_side} ${usd(m(f.notional_micros))} @ ${price(f.price_micros)}, ${f.signal_ids?.length ?? 0} signal${f.signal_ids?.length === 1 ? '' : 's'}`
    case 'quote.wanted': return 'the book is wanted at the time that the latency model asks for'
    case 'quote.captured': { const b = bookOf(f); return b ? `bid ${price(b.bids[0]?.[0] ?? 0)} ask ${price(b.asks[0]?.[0] ?? 0)}, ${b.bids.length} + ${b.asks.length} levels` : 'captured' }
    case 'quote.failed': return `${f.reason ?? ''} ${f.detail ?? ''}`.trim()
    case 'group.matched': return `${f.matched} subscription${f.matched === 1 ? '' : 's'} want${f.matched === 1 ? 's' : ''} it`
    case 'execution.requested': return `subscription ${f.subscription_id ?? ''}${f.sizing ? `, ${f.sizing.mode}` : ''}`
    case 'copy.queued': return 'waits until no earlier request can still arrive'
    case 'copy.decided': return `${f.decision} for ${f.subscription_id ?? f.subscriber_id}: ${f.trade_side ?? ''} ${f.decision === 'EXECUTE' ? size(f.share_micros) + ' ' : ''}${asset}`
    case 'order.submitted': return `${f.mode === 'live' ? 'to the venue' : 'paper, takes the captured book'}: ${f.trade_side ?? ''} ${size(f.share_micros)} ${asset}`
    case 'order.filled': return `${size(f.share_micros)} @ ${price(f.price_micros)} = ${usd(m(f.notional_micros))}, fee ${usd(m(f.fee_micros), 4)}`
    case 'execution.completed': return `${size(f.filled_micros)} of ${size(f.requested_micros)} filled`
    case 'position.changed': return `holds ${size(f.share_micros)} ${asset} at ${price(f.average_price_micros)}`
    case 'event.dead_lettered': return f.error
  }
  return asset || f.id || ''
}

/** Levels [price, size] in micros of a captured book, in whichever form the facts have it. */
export const bookOf = (f: Facts): { bids: [number, number][]; asks: [number, number][] } | null => {
  const book = f.book ?? f.quote?.book ?? f
  const side = (rows: any): [number, number][] => (Array.isArray(rows) ? rows.map((r) => (Array.isArray(r) ? [Number(r[0]), Number(r[1])] : [Number(r.price_micros), Number(r.share_micros ?? r.size_micros)])) : [])
  if (!book?.bids && !book?.asks) return null
  return { bids: side(book.bids), asks: side(book.asks) }
}

const STAGE: Record<string, string> = { 'raw.received': 'ingest' }
const stageOf = (hop: Hop) => STAGE[hop.type] ?? hop.source.replace('vibe/', '')
const samePlace = (cause: string, place: string) => cause === place || cause === place.replace(/\.\d+$/, '')

export const chainOf = (doc: TraceDocument, attempt: TracedAttempt | undefined): Chain => {
  const names = doc.names
  const hops = [...doc.shared, ...(attempt?.hops ?? []), ...doc.dead_letters]
  const t0 = hops[0] ? hops[0].happened_us / 1000 : 0
  const steps: Step[] = []
  for (const hop of hops) {
    let facts: Facts = {}
    try {
      facts = JSON.parse(hop.facts)
    } catch {
      /* facts that are no JSON are shown as text only */
    }
    const at = hop.happened_us / 1000 - t0
    const cause = hop.cause ? steps.findIndex((s) => samePlace(hop.cause!, s.place)) : -1
    const earlier = cause >= 0 ? steps[cause].at : (steps.at(-1)?.at ?? 0)
    let wait = 0, waitWhy = ''
    if (hop.type === 'group.closed') (wait = Math.max(0, at - earlier), (waitWhy = 'the window that collects the trades of one order'))
    if (hop.type === 'quote.captured') (wait = Math.max(0, at - (steps.find((s) => s.kind === 'quote.wanted')?.at ?? earlier)), (waitWhy = 'the latency model of the paper venue'))
    if (hop.type === 'copy.decided' && steps.some((s) => s.kind === 'copy.queued')) (wait = Math.max(0, at - earlier), (waitWhy = 'first in, first out by detection time'))
    const dur = wait ? Math.min(2, wait) : Math.max(0, Math.min(at - earlier, 60_000))
    if (wait) wait = Math.max(0, wait - dur)
    steps.push({ kind: hop.type, place: hop.place, id: hop.id, stage: stageOf(hop), at, dur: hop.type === 'raw.received' ? 0 : dur, wait, waitWhy, text: describe(hop.type, facts, names), cause: cause >= 0 ? cause : null, causeText: hop.cause ?? '', facts, text0: hop.facts, bytes: hop.facts.length, ledger: false })
  }
  for (const entry of attempt?.ledger ?? []) {
    const cause = steps.findIndex((s) => s.id === entry.source_event_id)
    const at = cause >= 0 ? steps[cause].at : (steps.at(-1)?.at ?? 0)
    steps.push({ kind: 'ledger entry', place: cause >= 0 ? steps[cause].place : `EXECUTIONS:${entry.sequence}`, id: entry.entry_id, stage: 'projections', at, dur: 0, wait: 0, waitWhy: '', text: `${entry.kind} shares ${size(entry.share_delta_micros)}, cash ${usd(m(entry.cash_delta_micros), 2, true)}`, cause: cause >= 0 ? cause : null, causeText: cause >= 0 ? steps[cause].place : '', facts: entry as unknown as Facts, text0: JSON.stringify(entry, null, 2), bytes: 0, ledger: true })
  }
  return { t0, end: Math.max(1, ...steps.map((s) => s.at)), steps, decision: steps.findIndex((s) => s.kind === 'copy.decided') }
}

export type CheckView = { name: string; words: string; input: string; limit: string; op: string; passed: boolean; used: number | null }
const WORDS: Record<string, string> = {
  engine: 'Engine is running', mode: 'Mode of the subscriber', quote: 'A book was captured', market: 'Market is open',
  price_vs_influencer_micros: "Best price against the influencer's", price_vs_mid_micros: 'Best price against the mid', liquidity_in_band_micros: 'Something to take inside the band',
  equity_micros: 'Equity is positive', signal_age_ms: 'Age of the signal', quote_age_ms: 'Age of the book', switches: 'Switches of operators', filters: "Subscription's filters",
  position_state: "Influencer's position is known", breaker: 'No breaker is tripped', spread_micros: 'Spread', depth_in_band_micros: 'Depth inside the band against the order',
  exposure_total_micros: 'Exposure in all', exposure_market_micros: 'Exposure to the market', exposure_influencer_micros: 'Exposure to the influencer', cash_micros: 'Cost against free cash',
  max_equity_fraction_micros: 'Target against the largest share of equity', max_notional_micros: 'Target against the largest order', order_notional_micros: 'Order against the minimum', copied_position_micros: 'Something copied is held',
  ms_to_close: 'Time to the close of the market',
}
const AT_LEAST = new Set(['depth_in_band_micros', 'order_notional_micros', 'liquidity_in_band_micros', 'equity_micros', 'copied_position_micros', 'ms_to_close', 'order_share_micros'])
const PRICES = new Set(['price_vs_influencer_micros', 'price_vs_mid_micros'])
const SHARES = new Set(['copied_position_micros', 'order_share_micros'])

export const checkView = (check: Check, side: string, base: Record<string, number>): CheckView => {
  const { name, input, limit } = check
  const words = WORDS[name] ?? name.replace(/_(micros|ms|bps)$/, '').replaceAll('_', ' ')
  if (typeof input !== 'number' || typeof limit !== 'number') return { name, words, input: input == null ? 'none' : String(input).length > 22 ? String(input).slice(0, 10) + '…' : String(input), limit: limit == null ? '' : String(limit), op: limit == null || input === limit ? '' : '≠', passed: check.passed, used: null }
  let digits = 2
  const show = (v: number) => (name.endsWith('_ms') || name.startsWith('ms_') ? ms(v) : name.endsWith('_bps') ? num(v) + ' bps' : PRICES.has(name) || name === 'spread_micros' ? num(v / 1e6, digits) : SHARES.has(name) ? num(v / 1e6, digits) : name.endsWith('_micros') ? usd(v / 1e6, digits) : num(v))
  if (PRICES.has(name) || name === 'spread_micros') digits = Math.max(2, priceDigits(limit / 1e6))
  // Two numbers that differ never look alike.
  while (digits < 6 && input !== limit && show(input) === show(limit)) digits++
  const least = AT_LEAST.has(name) || (PRICES.has(name) && side === 'SELL')
  let used: number | null = null
  if (PRICES.has(name)) {
    const from = base[name]
    if (from && limit !== from) used = Math.max(0, (input - from) / (limit - from))
  } else if (limit > 1) used = least ? (input > 0 ? limit / input : 1.15) : input / limit
  return { name, words, input: show(input), limit: limit === 1 ? 'above 0' : show(limit), op: limit === 1 ? '' : least ? '≥' : '≤', passed: check.passed, used: used == null ? null : Math.min(1.15, used) }
}
