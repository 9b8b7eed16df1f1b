// The URLs that are missed, not stored, fetched slowly or hit the most, and why.

import { CallError, get } from './api.js'
import { action, byId, element, replace, say, share, table, url } from './dom.js'
import { bytes, compact, milliseconds, word } from './format.js'

const shown = 15

const kinds = {
  misses: { title: 'Misses', show: compact },
  not_stored: { title: 'Not stored', show: compact },
  hits: { title: 'Hits', show: compact },
  bytes: { title: 'Bytes', show: bytes },
  fetch_time: { title: 'Fetch time', show: milliseconds },
  disagree: { title: 'Disagreements', show: compact }
}

// Sentences of explain for rows that are shown, by URL and reason. The page asks for none by itself: to explain runs the handlers in front
// of larder, which may ask servers of their own.
const sentences = new Map()
let drawn = { by: '', rows: [] }

export const chosen = () => document.querySelector('input[name="by"]:checked').value

// update asks for what is chosen and shows it. open is what a row's buttons do.
export async function update (zone, open) {
  const by = chosen()
  let rows
  try {
    rows = (await get('/larder/top', { by, limit: shown, zone })).rows
  } catch (error) {
    if (!(error instanceof CallError)) throw error
    say(byId('top-table'), error.missing ? 'This Larder keeps no ranking of URLs.' : error.message, 'empty')
    return
  }
  if (by !== chosen()) return // another one has been chosen meanwhile
  for (const key of sentences.keys()) if (!rows.some(row => keyOf(row) === key)) sentences.delete(key)
  draw(by, rows, open)
}

function draw (by, rows, open) {
  drawn = { by, rows }
  const { title, show } = kinds[by]
  const focused = document.activeElement?.getAttribute('aria-label')
  replace(byId('top-table'), table(`URLs by ${title.toLowerCase()}`, [
    { title: 'URL', class: 'grow', cell: row => [url(row.url), why(row)] },
    { title, class: 'number', cell: row => show(row.count) },
    { title: 'Share', class: 'number', cell: row => share(row.share) },
    { title: element('span', { class: 'hidden' }, 'Actions'), class: 'actions', cell: row => [
      whole(row) && [action('Explain', row.url, () => explain(row, open)), action('Purge', row.url, () => open.purge(row.url))]] }
  ], rows, 'Nothing yet.'))
  if (focused) [...byId('top-table').querySelectorAll('button')].find(b => b.getAttribute('aria-label') === focused)?.focus()
}

// whole: the ranking keeps the beginning of a long URL only, which another URL may be.
const whole = row => !row.url.endsWith('…')

const keyOf = row => `${row.url} ${row.reason ?? ''}`

function why (row) {
  const sentence = sentences.get(keyOf(row))
  if (!row.reason && !sentence) return null
  return element('span', { class: 'why' }, row.reason && element('b', {}, word(row.reason)), row.reason && sentence && '; when asked: ', sentence)
}

// explain has the form explain a row's URL, and keeps the sentence in the row.
async function explain (row, open) {
  const verdict = await open.explain(row.url)
  if (verdict === null || !drawn.rows.some(shown => keyOf(shown) === keyOf(row))) return
  sentences.set(keyOf(row), verdict)
  draw(drawn.by, drawn.rows, open)
}
