// The figures over time: GET /larder/history in the form that charts and tiles take, and what stands in for it where a Larder has no
// history: the differences between the statistics that this page has read.

export const outcomes = ['hit', 'collapsed', 'stale', 'revalidated', 'miss', 'bypass']
const stepSeconds = { '10s': 10, '1m': 60, '15m': 900 }
const spans = { '10s': 'the last hour', '1m': 'the last day', '15m': 'the last fortnight' }
const maxSamples = 1800

// fromHistory takes an answer {step, from, series}. Counts become rates; the sums stay beside them. The last step still goes on: its
// counts are in the sums, and would make rates that are too low.
export function fromHistory (answer) {
  const step = stepSeconds[answer.step] ?? 10
  const from = typeof answer.from === 'number' ? answer.from : Date.parse(answer.from) / 1000
  const raw = answer.series
  const length = Math.max(0, ...Object.values(raw).map(values => values.length - 1))
  const ended = name => raw[name]?.slice(0, -1)
  const rate = name => ended(name)?.map(n => n === null ? null : n / step)
  const mean = (total, number) => ended(total)?.map((sum, i) => raw[number]?.[i] > 0 ? sum / raw[number][i] : null)
  const series = {
    saved: rate('bytes_saved'),
    origin: difference(rate('bytes_served'), rate('bytes_saved')),
    fetch: mean('fetch_ms', 'fetches'),
    answer: mean('hit_ms', 'hits_timed'),
    memory: ended('memory_bytes'),
    disk: ended('disk_bytes')
  }
  for (const outcome of outcomes) series[outcome] = rate(`requests_${outcome}`)
  const requests = Object.fromEntries(outcomes.map(outcome => [outcome, total(raw[`requests_${outcome}`])]))
  return {
    over: spans[answer.step] ?? 'the time shown',
    times: Array.from({ length }, (_, i) => from + i * step),
    series,
    requests,
    served: total(raw.bytes_served),
    saved: total(raw.bytes_saved),
    fetches: total(raw.fetches),
    fetchTime: total(raw.fetch_ms) / total(raw.fetches)
  }
}

const total = values => values === undefined ? NaN : values.reduce((sum, n) => sum + (n ?? 0), 0)

const difference = (all, part) => all?.map((n, i) => n === null ? null : Math.max(0, n - (part?.[i] ?? 0)))

// Live remembers what the statistics were each time this page read them.
export class Live {
  constructor () { this.clear() }

  clear () { this.samples = [] }

  add (stats, at) {
    if (this.samples.length > 0 && at <= this.samples.at(-1).at) return
    this.samples.push({ at, stats })
    if (this.samples.length > maxSamples) this.samples.shift()
  }

  // figures are rates between one reading and the next. The sums are the process's, from its start.
  figures () {
    const pairs = this.samples.slice(1).map((sample, i) => [this.samples[i], sample])
    const series = {
      memory: pairs.map(([, to]) => to.stats.memory.bytes),
      disk: pairs.map(([, to]) => to.stats.disk.bytes)
    }
    for (const outcome of outcomes) {
      series[outcome] = pairs.map(([from, to]) => Math.max(0, (to.stats.requests[outcome] - from.stats.requests[outcome]) / (to.at - from.at)))
    }
    return {
      over: 'all since Caddy started',
      times: pairs.map(([, to]) => to.at),
      series,
      requests: this.samples.at(-1)?.stats.requests ?? {},
      served: NaN,
      saved: NaN,
      fetches: NaN,
      fetchTime: NaN
    }
  }
}

// hitRatio is the share of the requests that were answered without one to the origin of their own in those that go through the cache. It
// is NaN where none do. `caddy larder history` and the queries for Prometheus have the same: docs/operating.md defines it.
export function hitRatio (requests) {
  const of = name => requests[name] ?? 0
  const spared = of('hit') + of('stale') + of('collapsed')
  return spared / (spared + of('revalidated') + of('miss'))
}

// toOrigin are the requests that the origin had to answer.
export const toOrigin = requests => (requests.miss ?? 0) + (requests.revalidated ?? 0) + (requests.bypass ?? 0)

export const all = requests => outcomes.reduce((sum, outcome) => sum + (requests[outcome] ?? 0), 0)
