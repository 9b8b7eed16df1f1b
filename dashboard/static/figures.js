// What the cache does: the tiles and the charts.

import { Chart, sparkline } from './chart.js'
import { byId, element, replace, share, table } from './dom.js'
import { bytes, compact, count, milliseconds, none, percent, perSecond, plural, word } from './format.js'
import { all, hitRatio, outcomes, toOrigin } from './history.js'

const charts = {
  requests: new Chart({
    title: 'Requests, by outcome', stacked: true, show: perSecond, series: outcomes.map(name => ({ name, label: name, color: name }))
  }),
  bytes: new Chart({
    title: 'Bytes served',
    scale: 'binary',
    show: n => Number.isFinite(n) ? `${bytes(n)}/s` : none,
    series: [{ name: 'saved', label: 'from the store', color: 'hit' }, { name: 'origin', label: 'from the origin', color: 'miss' }]
  }),
  time: new Chart({
    title: 'Time to answer, mean, logarithmic',
    scale: 'logarithmic',
    show: milliseconds,
    series: [{ name: 'fetch', label: 'fetch', color: 'miss' }, { name: 'answer', label: 'hit', color: 'hit' }]
  }),
  stored: new Chart({
    title: 'Stored, by tier',
    scale: 'binary',
    show: bytes,
    series: [{ name: 'memory', label: 'memory', color: 'hit' }, { name: 'disk', label: 'disk', color: 'revalidated' }]
  })
}

export function setUp () {
  replace(byId('charts'), Object.values(charts).map(chart => chart.figure))
}

// update shows figures, as history.js makes them, and the statistics of now.
export function update (figures, stats) {
  const { requests, series, times } = figures
  const at = i => Object.fromEntries(outcomes.map(name => [name, series[name]?.[i] ?? 0]))
  const overTime = of => times.map((_, i) => {
    const value = of(at(i))
    return Number.isFinite(value) ? value : null
  })
  const now = times.length === 0 ? null : at(times.length - 1)
  const stored = stats.memory.bytes + stats.disk.bytes
  replace(byId('tiles'),
    tile('Hit ratio', percent(hitRatio(requests)), `over ${figures.over}; without what bypasses`, overTime(hitRatio)),
    tile('Requests', now === null ? compact(all(requests)) : perSecond(all(now)), `${compact(all(requests))} in ${figures.over}`, overTime(all)),
    tile('Origin load', now === null ? compact(toOrigin(requests)) : perSecond(toOrigin(now)),
      `${percent(toOrigin(requests) / all(requests))} of requests; ${plural(stats.in_flight, 'fetch', 'fetches')} under way`, overTime(toOrigin)),
    Number.isFinite(figures.saved) && tile('Bytes saved', bytes(figures.saved), `of ${bytes(figures.served)} served`, series.saved ?? []),
    Number.isFinite(figures.fetchTime) && tile('Fetch time', milliseconds(figures.fetchTime), `mean of ${compact(figures.fetches)} fetches`, series.fetch ?? []),
    tile('Stored', bytes(stored), `${plural(stats.memory.entries, 'response')} in memory, ${compact(stats.disk.entries)} on disk`, []))
  for (const [name, chart] of Object.entries(charts)) {
    const known = chart.series.some(one => series[one.name] !== undefined)
    chart.figure.hidden = !known && name !== 'requests'
    if (!chart.figure.hidden) chart.update({ times, series })
  }
  replace(byId('outcomes'), shares('Requests, since Caddy started', outcomes.map(name => [name, stats.requests[name] ?? 0])))
  replace(byId('reasons'), shares('Not stored, since Caddy started',
    Object.entries(stats.not_stored ?? {}).filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a).slice(0, outcomes.length)))
}

// shares is a table of counts, each with its share in all.
function shares (title, rows) {
  const sum = rows.reduce((total, [, n]) => total + n, 0)
  return table(title, [
    { title, cell: ([name]) => word(name) },
    { title: element('span', { class: 'hidden' }, 'Count'), class: 'number', cell: ([, n]) => count(n) },
    { title: element('span', { class: 'hidden' }, 'Share'), class: 'number', cell: ([, n]) => share(sum === 0 ? 0 : n / sum) }
  ], rows, 'None.')
}

function tile (title, figure, sub, values) {
  return element('div', { class: 'panel tile' },
    element('dt', {}, title),
    element('dd', { class: 'figure' }, figure),
    element('dd', { class: 'sub' }, sub),
    element('dd', {}, sparkline(values)))
}
