package httpcache

import (
	"crypto/sha256"
	"errors"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// An agent that has lost its way asks for the same thing again and again, and so does a scraper
// that keeps no list of what it has. A cache that answers hides that from both ends. So a route may
// count how often each client asks for the same thing, and past a number it tells client and origin
// so, or refuses. repeattable.go counts.
//
// The same thing is what has the same key and the same Range: a player that seeks asks for another
// part each time. What bypasses has no key and is not counted.

// RepeatsField tells how often a client has asked for the same thing: the client in the response,
// the origin in the request. One that a client sends says nothing, and no handler behind the cache
// may see it: an adapter takes it out before [Route.Serve].
const RepeatsField = "Larder-Repeats"

// RepeatRules say when a client repeats itself.
type RepeatRules struct {
	// Count is how often a client may ask for the same thing in Within, up to [MaxRepeats]. 0: as
	// often as it likes, and nothing is counted.
	Count int
	// Within is the time in which requests are counted. It begins with the first of them.
	Within time.Duration
	// By is a text with placeholders that names the client. A request for which it is empty is not
	// counted. "": the host of its remote address.
	By string
	// Refuse has further requests answered with 429 until the time is over.
	Refuse bool
}

// MaxRepeats is the largest RepeatRules.Count. A client that asks yet more often is told the number
// after it.
const MaxRepeats = math.MaxUint16 - 1

// errRepeated is what a client is refused with.
var errRepeated = errors.New("the client has asked for the same thing too often")

// Repeats returns how often the client has asked for the same thing, if that is more often than the
// route lets it, else 0.
func (q *Request) Repeats() int { return int(q.repeats) }

// checkRepeats counts the request. answered is false if its story goes on.
func (q *Request) checkRepeats() (answered bool, err error) {
	rules := &q.route.Repeats
	if rules.Count == 0 {
		return false, nil
	}
	var times uint16
	var left time.Duration
	if client := q.client(); client != "" {
		count := q.cache().repeats.count
		if q.trace.only() {
			count = q.cache().repeats.wouldCount
		}
		times, left = count(q.repeatKey(client), q.now, rules.Within)
	}
	if int(times) > rules.Count {
		q.repeats = times
	}
	switch {
	case q.trace.counted(q, times, left):
		return true, nil
	case q.repeats == 0:
	case rules.Refuse:
		return true, q.refuseRepeat(left)
	case q.observed() == nil:
		q.r.Header[RepeatsField] = []string{q.repeatsText()}
	}
	return false, nil
}

// client names the client, as far as it is known.
func (q *Request) client() string {
	if by := q.route.Repeats.By; by != "" {
		return q.origin.Expand(by)
	}
	host, _, err := net.SplitHostPort(q.r.RemoteAddr)
	if err != nil {
		return q.r.RemoteAddr
	}
	return host
}

// repeatKey stands for what a client asks for.
func (q *Request) repeatKey(client string) store.Key {
	b := keyBuffers.Get().(*keyBytes)
	defer keyBuffers.Put(b)
	b.bytes = append(b.bytes[:0], q.key[:]...)
	b.text(client)
	b.texts(q.r.Header["Range"])
	return sha256.Sum256(b.bytes)
}

func (q *Request) repeatsText() string { return strconv.Itoa(int(q.repeats)) }

// tellRepeats tells the client that it repeats itself. A route that observes changes no answer.
func (q *Request) tellRepeats(h http.Header) {
	if q.repeats > 0 && q.observed() == nil {
		h[RepeatsField] = []string{q.repeatsText()}
	}
}

// refuseRepeat answers a request that comes once too often. After left the client may ask again.
func (q *Request) refuseRepeat(left time.Duration) error {
	d := Decision{Outcome: OutcomeMiss, Detail: DetailRepeats}
	if q.observed() != nil {
		return q.observe(d)
	}
	q.decide(d)
	h := q.w.Header()
	h["Retry-After"] = []string{strconv.Itoa(int(math.Ceil(left.Seconds())))}
	q.sendStatus(h, &rfc9111.CacheStatus{Detail: DetailRepeats.String()})
	return fail(http.StatusTooManyRequests, errRepeated)
}
