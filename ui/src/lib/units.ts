/** What the API sends as integers of millionths, and names, as the pages show them. */
export type Mode = 'LIVE' | 'PAPER' | 'RECORD'

export const modeOf = (mode: string): Mode => ({ live: 'LIVE', paper: 'PAPER', record_only: 'RECORD' })[mode] as Mode ?? 'PAPER'
export const venueOf = (venue: string) => ({ hyperliquid: 'Hyperliquid', polymarket: 'Polymarket' })[venue] ?? venue
/** Dollars, shares or a fraction. */
export const m = (micros: number) => micros / 1e6
export const mOr = (micros: number | null | undefined) => (micros == null ? null : micros / 1e6)
export const t = (time: string) => Date.parse(time)
export const lagMs = (from: string, to: string) => Math.max(0, Date.parse(to) - Date.parse(from))
/** Digits behind the point of a price: four or five that mean something. */
export const priceDigits = (price: number) => (price >= 10_000 ? 1 : price >= 1000 ? 2 : price >= 10 ? 3 : price >= 1 ? 4 : price > 0.1 ? 3 : 5)
export const sizeDigits = (size: number) => { const s = Math.abs(size); return s >= 1000 ? 0 : s >= 10 ? 2 : s >= 1 ? 3 : 4 }
/** An asset by its name, else by a shortened id. */
export const assetName = (asset: string, names?: Record<string, string>) => names?.[asset] ?? (asset.length > 20 ? asset.slice(0, 8) + '…' + asset.slice(-4) : asset)
export const sideWord = (side: string) => (side === 'BUY' ? 'buy' : 'sell')
