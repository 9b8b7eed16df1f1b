// Scores a run of http-cache-tests by the suite's own rules, and compares it with what is expected.
//
//   node score.mjs <folder of the suite> <results.json> <expected.json>
//
// Exit status 0: every test came out as expected. 1: not. expected.json holds the tests that are not passed, with the reason for each.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, resultsFile, expectedFile] = process.argv.slice(2)
const load = path => import(pathToFileURL(join(suite, path)))
const { default: index } = await load('tests/index.mjs')
const { default: surrogate } = await load('tests/surrogate-control.mjs')
const { determineTestResult } = await load('lib/display.mjs')

const results = JSON.parse(readFileSync(resultsFile, 'utf8'))
const expected = JSON.parse(readFileSync(expectedFile, 'utf8'))

// The suite names its verdicts by symbols only.
const verdicts = new Map([
  ['✅', 'pass'], ['Y', 'pass'], ['⛔️', 'fail'], ['⚠️', 'fail'], ['N', 'no'],
  ['⚪️', 'dependency'], ['🔹', 'setup'], ['⁉️', 'harness'], ['↻', 'retry'], ['-', 'untested']
])

const groups = [['HTTP caching', index], ['Surrogate-Control', [surrogate]]]
const kinds = ['required', 'optimal', 'check']

function verdict (test) {
  const symbol = determineTestResult([...index, surrogate], test.id, results)[2]
  return verdicts.get(symbol) ?? `unknown verdict ${symbol}`
}

// tally returns {required: {pass: n, fail: n, uncounted: n}, …}. A test whose dependency is not passed says nothing and does not count. Nor
// does one that expected.json does not count: the suite has since turned round what it asks, or no gateway can pass it.
function tally (suites, differences) {
  const counts = Object.fromEntries(kinds.map(kind => [kind, { pass: 0, fail: 0, uncounted: 0 }]))
  for (const test of suites.flatMap(s => s.tests).filter(test => !test.browser_only)) {
    const got = verdict(test)
    const uncounted = got === 'dependency' || expected[test.id]?.counted === false
    const column = uncounted ? 'uncounted' : got === 'pass' ? 'pass' : 'fail'
    counts[test.kind ?? 'required'][column]++
    const want = expected[test.id]?.result ?? 'pass'
    if (got !== want) differences.push(`${test.id}: ${got}, expected ${want}${detail(test.id)}`)
    seen.add(test.id)
  }
  return counts
}

function detail (id) {
  const result = results[id]
  return Array.isArray(result) ? ` (${result.join(': ')})` : ''
}

function row (name, kind, { pass, fail, uncounted }) {
  const percent = pass + fail > 0 ? `${(100 * pass / (pass + fail)).toFixed(1)} %` : '-'
  return [name.padEnd(18), kind.padEnd(9), ...[pass, fail, uncounted].map(n => String(n).padStart(11)), percent.padStart(8)].join(' ')
}

const seen = new Set()
const differences = []
const total = Object.fromEntries(kinds.map(kind => [kind, { pass: 0, fail: 0, uncounted: 0 }]))
console.log(['tests'.padEnd(18), 'kind'.padEnd(9), ...['passed', 'not passed', 'not counted'].map(s => s.padStart(11)), 'share'.padStart(8)].join(' '))
for (const [name, suites] of groups) {
  const counts = tally(suites, differences)
  for (const kind of kinds) {
    console.log(row(name, kind, counts[kind]))
    for (const column of Object.keys(total[kind])) total[kind][column] += counts[kind][column]
  }
}
for (const kind of kinds) console.log(row('together', kind, total[kind]))

for (const [id, { reason }] of Object.entries(expected)) {
  if (!seen.has(id)) differences.push(`${id}: expected.json names it, the suite does not have it`)
  if (!reason) differences.push(`${id}: expected.json gives no reason`)
}
if (differences.length > 0) {
  console.error(`\n${differences.length} differ from expected.json:`)
  for (const difference of differences) console.error(`  ${difference}`)
  process.exit(1)
}
