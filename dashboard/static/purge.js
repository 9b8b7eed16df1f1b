// Purging: first a preview, which counts, then a confirmation, then the purge. What has been changed since its preview cannot be purged.

import { get, post } from './api.js'
import { byId, element, replace, say } from './dom.js'
import { plural } from './format.js'

const form = byId('purge-form')
const button = byId('purge-now')
const result = byId('purge-result')
const sampled = 8

let previewed = null // {selectors, matched}: what the button would purge

// setUp has the form work. done is called after a purge.
export function setUp (zone, done) {
  form.addEventListener('submit', event => { event.preventDefault(); preview(zone()) })
  form.addEventListener('input', forget)
  form.elements.kind.addEventListener('change', () => {
    form.elements.values.disabled = form.elements.kind.value === 'all'
  })
  button.addEventListener('click', confirm)
  byId('confirm').addEventListener('close', () => {
    if (byId('confirm').returnValue === 'purge') purge(done)
  })
}

// fill puts a URL into the form and previews its purge.
export function fill (url, zone) {
  form.elements.kind.value = 'urls'
  form.elements.values.disabled = false
  form.elements.values.value = url
  form.scrollIntoView({ block: 'center' })
  button.focus()
  return preview(zone)
}

function forget () {
  if (previewed === null && button.disabled) return
  previewed = null
  button.disabled = true
  button.textContent = 'Purge'
  say(result, 'The form has changed; preview it again.')
}

function selectors (zone) {
  const kind = form.elements.kind.value
  const values = form.elements.values.value.split('\n').map(line => line.trim()).filter(line => line !== '')
  const s = kind === 'all' ? { all: true } : { [kind]: values }
  if (form.elements.soft.checked) s.soft = true
  if (zone !== '') s.zones = [zone]
  return s
}

async function preview (zone) {
  forget()
  const asked = selectors(zone)
  say(result, 'Counting')
  try {
    const { matched } = await post('/larder/purge', { ...asked, dry_run: true })
    const some = await sample(asked)
    if (JSON.stringify(asked) !== JSON.stringify(selectors(zone))) return // changed meanwhile
    previewed = { selectors: asked, matched }
    button.disabled = false
    button.textContent = `${verb(asked)} ${plural(matched, 'response')}`
    replace(result, element('p', { class: 'verdict' }, `${plural(matched, 'stored response')} ${matched === 1 ? 'matches' : 'match'}.`),
      element('p', { class: 'hint' }, 'Nothing has been changed yet.'), some)
    button.focus()
  } catch (error) {
    say(result, error.message, 'error')
  }
}

const verb = s => s.soft ? 'Mark stale' : 'Purge'

// sample lists some of what a tag, a beginning or a host matches, in the words of the listing.
async function sample (s) {
  const [name, value] = s.tags?.length === 1 ? ['tag', s.tags[0]] : s.prefixes?.length === 1 ? ['prefix', s.prefixes[0]] : s.hosts?.length === 1 ? ['host', s.hosts[0]] : []
  if (name === undefined) return null
  const { entries } = await get('/larder/entries', { [name]: value, limit: sampled })
  return element('ul', { class: 'urls', tabindex: '0', 'aria-label': 'Some of them' }, entries.map(entry => element('li', { class: 'url', title: entry.url }, entry.url)))
}

function confirm () {
  if (previewed === null) return
  const { selectors: s, matched } = previewed
  const [kind, values] = Object.entries(s).find(([, value]) => Array.isArray(value) && value !== s.zones) ?? ['all', []]
  byId('confirm-title').textContent = `${verb(s)} ${plural(matched, 'response')}?`
  byId('confirm-text').textContent = s.soft
    ? 'What it has matched counts as stale: it is validated, or answers while a stale window lets it. It cannot be undone.'
    : kind === 'all'
      ? 'Everything that is stored goes.'
      : 'No request that starts after the purge is answered with what it has matched. It cannot be undone.'
  replace(byId('confirm-list'), values.map(value => element('li', { class: 'url', title: value }, value)))
  byId('confirm-purge').textContent = verb(s)
  byId('confirm').returnValue = ''
  byId('confirm').showModal()
}

async function purge (done) {
  const { selectors: s } = previewed
  previewed = null
  button.disabled = true
  button.textContent = 'Purge'
  say(result, 'Purging')
  try {
    say(result, sentence(s, await post('/larder/purge', s)), 'verdict')
    done()
  } catch (error) {
    say(result, error.message, 'error')
  }
  result.querySelector('p').tabIndex = -1
  result.querySelector('p').focus()
}

function sentence (s, { matched, nodes, fenced = [], uncertain = [] }) {
  const parts = [s.soft ? `${plural(matched, 'response')} marked stale` : `${plural(matched, 'response')} purged`]
  if (nodes !== undefined) parts.push(`it holds on ${plural(nodes, 'node')}`)
  if (fenced.length > 0) parts.push(`waited out: ${fenced.join(', ')}`)
  if (uncertain.length > 0) parts.push(`may answer from older content: ${uncertain.join(', ')}`)
  return parts.join('; ') + '.'
}
