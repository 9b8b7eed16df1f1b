// Why a request is, or is not, a hit.

import { post } from './api.js'
import { byId, element, replace, say } from './dom.js'
import { facts } from './facts.js'

const form = byId('explain-form')
const result = byId('explain-result')

export function setUp () {
  form.addEventListener('submit', event => { event.preventDefault(); explain() })
}

// fill puts a URL into the form and explains it. It returns the verdict, null where there is none.
export function fill (url) {
  form.elements.method.value = 'GET'
  form.elements.url.value = url
  form.elements.fetch.checked = false
  form.scrollIntoView({ block: 'center' })
  form.elements.url.focus({ preventScroll: true })
  return explain()
}

function headers () {
  const fields = {}
  for (const line of form.elements.headers.value.split('\n')) {
    const [, name, value] = /^\s*([^:\s]+)\s*:\s*(.*?)\s*$/.exec(line) ?? []
    if (name !== undefined) fields[name] = [...(fields[name] ?? []), value]
    else if (line.trim() !== '') throw new Error(`Write header fields as Name: value; this is none: ${line.trim()}`)
  }
  return fields
}

async function explain () {
  say(result, 'Asking')
  try {
    const request = { url: form.elements.url.value.trim(), method: form.elements.method.value, headers: headers() }
    if (form.elements.fetch.checked) request.fetch = true
    const answer = await post('/larder/explain', request)
    draw(answer)
    return answer.verdict
  } catch (error) {
    say(result, error.missing ? 'This Larder has no explain.' : error.message, 'error')
    return null
  }
}

// draw shows an answer {verdict, steps, key, entry}, and whatever else is in it.
function draw ({ verdict, steps = [], key, entry, ...rest }) {
  replace(result,
    element('p', { class: 'verdict' }, verdict),
    element('ol', { class: 'steps' }, steps.map(step => element('li', {},
      element('div', { class: 'question' }, step.question),
      element('div', {}, facts(step.answer), step.clause && [' ', element('cite', {}, step.clause)])))),
    part('Key', key), part('Entry', entry), Object.keys(rest).length > 0 && part('More', rest))
}

function part (title, value) {
  if (value === undefined || value === null || value === '') return null
  return element('details', {}, element('summary', {}, title), facts(value))
}
