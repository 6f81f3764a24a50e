/** Guardrails as a form: groups, labels and units of those that are known; a new one appears by its name. */
import type { GuardrailText } from '../../sdk/gen'

export type Field = { name: string; label: string; unit: string; help: string; scale: number; digits: number }
type Known = [name: string, label: string, kind: 'usd' | 'pct' | 'times' | 'bps' | 'ms' | 'flag', help?: string]
const UNIT = { usd: ['$', 1e6, 4], pct: ['% of equity', 1e4, 2], times: ['×', 1e6, 2], bps: ['bps', 1, 0], ms: ['ms', 1, 0], flag: ['1 = on', 1, 0] } as const
const GROUPS: [string, Known[]][] = [
  ['Price protection', [
    ['influencer_price_bps', "Away from the influencer's price", 'bps', 'Hyperliquid'], ['influencer_price_micros', "Away from the influencer's price", 'usd', 'Polymarket'],
    ['mid_price_bps', 'Away from the mid', 'bps', 'Hyperliquid'], ['mid_price_micros', 'Away from the mid', 'usd', 'Polymarket'],
    ['spread_bps', 'Spread', 'bps', 'Hyperliquid; above it, nothing is opened'], ['spread_micros', 'Spread', 'usd', 'Polymarket'],
    ['depth_ratio_micros', 'Depth in the band', 'times', 'the band must hold this multiple of the order'], ['reduction_band_micros', 'Band of reductions', 'times', 'factor on both price limits'],
  ]],
  ['Sizing', [
    ['min_notional_micros', 'Smallest order', 'usd', 'smaller targets wait and add up'], ['max_notional_micros', 'Largest opening', 'usd'], ['max_equity_fraction_micros', 'Largest opening', 'pct'],
    ['notional_cap_micros', 'Position in one market', 'usd', '0 = no cap'], ['max_loss_micros', 'Loss of one trade', 'usd', '0 = off'], ['assumed_move_micros', 'Move that it assumes', 'pct', 'of the price, Hyperliquid'],
    ['accumulate', 'What is too small waits', 'flag'], ['reduce_by_notional', 'Reduce by notional', 'flag', "0 = by the influencer's fraction"],
  ]],
  ['Risk', [
    ['market_exposure_micros', 'One market', 'pct'], ['influencer_exposure_micros', 'One influencer', 'pct'], ['total_exposure_micros', 'In all', 'pct'], ['max_leverage_micros', 'Leverage', 'times', '0 = no limit'],
    ['daily_loss_micros', 'Daily loss', 'pct', 'trips until the next UTC day; 0 = off'], ['weekly_loss_micros', 'Weekly loss', 'pct', 'trips until the next ISO week; 0 = off'], ['drawdown_micros', 'Drawdown', 'pct', 'trips until an operator resets it; 0 = off'],
    ['taker_fee_micros', 'Paper fee', 'pct', 'of notional, where the venue gives no rate'],
  ]],
  ['Timing', [
    ['max_signal_age_ms', 'Oldest signal', 'ms'], ['max_quote_age_ms', 'Oldest book', 'ms', '0 = off'], ['latency_ms', 'Latency model', 'ms', 'paper only'], ['latency_jitter_ms', 'and up to this more', 'ms'], ['close_guard_ms', 'No openings before the close', 'ms', '0 = off'],
  ]],
]

export const groupsOf = (declared: GuardrailText[]): { name: string; fields: Field[] }[] => {
  const texts = new Map(declared.map((g) => [g.name, g.text]))
  const made = GROUPS.map(([name, fields]) => ({
    name,
    fields: fields.filter(([name]) => texts.has(name)).map(([name, label, kind, help]) => ({ name, label, unit: kind === 'pct' && help?.startsWith('of ') ? '%' : UNIT[kind][0], help: help ?? '', scale: UNIT[kind][1], digits: UNIT[kind][2] })),
  }))
  const known = new Set(GROUPS.flatMap(([, fields]) => fields.map(([name]) => name)))
  const rest = declared.filter((g) => !known.has(g.name)).map((g) => ({ name: g.name, label: g.name.replaceAll('_', ' '), unit: /_(bps|ms|micros)$/.exec(g.name)?.[1] ?? '', help: g.text, scale: 1, digits: 0 }))
  return rest.length ? [...made, { name: 'Other', fields: rest }] : made
}
