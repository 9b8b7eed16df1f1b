// The URLs that are missed, not stored, fetched slowly or hit the most, and why.

import { CallError, get, post } from './api.js'
import { action, byId, element, replace, say, share, table, url } from './dom.js'
import { bytes, compact, milliseconds, word } from './format.js'

const shown = 15
const explained = 6 // rows whose sentence is asked for
const keptFor = 60_000

const kinds = {
  misses: { title: 'Misses', show: compact, why: true },
  not_stored: { title: 'Not stored', show: compact, why: true },
  hits: { title: 'Hits', show: compact },
  bytes: { title: 'Bytes', show: bytes },
  fetch_time: { title: 'Fetch time', show: milliseconds },
  disagree: { title: 'Disagreements', show: compact, why: true }
}

// Sentences of explain by URL and reason, and until when they are kept.
const sentences = new Map()
let explains = true

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
  draw(by, rows, open)
  if (kinds[by].why) await explain(by, rows, open)
}

function draw (by, rows, open) {
  const { title, show } = kinds[by]
  const focused = document.activeElement?.getAttribute('aria-label')
  replace(byId('top-table'), table(`URLs by ${title.toLowerCase()}`, [
    { title: 'URL', class: 'grow', cell: row => [url(row.url), why(row)] },
    { title, class: 'number', cell: row => show(row.count) },
    { title: 'Share', class: 'number', cell: row => share(row.share) },
    { title: element('span', { class: 'hidden' }, 'Actions'), class: 'actions', cell: row => [
      whole(row) && [action('Explain', row.url, () => open.explain(row.url)), action('Purge', row.url, () => open.purge(row.url))]] }
  ], rows, 'Nothing yet.'))
  if (focused) [...byId('top-table').querySelectorAll('button')].find(b => b.getAttribute('aria-label') === focused)?.focus()
}

// whole: the ranking keeps the beginning of a long URL only, which another URL may be.
const whole = row => !row.url.endsWith('…')

const keyOf = row => `${row.url} ${row.reason ?? ''}`

function why (row) {
  const sentence = sentences.get(keyOf(row))?.text
  if (!row.reason && !sentence) return null
  return element('span', { class: 'why' }, row.reason && element('b', {}, word(row.reason)), row.reason && sentence && '; asked now: ', sentence)
}

// explain fetches the sentences of the first rows that have none yet, one after the other: each runs the routes.
async function explain (by, rows, open) {
  let news = false
  for (const row of rows.filter(whole).slice(0, explained)) {
    const known = sentences.get(keyOf(row))
    if (!explains || (known && known.until > Date.now())) continue
    try {
      const { verdict } = await post('/larder/explain', { url: row.url })
      sentences.set(keyOf(row), { text: verdict, until: Date.now() + keptFor })
      news = true
    } catch (error) {
      if (!(error instanceof CallError)) throw error
      if (error.missing) explains = false
      else sentences.set(keyOf(row), { text: '', until: Date.now() + keptFor })
    }
  }
  if (news && by === chosen()) draw(by, rows, open)
}
