// Numbers as people read them.

const plain = new Intl.NumberFormat('en')
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 })

export const none = '–'

const known = n => Number.isFinite(n)

export const count = n => known(n) ? plain.format(n) : none

export const compact = n => !known(n) ? none : n < 10000 ? plain.format(Math.round(n)) : short.format(n)

export function perSecond (n) {
  if (!known(n)) return none
  return n === 0 ? '0/s' : n < 0.1 ? '<0.1/s' : n < 100 ? `${significant(n)}/s` : `${compact(n)}/s`
}

const significant = n => Number(n.toPrecision(n < 10 ? 2 : 3)).toString()

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

export function bytes (n) {
  if (!known(n)) return none
  let unit = 0
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024
    unit++
  }
  return `${unit === 0 ? Math.round(n) : significant(n)} ${units[unit]}`
}

// percent never rounds to all or to nothing.
export function percent (share) {
  if (!known(share)) return none
  if (share === 0 || share === 1) return `${share * 100} %`
  return share < 0.001 ? '<0.1 %' : share > 0.999 ? '>99.9 %' : `${(share * 100).toFixed(1)} %`
}

// milliseconds, from tenths of one up to minutes.
export function milliseconds (n) {
  if (!known(n)) return none
  if (n < 1000) return `${n < 0.01 ? '<0.01' : significant(n)} ms`
  return seconds(n / 1000)
}

// seconds as one unit or two: 42 s, 3 min 20 s, 5 h 12 min, 3 d 4 h.
export function seconds (n) {
  if (!known(n)) return none
  const sign = n < 0 ? '−' : ''
  n = Math.abs(n)
  if (n >= 9.95) n = Math.round(n)
  if (n < 60) return `${sign}${significant(n)} s`
  for (const [large, small, ofLarge, ofSmall] of [['min', 's', 60, 1], ['h', 'min', 3600, 60], ['d', 'h', 86400, 3600]]) {
    if (n < ofLarge * (large === 'min' ? 60 : 24) || large === 'd') {
      const rest = Math.floor((n % ofLarge) / ofSmall)
      return `${sign}${Math.floor(n / ofLarge)} ${large}${rest > 0 ? ` ${rest} ${small}` : ''}`
    }
  }
}

export const plural = (n, one, many = one + 's') => `${count(n)} ${n === 1 ? one : many}`

// word makes an identifier readable: not_stored, no-lifetime.
export const word = text => String(text).replaceAll(/[_-]/g, ' ')
