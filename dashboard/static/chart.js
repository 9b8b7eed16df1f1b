// A chart over time: uPlot draws it; its legend, text and keyboard are here.

import uPlot from './vendor/uPlot.esm.js'
import { element, replace } from './dom.js'

const height = 190
const increments = { binary: Array.from({ length: 60 }, (_, i) => 2 ** i) }
const dark = matchMedia('(prefers-color-scheme: dark)')
const charts = new Set()
dark.addEventListener('change', () => charts.forEach(chart => chart.rebuild()))
const resized = new ResizeObserver(changes => {
  for (const { target, contentRect } of changes) target.chart.resize(contentRect.width)
})

const color = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()

// Chart is a figure. series is [{name, label, color}], by the names of what update gets, and the colours are those of the style sheet.
// A stacked chart piles them up, the first one at the bottom. show makes a value readable. scale is decimal, binary for bytes, or logarithmic.
export class Chart {
  constructor ({ title, series, show, stacked = false, scale = 'decimal' }) {
    Object.assign(this, { title, series, show, stacked, scale })
    this.drawn = stacked ? series.toReversed() : series // uPlot draws the later ones over the earlier
    this.raw = null
    this.legend = element('ul', { class: 'legend' })
    this.canvas = element('div', { class: 'plot', role: 'img', tabindex: '0', 'aria-label': title, onkeydown: event => this.onKey(event) })
    this.canvas.chart = this
    this.time = element('span', { class: 'when' })
    this.spoken = element('output', { class: 'hidden' })
    this.figure = element('figure', { class: 'panel' },
      element('figcaption', {}, element('h3', {}, title), this.time), this.canvas, this.legend, this.spoken)
    charts.add(this)
    resized.observe(this.canvas)
  }

  // update draws {times, series}: seconds since 1970, and for each name as many values, null where nothing is known.
  update ({ times, series }) {
    this.raw = { times, series: this.series.map(({ name }) => series[name] ?? times.map(() => null)) }
    if (this.plot === undefined) this.build()
    else this.plot.setData(this.data())
    this.showAt(null)
  }

  data () {
    const { times, series } = this.raw
    if (!this.stacked) return [times, ...series]
    const sum = times.map(() => 0)
    return [times, ...series.map(values => values.map((value, i) => value === null ? null : (sum[i] += value))).reverse()]
  }

  build () {
    this.plot = new uPlot({
      width: Math.max(this.canvas.clientWidth, 200),
      height,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      padding: [8, 24, 0, 0],
      scales: { y: this.scale === 'logarithmic' ? { distr: 3, log: 10 } : { range: (u, least, most) => [0, most > 0 ? most * 1.08 : 1] } },
      axes: [this.axis({ values: (u, splits, _, __, step) => splits.map(at => clock(at, step)), space: 70, size: 30 }), this.axis({
        values: (u, splits) => splits.map(value => value === null ? null : this.show(value)),
        size: 72,
        incrs: increments[this.scale],
        ...(this.scale === 'logarithmic' && { filter: decades, grid: { filter: decades, stroke: color('line'), width: 1 } })
      })],
      series: [{}, ...this.drawn.map(({ color: name, dash }) => ({
        stroke: color(name), width: this.stacked ? 1 : 1.75, fill: this.stacked ? color(name) : undefined, dash, points: { show: false }
      }))],
      hooks: { setCursor: [u => this.showAt(u.cursor.idx ?? null)] }
    }, this.data(), this.canvas)
  }

  axis (more) {
    return { stroke: color('muted'), font: '11px system-ui, sans-serif', grid: { stroke: color('line'), width: 1 }, ticks: { show: false }, ...more }
  }

  rebuild () {
    if (this.plot === undefined) return
    this.plot.destroy()
    this.build()
  }

  resize (width) {
    if (this.plot !== undefined && width > 0 && Math.abs(width - this.plot.width) > 0.5) this.plot.setSize({ width, height })
  }

  // showAt has the legend tell the values at an index, the newest that are known without one.
  showAt (index) {
    if (this.raw === null) return
    const { times, series } = this.raw
    const at = index ?? this.newest()
    this.time.textContent = index === null || at < 0 ? '' : new Date(times[at] * 1000).toLocaleString([], { dateStyle: 'short', timeStyle: 'medium' })
    const values = this.series.map((one, i) => [one, at < 0 ? null : series[i][at]])
    const items = values.map(([{ label, color: name }, value]) => element('li', {},
      element('span', { class: `swatch ${name}`, 'aria-hidden': 'true' }), `${label} `, element('b', {}, this.show(value ?? NaN))))
    replace(this.legend, items)
    this.sentence = values.map(([{ label }, value]) => `${label} ${this.show(value ?? NaN)}`).join(', ')
    this.canvas.setAttribute('aria-label', `${this.title}. ${this.sentence}. Arrow keys go through the time.`)
  }

  newest () {
    const { times, series } = this.raw
    return times.findLastIndex((_, i) => series.some(values => values[i] !== null))
  }

  onKey (event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key]
    if (by === undefined || this.plot === undefined || this.raw.times.length === 0) return
    event.preventDefault()
    const last = this.raw.times.length - 1
    const at = Math.min(last, Math.max(0, (this.plot.cursor.idx ?? this.newest()) + by))
    this.plot.setCursor({ left: this.plot.valToPos(this.raw.times[at], 'x'), top: 0 })
    this.spoken.textContent = `${this.time.textContent}: ${this.sentence}`
  }
}

const decades = (u, splits) => splits.map(value => Number.isInteger(Math.round(Math.log10(value) * 1e6) / 1e6) ? value : null)

function clock (at, step) {
  const date = new Date(at * 1000)
  if (step >= 86400) return date.toLocaleDateString([], { day: 'numeric', month: 'short' })
  const seconds = step < 60 ? '2-digit' : undefined
  return date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: seconds, hourCycle: 'h23' })
}

// sparkline is a small line without axes, beside a number that tells the same.
export function sparkline (values) {
  const known = values.filter(value => value !== null)
  const most = Math.max(...known, 0)
  const svg = svgElement('svg', { viewBox: '0 0 100 24', preserveAspectRatio: 'none', class: 'spark', 'aria-hidden': 'true' })
  if (known.length < 2 || most === 0) return svg
  const points = values.map((value, i) => value === null
    ? null
    : `${(i / (values.length - 1) * 100).toFixed(1)},${(23 - value / most * 22).toFixed(1)}`).filter(point => point !== null)
  svg.append(svgElement('polyline', { points: points.join(' '), 'vector-effect': 'non-scaling-stroke' }))
  return svg
}

function svgElement (tag, attributes) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag)
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value)
  return e
}
