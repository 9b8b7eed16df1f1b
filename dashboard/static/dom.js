// Elements from text. Whatever comes from the cache (URLs, tags, header fields) becomes a text node or an attribute, never HTML; the
// Content-Security-Policy's Trusted Types refuse anything else.

import { percent } from './format.js'

// element makes one: attributes by name, listeners by "onclick" and the like, classes by "class", then children, which are elements or
// text. null and false are left out.
export function element (tag, attributes = {}, ...children) {
  const e = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue
    if (name.startsWith('on')) e.addEventListener(name.slice(2), value)
    else e.setAttribute(name, value === true ? '' : String(value))
  }
  append(e, children)
  return e
}

export function replace (parent, ...children) {
  parent.replaceChildren()
  append(parent, children)
}

function append (parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue
    parent.append(child instanceof Node ? child : String(child))
  }
}

export const byId = id => document.getElementById(id)

// table makes a table from columns [{title, class, cell(row)}]. A row's cell returns text or an element; the first is the row's header.
export function table (caption, columns, rows, empty) {
  const body = rows.map(row => element('tr', {}, columns.map((column, i) =>
    element(i === 0 ? 'th' : 'td', { class: column.class, scope: i === 0 ? 'row' : null }, column.cell(row)))))
  if (rows.length === 0) {
    body.push(element('tr', {}, element('td', { class: 'empty', colspan: columns.length }, empty)))
  }
  return element('table', {},
    element('caption', { class: 'hidden' }, caption),
    element('thead', {}, element('tr', {}, columns.map(column =>
      element('th', { class: column.class, scope: 'col' }, column.title)))),
    element('tbody', {}, body))
}

// share shows a share as a bar and as a number.
export function share (of) {
  const filled = element('span')
  filled.style.width = `${Math.min(100, (of || 0) * 100)}%`
  return [element('span', { class: 'share', 'aria-hidden': 'true' }, filled), element('span', { class: 'percent' }, percent(of))]
}

// action is a small button in a row. Its name says which row it belongs to.
export function action (text, of, onclick) {
  return element('button', { type: 'button', class: 'action', 'aria-label': `${text} ${of}`, onclick }, text)
}

// url shows a URL in one line, whole in its title.
export function url (text) {
  return element('span', { class: 'url', title: text }, text)
}

// say shows a sentence in place of what could not be shown.
export function say (parent, sentence, kind = 'hint') {
  replace(parent, element('p', { class: kind }, sentence))
}
