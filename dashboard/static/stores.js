// What is stored where, and who shares it: tiers against budgets, zones, origins, the fleet.

import { byId, element, replace, table } from './dom.js'
import { bytes, compact, count, milliseconds, none, percent, plural, word } from './format.js'
import { hitRatio } from './history.js'

export function update (stats) {
  replace(byId('tiers'),
    tier('Memory', stats.memory),
    tier('Disk', stats.disk, stats.queue_bytes > 0 ? `${bytes(stats.queue_bytes)} wait to be written` : null),
    stats.shared && shared(stats.shared),
    work(stats))
  panel('zones', zones(stats.zones))
  panel('origins', origins(stats.origins))
}

// updateFleet shows the nodes, or nothing where there is no fleet.
export function updateFleet (fleet) {
  panel('fleet', fleet !== null && table('Fleet', [
    { title: `Fleet ${fleet.name}`, cell: node => [node.name, node.this && element('span', { class: 'why' }, ' this one')] },
    { title: 'State', cell: node => word(node.state) },
    { title: 'Version', cell: node => node.version },
    { title: 'Address', cell: node => node.address },
    { title: 'Last beat', class: 'number', cell: node => `${milliseconds(node.silent_ms)} ago` },
    { title: 'Purges behind', class: 'number', cell: node => node.lag < 0 ? 'not known' : count(node.lag) }
  ], fleet.nodes, 'No node has joined.'))
}

function panel (id, content) {
  replace(byId(id), content && element('div', { class: 'panel scroll', tabindex: '0', role: 'region', 'aria-label': word(id) }, content))
}

function tile (title, figure, ...rest) {
  return element('div', { class: 'panel tile' }, element('h3', {}, title), element('p', { class: 'figure' }, figure), rest)
}

function tier (title, { entries, bytes: used, budget, state }, more = null) {
  if (budget === 0) return tile(title, 'off', element('p', { class: 'sub' }, 'nothing is kept here'))
  return tile(title, bytes(used),
    meter(`${title} in use`, used, budget),
    element('p', { class: 'sub' }, `${percent(used / budget)} of ${bytes(budget)}; ${plural(entries, 'response')}`),
    unusual(state) && element('p', { class: 'sub error' }, word(state)),
    more && element('p', { class: 'sub' }, more))
}

const unusual = state => state !== undefined && !['', 'open', 'ok', 'on', 'ready'].includes(state)

function meter (label, used, budget) {
  const bar = element('div')
  bar.style.width = `${Math.min(100, used / budget * 100)}%`
  return element('div', {
    class: used > budget * 0.95 ? 'meter full' : 'meter',
    role: 'meter', 'aria-label': label, 'aria-valuemin': 0, 'aria-valuemax': budget, 'aria-valuenow': Math.min(used, budget), 'aria-valuetext': `${bytes(used)} of ${bytes(budget)}`
  }, bar)
}

function shared ({ state, nodes, breaker, upload_bytes: upload }) {
  return tile('Shared tier', word(state),
    element('p', { class: 'sub' }, `${plural(nodes, 'node')}; breaker ${breaker}`),
    upload > 0 && element('p', { class: 'sub' }, `${bytes(upload)} wait to be sent`))
}

// work is what is under way and what went wrong.
function work (stats) {
  const errors = Object.entries(stats.errors ?? {}).filter(([, n]) => n > 0).map(([name, n]) => `${compact(n)} errors of ${name}`)
  const rest = [
    stats.purges_pending > 0 && `${plural(stats.purges_pending, 'purge')} in force and not swept yet`,
    stats.disk_writes_skipped > 0 && `${plural(stats.disk_writes_skipped, 'response')} kept in memory only`,
    ...errors
  ].filter(Boolean)
  return tile('Fetches under way', count(stats.in_flight),
    rest.length === 0 ? element('p', { class: 'sub' }, 'no errors, no purge pending') : rest.map(text => element('p', { class: 'sub' }, text)))
}

function zones (all) {
  const rows = Object.entries(all ?? {})
  if (rows.length < 2) return null
  const usage = name => ([, zone]) => zone[name]?.budget > 0 ? `${bytes(zone[name].bytes)} of ${bytes(zone[name].budget)}` : 'off'
  return table('Zones', [
    { title: 'Zone', cell: ([name]) => name },
    { title: 'Hit ratio', class: 'number', cell: ([, zone]) => percent(hitRatio(zone.requests ?? {})) },
    { title: 'Entries', class: 'number', cell: ([, zone]) => count(Math.max(zone.memory?.entries ?? 0, zone.disk?.entries ?? 0)) },
    { title: 'Memory', class: 'number', cell: usage('memory') },
    { title: 'Disk', class: 'number', cell: usage('disk') }
  ], rows, 'There is one zone.')
}

function origins (all) {
  const rows = Object.entries(all ?? {})
  if (rows.length === 0) return null
  const refused = origin => Object.entries(origin.refused ?? {}).filter(([, n]) => n > 0).map(([why, n]) => `${compact(n)} ${word(why)}`).join(', ')
  return table('Origins', [
    { title: 'Origin', cell: ([name]) => name },
    { title: 'State', cell: ([, origin]) => word(origin.state || 'ready') },
    { title: 'Fetches', class: 'number', cell: ([, origin]) => origin.max_concurrent > 0 ? `${count(origin.taken)} of ${count(origin.max_concurrent)}` : count(origin.taken) },
    { title: 'Waiting', class: 'number', cell: ([, origin]) => count(origin.waiting) },
    { title: 'Refused', cell: ([, origin]) => refused(origin) || none }
  ], rows, 'No origin has a name.')
}
