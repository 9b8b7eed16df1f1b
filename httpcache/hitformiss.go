package httpcache

import (
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Requests wait for each other because one answer may do for all of them. Where the last answer was
// for one client only, waiting costs latency. Of a long poll it costs the messages that come while
// the client waits for another's. So such an answer is remembered (Varnish: hit-for-miss; pingora:
// cacheability predictor):
//
//	last answer            requests for the key
//	───────────            ────────────────────
//	shareable, or none     wait for one fetch
//	not shareable, lately  wait for none. Each answer that is passed on renews the memory if it may
//	                       not be shared either; the first that may be ends it
//	not shareable, once    wait for one fetch, but not for a header that comes late. A request that
//	                       gives up waiting renews the memory
//
// It is remembered for each kind of request separately, see hitForMissKey: an answer that was made
// for one client says nothing about the response that all others share. Where another request has
// had an answer that can be shared, lately, a field of the client may be why its own is a refusal
// (401, 403), a 101 that was not asked for, or none at all. That is remembered for requests with
// the same fields alone.

// sharing says whether a request should wait for another's fetch.
type sharing uint8

const (
	sharingOpen       sharing = iota // no reason against it is known
	sharingDoubtful                  // the last answer was not shareable, but that is a while ago
	sharingHitForMiss                // the last answer was not shareable
)

const (
	// hitForMissTTL is how long the last answer counts. It has to be longer than a long poll is
	// usually open (30 to 60 s), because the answers of long polls are what renews it. It is
	// Varnish's default.
	hitForMissTTL = 2 * time.Minute
	// hitForMissKeep is how long a doubt lasts after the last answer. It may last up to twice as
	// long.
	hitForMissKeep = 10 * time.Minute
	// lateHeader is how long a request with a doubt waits for the header of another's fetch.
	lateHeader = time.Second
)

func newHitForMiss() *recentKeys { return newRecentKeys(maxRecentKeys, hitForMissKeep, time.Second) }

// newShareable remembers for as long as the last answer counts that one could be shared.
func newShareable() *recentKeys { return newRecentKeys(maxRecentKeys, hitForMissTTL, time.Second) }

// refreshPause is the shortest time between a background refresh that failed and the next one by a
// request with the same fields. While the origin is down, each request for a stale response would
// otherwise start one as soon as the last has failed. An overloaded origin fails fast, so these
// would add to its load.
const refreshPause = time.Second

// refreshTurn is that for requests with other fields. How a request was made may be why its refresh
// failed, as when a field is too long for the origin. So one client's must not keep what is stale
// from being refreshed by the others, for as long as it comes first after each pause.
const refreshTurn = refreshPause / 16

func newRefreshBackoff() *recentKeys { return newRecentKeys(maxRecentKeys, refreshPause, 0) }

// sharing returns what the last answer to a request of this kind says.
func (q *Request) sharing() sharing { return q.sharingOf(q.flightKey()) }

// sharingOf is sharing for a request that has made the key of its flight.
func (q *Request) sharingOf(flight store.Key) sharing {
	key := q.hitForMissKeyOf(flight)
	s := q.cache().sharingOf(key, q.now)
	if s != sharingHitForMiss && q.cache().knowsFields(key, q.now) {
		s = max(s, q.cache().sharingOf(withFields(key, q.fieldsSum()), q.now))
	}
	return s
}

// sharingOf returns what is remembered under a key.
func (c *Cache) sharingOf(key store.Key, now time.Time) sharing {
	switch age, known := c.hitForMiss.age(key, now); {
	case !known:
		return sharingOpen
	case age < hitForMissTTL:
		return sharingHitForMiss
	}
	return sharingDoubtful
}

// doubtKey is where it is remembered that an answer to the request could not be shared: of all of
// its kind, or else of those with its fields.
func (q *Request) doubtKey() store.Key {
	key := q.hitForMissKey()
	if q.cache().sharingOf(key, q.now) == sharingOpen {
		return withFields(key, q.fieldsSum())
	}
	return key
}

// byRules is a key of what is shared only by requests that are judged by the same rules. Who joins
// the flight of a slice takes it as it is, and does not judge what the leader's rules have let in.
func (rt *Route) byRules(key store.Key) store.Key {
	subtle.XORBytes(key[:], key[:], rt.fingerprint[:])
	return key
}

// hitForMissKey is the key under which an answer to this request is remembered. Requests have the
// same key if they can share a flight, are judged by the same rules, and are of the same kind. A
// reload that changes the rules starts afresh. Keys are SHA-256, so mixing in the rest by XOR does
// not make the key of another request.
func (q *Request) hitForMissKey() store.Key { return q.hitForMissKeyOf(q.flightKey()) }

func (q *Request) hitForMissKeyOf(key store.Key) store.Key {
	key = q.route.byRules(key)
	key[0] ^= q.kind()
	return key
}

// leaseBase is the key by which fetches of several machines wait for each other, before the names
// of Vary. A machine's rules are not part of it: they depend on its memory, too.
func (q *Request) leaseBase() store.Key {
	key := q.flightKeyFor(nil)
	key[0] ^= q.kind()
	return key
}

// kind tells, as bits, why an answer to this request may be for its client alone. Authorization is
// in flightKey.
func (q *Request) kind() (bits byte) {
	if q.unkeyedCookie {
		bits |= 1
	}
	if d := &q.directives; d.NoCache || d.HasMaxAge || d.HasMinFresh {
		bits |= 2
	}
	if q.wantsEvents() {
		bits |= 4
	}
	return bits
}

// wantsEvents is wantsEvents of the request as it came. A hit need not know, and what reaches the
// origin asks several times.
func (q *Request) wantsEvents() bool {
	if !q.fields.has(acceptRead) {
		if q.fields |= acceptRead; wantsEvents(q.r.Header) {
			q.fields |= acceptsEvents
		}
	}
	return q.fields.has(acceptsEvents)
}

// wantsEvents reports whether a request names text/event-stream. EventSource does so by GET. Then
// the answer has no end, and each client has its own. Agents do so by POST, beside
// application/json: the answer is to what the body asks for, and ends with it.
func wantsEvents(h http.Header) bool {
	for _, line := range h["Accept"] {
		for element := range strings.SplitSeq(line, ",") {
			mediaType, _, _ := strings.Cut(element, ";")
			if rfc9111.EqualFold(rfc9111.TrimOWS(mediaType), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// updateHitForMiss remembers whether an answer with status, judged as f says, could be shared. It
// came to a request with the fields that sum is of, which is 0 if it is not known.
func (c *Cache) updateHitForMiss(key store.Key, sum func() uint64, status int, f *rfc9111.Freshness) {
	switch {
	case f.Reason == rfc9111.Storable, f.UsableByFollowers():
		c.hitForMiss.forget(key)
		if c.knowsFields(key, f.ResponseTime) {
			c.hitForMiss.forget(withFields(key, sum()))
		}
		c.shareable.note(key, f.ResponseTime)
	case !remembered(status, f):
	case c.ofFieldsAlone(key, status, f.ResponseTime):
		if fields := sum(); fields != 0 {
			c.hitForMiss.note(ofFields(key), f.ResponseTime)
			c.hitForMiss.note(withFields(key, fields), f.ResponseTime)
		}
	default:
		c.hitForMiss.note(key, f.ResponseTime)
	}
}

// knowsFields reports whether something is remembered for some requests for a key by their fields.
func (c *Cache) knowsFields(key store.Key, now time.Time) bool {
	_, some := c.hitForMiss.age(ofFields(key), now)
	return some
}

// updateHitForMiss does so for the answer of a fetch, unless it answers other words than a fetch's.
func (x *Fetch) updateHitForMiss(status int, f *rfc9111.Freshness) {
	if x.flags&flagObserved == 0 {
		x.cache.updateHitForMiss(x.hitForMissKey, x.fieldsSum, status, f)
	}
}

// ofFieldsAlone reports whether an answer with this status, which cannot be shared, says something
// of requests with the same fields alone.
func (c *Cache) ofFieldsAlone(key store.Key, status int, at time.Time) bool {
	return causedByFields(status) && c.shareable.lately(key, at)
}

// causedByFields reports whether the fields of a request may be why its answer has this status: it
// is not to have what others may get, or its client has brought about what is no answer. Any other
// answer that cannot be shared may supersede what is stored, for all.
func causedByFields(status int) bool {
	switch status {
	case statusUnwritten, http.StatusSwitchingProtocols,
		http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusUnavailableForLegalReasons:
		return true
	}
	return false
}

// remembered reports whether an answer that could not be shared says the same of the next one.
func remembered(status int, f *rfc9111.Freshness) bool {
	return f.Reason != rfc9111.ReasonRequestNoStore && f.Reason != rfc9111.ReasonPartial && !aboutTheRequest(status)
}

// aboutTheRequest reports whether a status answers the way in which a request was made, or says
// that the origin failed. Any client can bring such an answer about with an odd field, so it says
// nothing about the next answer.
func aboutTheRequest(status int) bool {
	if causedByFields(status) || status == http.StatusNotFound || status == http.StatusGone {
		return false
	}
	return status >= http.StatusBadRequest
}
