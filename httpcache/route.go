package httpcache

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/batch"
	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Rules are the configuration of a [Route]. The zero value is RFC 9111 for a shared cache: nothing
// is stored that the origin has not given a lifetime. See defaults.go for what a zero field means.
type Rules struct {
	// Policy says what may be stored and reused. A zero Policy says what the RFC says.
	Policy rfc9111.Policy
	// Key says what a key is made of beside method, scheme, host and URL.
	Key KeyRules
	// Tags says where surrogate keys come from.
	Tags TagRules
	// Methods are those that go through the cache, in upper case. Others bypass it. nil: GET and
	// HEAD, see [DefaultMethods].
	Methods []string
	// MaxBody is the largest body that is stored, in bytes. 0: [DefaultMaxBody]. The store may have
	// a smaller limit, see [store.Store.LargestBody].
	MaxBody int64
	// MaxVariants is the largest number of variants of one key.
	MaxVariants int
	// Wait is how long a request waits for another's fetch to have a header, before it asks the
	// origin for itself. 0: [DefaultWait].
	Wait time.Duration
	// RefreshEarly is how eagerly hits have a response fetched anew before its lifetime ends, the
	// beta of rfc9111.EarlyRefresh. 0: never.
	RefreshEarly float64
	// Slice is how large the slices are, in bytes, in which a body is fetched and stored whose
	// request asks for a part of it, see object.go. 0: a part of what is not stored fetches the
	// whole.
	Slice int64
	// CoalesceOff makes each request fetch for itself.
	CoalesceOff bool
	// Status is how much Cache-Status tells. The zero value is [StatusShort].
	Status StatusMode
	// RemoteOff keeps the responses of the route from other machines, and theirs from it.
	RemoteOff bool
	// Observe has every request answered by the origin, as without a cache. What would have been
	// the answer is decided, stored, counted and compared all the same.
	Observe bool
	// Repeats says when clients repeat themselves, and what becomes of it.
	Repeats RepeatRules
	// Batches say which misses become one request to the origin, see batch.go.
	Batches []*batch.Rule
	// Invalidate says what unsafe requests invalidate besides their own URL.
	Invalidate []InvalidateRule
	// Behind tells what handlers behind the cache write. nil: what proxies write.
	Behind Behind
	// Budget is what the origin can take, and how it fares. Routes may share one. nil: one of the
	// route's own, without limits.
	Budget *origin.Budget
	// Server returns the name of the server that the route belongs to, as [Listener] has it. It is
	// not called before the first request. nil: the empty name.
	Server func() string
	// Logger is for messages to the operator of the route. nil: slog's default.
	Logger *slog.Logger
}

// TagRules say where the surrogate keys of a response come from.
type TagRules struct {
	// From are the canonical names (http.CanonicalHeaderKey) of the response fields that carry
	// them. nil: [rfc9111.DefaultTagFields].
	From []string
	// Add are texts with placeholders that every response gets.
	Add []string
	// KeepHeaders keeps these fields in what clients get.
	KeepHeaders bool
	// Keep are those that are kept all the same, for another cache in front that takes them out.
	Keep []string
}

// strips reports whether clients do not get a field.
func (t *TagRules) strips(name string) bool {
	return !t.KeepHeaders && slices.Contains(t.From, name) && !slices.Contains(t.Keep, name)
}

// StatusMode is how much Cache-Status tells.
type StatusMode uint8

// The modes.
const (
	// StatusShort tells the outcome, without key and reason.
	StatusShort StatusMode = iota
	// StatusFull tells everything.
	StatusFull
	// StatusOff adds no member of the cache's own.
	StatusOff
)

// Route answers requests from a [Cache] under its own rules. Of the server that uses it, it holds
// only what the rules name.
type Route struct {
	Rules
	cache    *Cache
	siblings *Siblings
	serial   uint64   // unique in the process
	decisive []string // fields kept with a response wherever they come from
	batches  *batch.Windows[store.Key, *batchMember]

	// fingerprint is a hash of everything that decides about storing. What is remembered of answers
	// under other rules does not count.
	fingerprint store.Key

	// cookiesApart says that the policy treats requests with a cookie outside of the key apart, so
	// these share flights among themselves only.
	cookiesApart bool
}

// serials counts the routes that have been made.
var serials atomic.Uint64

// NewRoute returns a route and adds it to siblings, the routes of the same configuration. nil: it
// has none.
func (c *Cache) NewRoute(rules Rules, siblings *Siblings) *Route {
	if siblings == nil {
		siblings = new(Siblings)
	}
	rules = rules.withDefaults()
	rt := &Route{
		Rules: rules, cache: c, siblings: siblings, serial: serials.Add(1),
		decisive:     slices.Concat(decisive, rules.Policy.Targeted, rules.Tags.From),
		fingerprint:  fingerprint(&rules, c.store.Settings()),
		cookiesApart: assumesLifetimes(&rules.Policy), batches: new(batch.Windows[store.Key, *batchMember]),
	}
	siblings.add(rt)
	if !rt.Key.Query.None() {
		c.store.AddLabel(rt.Key.Query.label())
	}
	return rt
}

// KeepingTags returns the same route for requests that have come through another cache in front. It
// keeps the named fields, which that one takes out.
func (rt *Route) KeepingTags(names []string) *Route {
	keeping := *rt
	keeping.Tags.Keep, keeping.serial = names, serials.Add(1)
	return &keeping
}

// largestBody is the length past which a body is not stored: the configured one, or the largest
// that the store has room for.
func (rt *Route) largestBody() int64 { return min(rt.MaxBody, rt.cache.store.LargestBody()) }

// Siblings are the routes of one configuration. Each has query rules of its own, so one URL may be
// stored under several.
type Siblings struct {
	mu      sync.Mutex
	routes  []*Route
	servers store.Servers // of the first named routes
	named   int           // how many of routes have been asked for their server

	distinct       []*KeyRules // rulesAnd, of the first so many routes and these
	distinctRoutes int
	distinctPast   []*KeyRules
}

func (s *Siblings) add(rt *Route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routes = append(s.routes, rt)
}

// Rules returns the key rules of every route.
func (s *Siblings) Rules() []*KeyRules {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rules()
}

func (s *Siblings) rules() []*KeyRules {
	rules := make([]*KeyRules, len(s.routes))
	for i, rt := range s.routes {
		rules[i] = &rt.Key
	}
	return rules
}

// rulesAnd returns the DistinctRules of every route and of past, which is what PastRules returns.
func (s *Siblings) rulesAnd(past []*KeyRules) []*KeyRules {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := len(past) == len(s.distinctPast) && (len(past) == 0 || &past[0] == &s.distinctPast[0])
	if !same || s.distinctRoutes != len(s.routes) {
		s.distinct = DistinctRules(append(s.rules(), past...))
		s.distinctPast, s.distinctRoutes = past, len(s.routes)
	}
	return s.distinct
}

// Servers are the servers of the configuration.
func (s *Siblings) Servers() store.Servers {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.named == len(s.routes) {
		return s.servers
	}
	var names []string
	for _, rt := range s.routes {
		name := ""
		if rt.Server != nil {
			name = rt.Server()
		}
		names = append(names, name)
	}
	s.servers, s.named = store.ServersOf(names), len(s.routes)
	return s.servers
}
