package caddyfile

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The words of set_cookie: what becomes of a response that carries Set-Cookie.
const (
	setCookieRefuse = "refuse" // it is not stored
	setCookieStrip  = "strip"  // it is stored without its cookies
	setCookieStore  = "store"  // it is stored as it is, cookies included
)

// The words of client_directives: what a request's Cache-Control and Pragma do.
const (
	clientDirectivesObey   = "obey"   // what RFC 9111 says
	clientDirectivesIgnore = "ignore" // nothing
)

// The words of status: how much Cache-Status tells the client.
const (
	statusShort = "short" // outcome only
	statusFull  = "full"  // outcome, key and the reason why a response was not stored
	statusOff   = "off"   // the field is not sent
)

// HandlerConfig is what one larder directive says. Its zero value is a working configuration: RFC
// 9111 for a shared cache, nothing stored that the origin did not allow. WithDefaults fills in what
// was left out, Check says what cannot be meant.
type HandlerConfig struct {
	// How long a response is fresh that states no lifetime of its own, by Cache-Control or Expires.
	// A rule without statuses speaks of 200, 203, 300, 301 and 308. Default: none, such responses
	// are not stored. No rule applies to a request with Authorization or a Cookie that is not in
	// the key, to a POST without `safe_post`, or to text/event-stream.
	TTL TTLRules `json:"ttl,omitempty"`

	// Like `ttl`, but in place of what the origin says of freshness (max-age, s-maxage, Expires,
	// no-cache, must-revalidate). no-store, private, Set-Cookie, `Vary: *` and Authorization stand.
	// Default: none.
	ForceTTL TTLRules `json:"force_ttl,omitempty"`

	// The longest lifetime any response gets, whatever asks for more. It holds for what is already
	// stored as well. Default: no cap.
	MaxTTL caddy.Duration `json:"max_ttl,omitempty"`

	// Response headers to overlook when it is decided whether and how long to store: any of
	// Cache-Control, Expires, Set-Cookie, Vary and Pragma. Meant for upstreams one does not own; a
	// response made for one visitor can then reach another. A response whose Set-Cookie is
	// overlooked is stored without it. Default: none.
	Ignore []string `json:"ignore,omitempty"`

	// What Cache-Control and Pragma of a request do: `obey` follows RFC 9111, `ignore` leaves them
	// without effect, so that a reload button cannot reach a slow or paid upstream. Default:
	// `obey`.
	ClientDirectives string `json:"client_directives,omitempty"`

	// Whether a response with Last-Modified and no stated lifetime gets one of a tenth of its age,
	// at most 24 hours (RFC 9111, section 4.2.2). Default: false.
	Heuristic bool `json:"heuristic,omitempty"`

	// Whether a response is refused whose Content-Type does not fit the file extension at the end
	// of its path (HTML under /account/x.css): a guard against web cache deception, for origins
	// that call public what looks like a file. Pages such as /wiki/Node.js are then not stored
	// either. Default: false.
	DeceptionGuard bool `json:"deception_guard,omitempty"`

	// How long past its lifetime a response may be served while it is renewed in the background,
	// where the response does not say so itself (RFC 5861). Default: 0, not at all.
	StaleWhileRevalidate caddy.Duration `json:"stale_while_revalidate,omitempty"`

	// How long past its lifetime, and for which statuses, a response may be served because the
	// origin fails, where the response does not say so itself (RFC 5861). A plain duration is read
	// too. Default: not at all.
	StaleIfError *StaleIfError `json:"stale_if_error,omitempty"`

	// How long past its lifetime and its stale windows a response stays stored: for validation, for
	// a client's max-stale, for a `stale_if_error` that is switched on later. What is only kept
	// goes before others when room is needed. "unlimited" is for ever, 0 keeps nothing. Default:
	// 1h.
	Keep *Span `json:"keep,omitempty"`

	// How eagerly a response is renewed in the background before its lifetime ends: at random, the
	// earlier the longer its fetches take and the more requests there are (XFetch), never in the
	// first half of its lifetime. 1 is the paper's; more renews earlier, at most 10. Default: 0,
	// not at all.
	RefreshEarly float64 `json:"refresh_early,omitempty"`

	// How large the slices are, in bytes, in which a large file is fetched and stored that is asked
	// for by Range: only those that the ranges touch are fetched. At least 64 KiB; 0 is off, and a
	// Range of what is not stored then fetches the whole. Default: 4 MiB.
	Slice *Size `json:"slice,omitempty"`

	// What makes two requests the same, besides method, scheme, authority, port, path and query.
	// Default: nothing else.
	Key *KeyConfig `json:"key,omitempty"`

	// The request methods that are answered from the cache: GET, which cannot be left out, HEAD,
	// QUERY, and POST, which needs `body`, `json` or `graphql` in the key. All others pass through.
	// Default: GET and HEAD.
	Methods []string `json:"methods,omitempty"`

	// The operator's word that the POSTs which come here change nothing (searches, reports). `ttl`,
	// `force_ttl`, `heuristic` and the stale windows then hold for them as for GET, and they
	// invalidate nothing. Without it a POST is answered from the cache only by a lifetime that its
	// origin states (RFC 9110, section 9.3.3). Default: false.
	SafePost bool `json:"safe_post,omitempty"`

	// Where the tags (surrogate keys) of a response come from. Default: the fields Surrogate-Key,
	// Cache-Tag and xkey of the response.
	Tags *TagsConfig `json:"tags,omitempty"`

	// What a successful unsafe request (POST, PUT, …; answered 2xx or 3xx) invalidates, besides its
	// own URL. Every rule that matches applies. Default: nothing else.
	Invalidate []InvalidateRule `json:"invalidate,omitempty"`

	// What becomes of a response with Set-Cookie: `refuse` does not store it, `strip` stores it
	// without its cookies, `store` stores it with them, so that every visitor gets the cookie of
	// the first. Default: `refuse`.
	SetCookie string `json:"set_cookie,omitempty"`

	// The largest body that is stored, in bytes. A larger one is passed on. It can lower the limit
	// of the app, not raise it. Default: the app's.
	MaxBody Size `json:"max_body,omitempty"`

	// How many variants (responses chosen by Vary) one URL may have. What has not been asked for
	// again since it was stored makes room first, then the least recently used one. Default: 32.
	MaxVariants int `json:"max_variants,omitempty"`

	// How concurrent requests for the same missing response wait for each other. Default: they
	// share one fetch and wait up to 10s for its header.
	Coalesce *CoalesceConfig `json:"coalesce,omitempty"`

	// The targeted response fields (RFC 9213) to obey in place of Cache-Control, most important
	// first; the first valid one wins. Default: Larder-Cache-Control, then CDN-Cache-Control.
	Targeted []string `json:"targeted,omitempty"`

	// What the Cache-Status header (RFC 9211) tells the client: `short` the outcome, `full` the key
	// and the reason why a response was not stored as well, `off` nothing. Default: `short`.
	Status string `json:"status,omitempty"`

	// What the origin behind the handler can take. Default: it is not limited, and an origin that
	// fails is left alone for a moment by refreshes, and by requests that have a stale response.
	Origin *OriginConfig `json:"origin,omitempty"`

	// Whether every request is answered by the origin, as without Larder, while Larder decides,
	// stores, counts and compares what it would have answered: to see what a cache would do before
	// it does. Default: false.
	Observe bool `json:"observe,omitempty"`

	// When a client repeats itself, and what becomes of it. Default: nothing is counted.
	Repeats *RepeatsConfig `json:"repeats,omitempty"`

	// Which concurrent misses become one request for many items. The first whose path fits counts.
	// Default: none, each is asked for alone.
	Batch []BatchConfig `json:"batch,omitempty"`

	// Who may purge by PURGE at the site. Default: PURGE is not answered here, and passes.
	PurgeMethod *PurgeMethodConfig `json:"purge_method,omitempty"`

	// The zone whose store the responses go to; the app names it. Default: `default`, the store
	// that the app itself describes.
	Zone string `json:"zone,omitempty"`

	// Whether responses are shared with other machines, where the app has a fleet. Purges reach
	// them all the same. Default: true.
	Shared *bool `json:"shared,omitempty"`
}

