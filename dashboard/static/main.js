// The page: reads the statistics again and again while it is looked at, and has the parts show them.

import { CallError, get, takeToken } from './api.js'
import { byId, element, replace } from './dom.js'
import * as entries from './entries.js'
import * as explain from './explain.js'
import * as figures from './figures.js'
import { fromHistory, Live } from './history.js'
import * as purge from './purge.js'
import * as stores from './stores.js'
import * as top from './top.js'

const statsEvery = 2000
const restEvery = 10000

const live = new Live()
let paused = false
let history = null // the last answer, if this Larder has the call
let restDue = 0 // when the slower calls are due
let timer

const zone = () => byId('zone').value
const step = () => document.querySelector('input[name="step"]:checked').value

const open = {
  explain: url => explain.fill(url),
  purge: url => purge.fill(url, zone())
}

async function refresh () {
  clearTimeout(timer)
  if (paused || document.hidden) return
  try {
    const stats = await get('/larder/stats', { zone: zone() })
    live.add(stats, Date.now() / 1000)
    const due = Date.now() >= restDue
    if (due) {
      restDue = Date.now() + restEvery
      history = await optional('/larder/history', { step: step(), zone: zone() })
    }
    show(stats)
    if (due) await Promise.all([top.update(zone(), open), fleet(stats)])
    tell('', `Updated ${new Date().toLocaleTimeString([], { hourCycle: 'h23' })}`)
  } catch (error) {
    if (!(error instanceof CallError)) throw error
    tell('failed', 'Not updated', error.message)
  } finally {
    clearTimeout(timer)
    timer = setTimeout(refresh, statsEvery)
  }
}

// soon refreshes everything: a choice has changed.
function soon () {
  restDue = 0
  return refresh()
}

// optional returns null where this Larder has no such call.
async function optional (path, query) {
  try {
    return await get(path, query)
  } catch (error) {
    if (error instanceof CallError && error.missing) return null
    throw error
  }
}

async function fleet (stats) {
  stores.updateFleet(stats.shared ? await optional('/larder/fleet') : null)
}

function show (stats) {
  offerZones(Object.keys(stats.zones ?? {}))
  byId('step').hidden = history === null
  figures.update(history === null ? live.figures() : fromHistory(history), stats)
  stores.update(stats)
}

function offerZones (names) {
  const known = [...byId('zone').options].slice(1).map(option => option.value)
  byId('zone-label').hidden = known.length < 2 && names.length < 2
  if (zone() !== '' || names.join() === known.join()) return // a zone's own statistics do not name the others
  replace(byId('zone'), element('option', { value: '' }, 'all'), names.map(name => element('option', { value: name }, name)))
}

function tell (state, text, problem = '') {
  byId('status').className = state
  byId('status').textContent = text
  byId('notice').hidden = problem === ''
  if (byId('notice').textContent !== problem) byId('notice').textContent = problem
}

function setUp () {
  takeToken()
  figures.setUp()
  explain.setUp()
  const list = entries.setUp(zone, open)
  purge.setUp(zone, () => { list(); soon() })
  byId('pause').addEventListener('click', () => {
    paused = !paused
    byId('pause').setAttribute('aria-pressed', String(paused))
    if (paused) tell('paused', 'Paused')
    else soon()
  })
  byId('step').addEventListener('change', soon)
  byId('by').addEventListener('change', () => top.update(zone(), open))
  byId('zone').addEventListener('change', () => { live.clear(); list(); soon() })
  document.addEventListener('visibilitychange', soon)
  refresh()
  list()
  get('/about').then(({ admin }) => { byId('about').textContent = `Caddy's admin API at ${admin}` }, () => {})
}

setUp()
