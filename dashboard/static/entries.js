// What is stored: a list to filter, and one entry with all that is known of it.

import { get } from './api.js'
import { action, byId, element, replace, say, table, url } from './dom.js'
import { bytes, plural, seconds, word } from './format.js'
import { facts } from './facts.js'

const pageSize = 50
const shownTags = 2
let entries = []
let next = ''
let listing = 0 // the newest request; an older one's answer is dropped

const form = byId('filter')

// setUp has the form and the rows work. open is what a row's buttons do.
export function setUp (zone, open) {
  const list = () => load(zone, open, true)
  form.addEventListener('submit', event => { event.preventDefault(); list() })
  form.addEventListener('reset', () => setTimeout(list))
  form.elements.sort.addEventListener('change', list)
  byId('more').addEventListener('click', () => load(zone, open, false))
  return list
}

async function load (zone, open, anew) {
  const mine = ++listing
  const query = { limit: pageSize, cursor: anew ? '' : next, zone: zone(), ...Object.fromEntries(new FormData(form)) }
  try {
    const page = await filled(query)
    if (mine !== listing) return
    entries = anew ? page.entries : entries.concat(page.entries)
    next = page.next
    draw(zone, open)
  } catch (error) {
    if (mine !== listing) return
    say(byId('entries-table'), error.message, 'empty error')
    byId('more').hidden = true
    byId('entries-count').textContent = ''
  }
}

// filled follows pages that may be empty although more follow.
async function filled (query) {
  const all = { entries: [], next: query.cursor }
  for (let pages = 0; pages < 20; pages++) {
    const page = await get('/larder/entries', { ...query, cursor: all.next })
    all.entries.push(...page.entries)
    all.next = page.next
    if (page.next === '' || all.entries.length >= pageSize) break
  }
  return all
}

function draw (zone, open) {
  const filter = tag => {
    form.elements.tag.value = tag
    load(zone, open, true)
  }
  replace(byId('entries-table'), table('Stored responses', [
    { title: 'URL', class: 'grow', cell: entry => [url(entry.url), entry.variant && element('span', { class: 'why' }, entry.variant)] },
    { title: 'Status', class: 'number', cell: entry => entry.status },
    { title: 'Size', class: 'number', cell: entry => bytes(entry.size) },
    { title: 'Age', class: 'number', cell: entry => seconds(entry.age) },
    { title: 'Fresh for', class: 'number', cell: entry => entry.ttl > 0 ? seconds(entry.ttl) : element('span', { class: 'stale-text' }, 'stale') },
    { title: 'Tier', cell: entry => word(entry.tier) },
    { title: 'Tags', class: 'tags', cell: entry => tags(entry.tags ?? [], filter) },
    { title: element('span', { class: 'hidden' }, 'Actions'), class: 'actions', cell: entry => [
      entry.id && action('Details', entry.url, () => details(entry, zone, open)),
      action('Explain', entry.url, () => open.explain(entry.url)), action('Purge', entry.url, () => open.purge(entry.url))] }
  ], entries, 'Nothing stored matches.'))
  byId('entries-count').textContent = plural(entries.length, 'entry', 'entries') + (next === '' ? '' : ', and more')
  byId('more').hidden = next === ''
}

function tags (all, filter) {
  return [all.slice(0, shownTags).map(tag => tagButton(tag, filter)), all.length > shownTags && `and ${all.length - shownTags} more`]
}

function tagButton (tag, filter) {
  return element('button', { type: 'button', class: 'tag', title: tag, 'aria-label': `Only tag ${tag}`, onclick: () => filter(tag) }, tag)
}

// details shows one entry. One that is stored no more leaves the list.
async function details (entry, zone, open) {
  const body = byId('details-body')
  say(body, 'Loading')
  byId('details').showModal()
  try {
    replace(body, facts(await get(`/larder/entries/${encodeURIComponent(entry.id)}`)))
  } catch (error) {
    say(body, error.status === 404 ? 'It is stored no more: it was purged or evicted, or another response has taken its place.' : error.message, 'error')
    if (error.status !== 404) return
    entries = entries.filter(other => other.id !== entry.id)
    draw(zone, open)
  }
}
