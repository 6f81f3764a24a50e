/** Reason codes: a short label for a chip, the family that groups them, and their meaning as the server states it. */
import type { PageReasonText } from '../../sdk/gen'
import { get } from './api'

export type Family = 'price' | 'size' | 'risk' | 'breaker' | 'switch' | 'data' | 'note'
const LABELS: Record<string, [string, Family]> = {
  SPREAD_TOO_WIDE: ['Spread too wide', 'price'],
  PRICE_AWAY_FROM_INFLUENCER: ['Away from influencer', 'price'],
  PRICE_AWAY_FROM_MID: ['Away from mid', 'price'],
  INSUFFICIENT_DEPTH: ['Too little depth', 'price'],
  NO_LIQUIDITY_WITHIN_BOUNDS: ['No liquidity in band', 'price'],
  BELOW_MINIMUM: ['Below minimum', 'size'],
  ACCUMULATED: ['Accumulated', 'size'],
  NO_POSITION: ['No position', 'size'],
  NO_EQUITY: ['No equity', 'size'],
  INSUFFICIENT_CASH: ['Too little cash', 'size'],
  EXPOSURE_MARKET: ['Market exposure', 'risk'],
  EXPOSURE_INFLUENCER: ['Influencer exposure', 'risk'],
  EXPOSURE_TOTAL: ['Total exposure', 'risk'],
  NOTIONAL_CAP: ['Market cap reached', 'risk'],
  RISK_CAP_GLOBAL: ['Global risk cap', 'risk'],
  BREAKER_DAILY_LOSS: ['Daily-loss breaker', 'breaker'],
  BREAKER_WEEKLY_LOSS: ['Weekly-loss breaker', 'breaker'],
  BREAKER_DRAWDOWN: ['Drawdown breaker', 'breaker'],
  RECORD_ONLY: ['Record only', 'switch'],
  FILTERED: ['Filtered', 'switch'],
  ENGINE_PAUSED: ['Engine paused', 'switch'],
  INFLUENCER_DISABLED: ['Influencer disabled', 'switch'],
  SUBSCRIBER_DISABLED: ['Subscriber disabled', 'switch'],
  MARKET_BLOCKED: ['Market blocked', 'switch'],
  LIVE_NOT_AVAILABLE: ['Live not available', 'switch'],
  STALE_SIGNAL: ['Stale signal', 'data'],
  STALE_QUOTE: ['Stale quote', 'data'],
  NO_QUOTE: ['No quote', 'data'],
  BOOK_EMPTY: ['Book empty', 'data'],
  BOOK_CROSSED: ['Book crossed', 'data'],
  BOOK_INVALID: ['Book invalid', 'data'],
  UNKNOWN_ASSET: ['Unknown asset', 'data'],
  MARKET_CLOSED: ['Market closed', 'data'],
  MARKET_CLOSING: ['Market closing', 'data'],
  POSITION_UNKNOWN: ['Position unknown', 'data'],
  DROPPED: ['Dropped', 'switch'],
  EXIT_OWED: ['Exit owed', 'note'],
  EXIT_NOT_OWED: ['No longer owed', 'note'],
  EXIT_KEPT: ['Kept, opened again', 'note'],
  ORDER_EXPIRED: ['Order came too late', 'data'],
  ORDER_REFUSED: ['Venue refused', 'price'],
  ORDER_INVALID: ['Illegal price or size', 'data'],
  INSUFFICIENT_MARGIN: ['Too little margin', 'risk'],
  POSITION_DIFFERS: ['Account differs', 'risk'],
  REQUESTS_EXHAUSTED: ['Actions used up', 'risk'],
  AGENT_UNUSABLE: ['Agent unusable', 'switch'],
  PARTIAL_FILL: ['Partial fill', 'note'],
}
const meanings: Record<string, string> = {}
/** Reads what every code means, once. */
export const loadReasons = async () => {
  for (const each of (await get<PageReasonText>('/reasons')).items) meanings[each.code] = each.text
}
const words = (code: string) => { const s = code.toLowerCase().replaceAll('_', ' '); return s[0].toUpperCase() + s.slice(1) }
export const reason = (code: string) => ({ label: LABELS[code]?.[0] ?? words(code), family: LABELS[code]?.[1] ?? ('note' as Family), meaning: meanings[code] ?? words(code) })