// KeyConfig says what the cache key holds besides the request's own address. Every part added makes
// hits rarer; a part that changes the response and is missing gives one visitor the response of
// another.
type KeyConfig struct {
	// What of the query string counts. Default: all of it, as it was sent.
	Query *QueryConfig `json:"query,omitempty"`

	// Request headers whose values become part of the key. Default: none.
	Header []string `json:"header,omitempty"`

	// Cookies whose values become part of the key. Default: none.
	Cookie []string `json:"cookie,omitempty"`

	// Texts, with placeholders, that become part of the key once expanded. Default: none.
	Add []string `json:"add,omitempty"`

	// Whether the body of a POST is part of the key; that of a QUERY always is. A body over 64 KiB
	// bypasses the cache. Default: false.
	Body bool `json:"body,omitempty"`

	// Whether the body of a POST or QUERY is part of the key as canonical JSON (RFC 8785): white
	// space, the order of members and how strings are escaped do not count. Numbers count as they
	// are written. What is no JSON, or JSON that readers take for different things (a name that
	// stands twice), counts as it is. It excludes `body` and `graphql`. Default: false.
	JSON bool `json:"json,omitempty"`

	// Whether the request is part of the key as one of GraphQL: the document without white space,
	// commas and comments, the operation's name, the variables. Only queries are cached, also those
	// of POST by `ttl`, and each is tagged `graphql-OPERATION`; mutations, subscriptions and what
	// cannot be read bypass. It excludes `body` and `json`. Default: false.
	GraphQL bool `json:"graphql,omitempty"`
}

