// Any JSON as a list of names and values, so that what a newer Larder tells more is shown too.

import { element } from './dom.js'
import { word } from './format.js'

export function facts (value) {
  if (Array.isArray(value)) {
    if (value.every(one => typeof one !== 'object' || one === null)) return value.length === 0 ? '–' : value.join(', ')
    return element('ol', { class: 'steps' }, value.map(one => element('li', {}, facts(one))))
  }
  if (typeof value !== 'object' || value === null) return value === null || value === '' ? '–' : String(value)
  const rows = Object.entries(value)
  if (rows.length === 0) return '–'
  return element('dl', { class: 'facts' }, rows.map(([name, one]) => [
    element('dt', {}, word(name)), element('dd', { class: typeof one === 'string' ? 'mono' : null }, facts(one))]))
}
