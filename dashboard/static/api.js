// The calls of the admin API, through the dashboard's server.

const storageKey = 'larder-dashboard-token'

// takeToken moves the token from the address bar to this tab's storage. doc.go of the package says why it is no cookie.
export function takeToken () {
  const token = /^#token=([0-9a-f]+)$/.exec(location.hash)
  if (token === null) return
  sessionStorage.setItem(storageKey, token[1])
  history.replaceState(null, '', location.pathname)
}

// The URL of another run, pasted over the one of a run that has ended, is no navigation.
addEventListener('hashchange', () => {
  if (location.hash.startsWith('#token=')) location.reload()
})

// CallError is an answer that is no success. Its message is the sentence of the answer.
export class CallError extends Error {
  constructor (status, sentence) {
    super(sentence)
    this.status = status
  }

  // missing: this Caddy has a Larder without this call.
  get missing () { return this.status === 404 || this.status === 501 }
}

export const get = (path, query = {}) => call('GET', path + encode(query))

export const post = (path, body) => call('POST', path, body)

function encode (query) {
  const set = Object.entries(query).filter(([, value]) => value !== '' && value !== null && value !== undefined)
  return set.length === 0 ? '' : '?' + new URLSearchParams(set)
}

async function call (method, path, body) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(storageKey) ?? ''}` }
  if (body !== undefined) headers['Content-Type'] = 'application/json'
  let response
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store' })
  } catch {
    throw new CallError(0, 'The dashboard has ended; start caddy larder dashboard again, and open the URL that it prints.')
  }
  let answer
  try {
    answer = await response.json()
  } catch {
    throw new CallError(response.status, 'The admin API gave an answer that is no JSON; see whether Caddy runs at its address.')
  }
  if (!response.ok) throw new CallError(response.status, answer.error ?? `The admin API answered ${response.status}.`)
  return answer
}
