// Any JSON as a list of names and values, so that what a newer Larder tells more is shown too. The parts of a key are told by what they
// are, and times in the time of this place.

import { element } from './dom.js'
import { none } from './format.js'

const time = /^\d{4}-\d{2}-\d{2}T[\d:.]+(Z|[+-]\d{2}:\d{2})$/

export function facts (value) {
  if (Array.isArray(value)) {
    if (value.every(one => typeof one !== 'object' || one === null)) return value.length === 0 ? none : value.join(', ')
    if (value.every(one => 'part' in one && 'values' in one)) return facts(Object.fromEntries(value.map(({ part, values }) => [part, values])))
    return element('ol', { class: 'steps' }, value.map(one => element('li', {}, facts(one))))
  }
  if (typeof value === 'string' && time.test(value)) return new Date(value).toLocaleString([], { dateStyle: 'medium', timeStyle: 'medium' })
  if (typeof value !== 'object' || value === null) return value === null || value === '' ? none : String(value)
  const rows = Object.entries(value)
  if (rows.length === 0) return none
  return element('dl', { class: 'facts' }, rows.map(([name, one]) => [
    element('dt', {}, name.replaceAll('_', ' ')), element('dd', { class: typeof one === 'string' ? 'mono' : null }, facts(one))]))
}
