package httpcache

import (
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// What [Rules] mean where they say nothing. Configurations that state defaults take them from here.
const (
	// DefaultMaxBody is the largest body that is stored, in bytes.
	DefaultMaxBody int64 = 64 << 20
	// DefaultSlice is the size of the slices, in bytes, that configurations use where they say
	// nothing. In Rules they are off then.
	DefaultSlice int64 = 4 << 20
	// DefaultMaxVariants is the largest number of variants of one key.
	DefaultMaxVariants = 32
	// DefaultWait is how long a request waits for another's fetch to have a header.
	DefaultWait = 10 * time.Second
)

// DefaultMethods are the methods that go through the cache.
var DefaultMethods = []string{http.MethodGet, http.MethodHead}

// withDefaults returns a copy in which everything that was left out has its default.
func (r Rules) withDefaults() Rules {
	if r.Methods == nil {
		r.Methods = DefaultMethods
	}
	if r.MaxBody == 0 {
		r.MaxBody = DefaultMaxBody
	}
	if r.MaxVariants == 0 {
		r.MaxVariants = DefaultMaxVariants
	}
	if r.Wait == 0 {
		r.Wait = DefaultWait
	}
	if r.Tags.From == nil {
		r.Tags.From = rfc9111.DefaultTagFields
	}
	if r.Policy.Targeted == nil {
		r.Policy.Targeted = rfc9111.DefaultTargeted
	}
	if r.Behind == nil {
		r.Behind = nothingKnown{}
	}
	if r.Key.Body == BodyGraphQL {
		r.Policy.SafePost = true // of POSTs, only those that ask for a query come as far as the policy
	}
	if r.Budget == nil {
		r.Budget = origin.New("", origin.Limits{}, nil)
	}
	if r.Logger == nil {
		r.Logger = slog.Default()
	}
	return r
}

// fingerprint hashes everything that decides whether a response may be stored.
func fingerprint(r *Rules, settings store.Settings) store.Key {
	text, err := json.Marshal(struct {
		Policy   rfc9111.Policy
		MaxBody  int64
		Settings store.Settings
	}{r.Policy, r.MaxBody, settings})
	if err != nil {
		panic(err) // it has nothing but numbers and texts
	}
	return sha256.Sum256(text)
}

// assumesLifetimes reports whether a policy gives lifetimes that the origin has not stated. These
// do not hold for requests with a cookie outside of the key.
func assumesLifetimes(p *rfc9111.Policy) bool {
	return len(p.TTL)+len(p.ForceTTL) > 0 || p.Heuristic
}
