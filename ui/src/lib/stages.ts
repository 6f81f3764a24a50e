/** The stages of the pipeline, from the counts per minute, the latencies of hops, and the lag of their consumers. */
import type { Minute, SystemDocument } from '../../sdk/gen'

export type StageRow = { name: string; what: string; rate: number; lag: number | null; p50: number | null; p99: number | null; spark: number[]; state: 'ok' | 'warn' | 'crit'; events: number }
const STAGES: [string, string, (m: Minute) => number][] = [
  ['ingest', 'receive → RAW', (m) => m.raw_events],
  ['normalize', 'RAW → signal', (m) => m.signals + m.observations],
  ['group', 'signal → group', (m) => m.groups],
  ['quote', 'group → quote', (m) => m.quotes + m.quotes_failed],
  ['match', 'quote → request', (m) => m.requests],
  ['plan', 'request → decision, fill', (m) => m.executed + m.skipped],
  ['projections', 'event → row', (m) => m.raw_events + m.signals + m.groups + m.quotes + m.requests + m.executed + m.skipped + m.orders + m.fills + m.results],
]
const HOPS: Record<string, string> = { ingest: 'record', normalize: 'detect', group: 'group', quote: 'quote', plan: 'decide' }

export const stagesOf = (doc: SystemDocument): StageRow[] =>
  STAGES.map(([name, what, count]) => {
    const spark = doc.minutes.map(count)
    const mine = doc.lags.filter((l) => l.consumer.startsWith(name + '-') || l.consumer === name)
    const lag = name === 'projections' ? doc.projections_behind : mine.length ? mine.reduce((s, l) => s + l.waiting, 0) : null
    const hop = doc.latencies.find((l) => l.hop === HOPS[name])
    const last = doc.minutes.slice(-5)
    const rate = last.length ? last.reduce((s, m) => s + count(m), 0) / (60 * last.length) : 0
    return { name, what, rate, lag, p50: hop ? hop.percentiles['50'] / 1000 : null, p99: hop ? hop.percentiles['99'] / 1000 : null, spark: spark.length > 1 ? spark : [0, ...spark, 0], state: (lag ?? 0) > 10_000 ? 'crit' : (lag ?? 0) > 1000 ? 'warn' : 'ok', events: spark.reduce((a, b) => a + b, 0) } as StageRow
  })