// QueryConfig says which query parameters count, in the key and in the fetch that fills it. In a
// pattern `*` stands for any run of characters, so `utm_*` covers utm_source and utm_medium.
type QueryConfig struct {
	// Whether parameters are sorted by name, so that `?b=2&a=1` equals `?a=1&b=2`. Parameters of
	// the same name keep their order. Default: false.
	Sort bool `json:"sort,omitempty"`

	// Patterns of parameters to leave out. It cannot be combined with `only`. Default: none.
	Ignore []string `json:"ignore,omitempty"`

	// Patterns of the only parameters to keep. It cannot be combined with `ignore`. Default: all
	// parameters are kept.
	Only []string `json:"only,omitempty"`
}

// TagsConfig says which tags (surrogate keys) a stored response gets. A tag is 1 to 256 bytes of
// visible ASCII and is compared exactly.
type TagsConfig struct {
	// Response headers that carry tags. Surrogate-Key and xkey are split at white space, Cache-Tag
	// at commas, others at both. Default: Surrogate-Key, Cache-Tag and xkey.
	From []string `json:"from,omitempty"`

	// Tags that every stored response gets. Placeholders are expanded. Default: none.
	Add []string `json:"add,omitempty"`

	// Whether the headers that carry tags are sent to clients as well. Default: false, they are
	// removed.
	KeepHeaders bool `json:"keep_headers,omitempty"`
}

// InvalidateRule says what a successful unsafe request invalidates. A rule names at least one tag
// or URL.
type InvalidateRule struct {
	// The requests this rule speaks of; a request that matches any of the sets is meant. It is
	// evaluated before the inner handlers, which may rewrite the URL. Default: every unsafe
	// request.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// Tags to invalidate. Placeholders are expanded after the inner handlers.
	Tags []string `json:"tags,omitempty"`

	// Paths to invalidate on the authority and listener of the request, each with all its variants.
	// Placeholders are expanded after the inner handlers; they may also give absolute URLs of that
	// authority.
	URLs []string `json:"urls,omitempty"`

	// Whether what matches is marked stale instead of removed. Default: false.
	Soft bool `json:"soft,omitempty"`
}

// CoalesceConfig says how concurrent requests for one missing response wait for each other. Off and
// Wait exclude each other.
type CoalesceConfig struct {
	// Whether every request fetches for itself. Default: false.
	Off bool `json:"off,omitempty"`

	// The longest a request waits for the response header of another's fetch before it fetches for
	// itself. Default: 10s.
	Wait caddy.Duration `json:"wait,omitempty"`
}
