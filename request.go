package larder

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/urlform"
)

var errOnlyIfCached = errors.New("the request says only-if-cached, and nothing stored may answer it")

// maxKeyedBody is the largest request body that is read to become part of a key.
const maxKeyedBody = 64 << 10

// request is one client's request on its way through the story in handler.go. It belongs to the client's goroutine; a fetch
// touches it only while its leader is parked.
type request struct {
	h      *Handler
	w      http.ResponseWriter
	r      *http.Request
	next   caddyhttp.Handler
	repl   *caddy.Replacer
	now    time.Time
	waited time.Duration // from its arrival to now; shorter than another time.Time, which every hit would pay for

	cache *cache

	// Set by readKey.
	directives    rfc9111.RequestDirectives
	keyed         keyed // its body, and what readTarget notes, are there from classify on
	key           store.Key
	authorized    bool // it carries Authorization, and the key lacks it
	unkeyedCookie bool
	purgeable     bool // by classify: it asks for a URL that a purge could name
	hops          int  // how often the request has come by already

	// Set by lookUp.
	found     store.Result
	freshness *rfc9111.Freshness // of found.Entry
	varyNames []string           // what is known of the URL's Vary
	forward   rfc9111.Forward    // why the origin must be asked

	// Set by note.
	outcome   Outcome
	noted     bool
	published bool
	reason    string

	following *following // others' fetches; a pointer because most follow none, and a hit allocates a request

	scratch scratch // of its answer
}

func (h *Handler) newRequest(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) *request {
	return &request{
		h: h, w: w, r: r, next: next,
		repl:  r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer),
		now:   time.Now(),
		cache: h.app.cache,
	}
}

// updateNow sets the time anew for a request that has waited.
func (q *request) updateNow() {
	now := time.Now()
	q.waited += now.Sub(q.now)
	q.now = now
}

// arrivedAt is when the request arrived.
func (q *request) arrivedAt() time.Time { return q.now.Add(-q.waited) }

// classify tells whether the request has anything to do with a cache.
func (q *request) classify() Bypass {
	r := q.r
	if len(r.Header["Upgrade"]) > 0 || len(r.Header["Http2-Settings"]) > 0 {
		ignoreH2C(r.Header)
	}
	q.purgeable = q.readTarget()
	switch {
	case r.Method == http.MethodConnect, isUpgrade(r.Header):
		return BypassUpgrade
	case !q.purgeable:
		return BypassTarget
	case !slices.Contains(q.h.Methods, r.Method):
		return BypassMethod
	case !ordinaryConnection(r.Header):
		return BypassConnection
	case q.h.keying.hasMethodOverride(r.Header):
		return BypassOverride
	}
	if carriesBody(r) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return BypassBody // a "fat GET": the origin may look at what is not in the key (C3)
		}
		if !q.readBody() {
			return BypassBody
		}
	}
	if !q.h.app.open(r.Context()) {
		return BypassStore
	}
	return NotBypassed
}

// readTarget notes which URL the request asks for and where it came in, and reports whether it is
// one that a purge could name. Other request targets reach handlers as they are, and what comes of
// them would outlive every purge of its host: asterisk-form (`GET *`), authority-form (`GET
// host:80`), what has no slash in front (`GET http:one`), another scheme than http and https, a
// Host that is none or that no URL can have (RFC 9112 3.2). Absolute-form is the URL of its
// authority: net/http has put that into Host.
func (q *request) readTarget() bool {
	k, u := &q.keyed, clientURL(q.r)
	k.client, k.scheme, k.listener = u, schemeOf(q.r), q.listener()
	k.dotted = dotted(q.r.Host) && q.h.app.hasOtherHandlers(serverOf(q.r))
	switch {
	case u.Opaque != "":
		return false
	case u.Scheme == "":
		if !strings.HasPrefix(u.Path, "/") {
			return false
		}
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Path != "" && u.Path[0] != '/':
		return false
	}
	authority, err := urlform.Authority(k.scheme, q.r.Host)
	k.authority, k.site = authority, site{k.scheme, authority}
	if h := q.r.Header; len(h["X-Forwarded-Proto"])+len(h["X-Forwarded-Host"]) > 0 && fromTrustedProxy(q.r) {
		k.trusted, k.site = true, k.site.forwarded(h)
	}
	return err == nil
}

// carriesBody reports whether the request has content. Where the header leaves that open (chunked,
// or HTTP/2 and HTTP/3 without a Content-Length), the first byte is asked for: what sends none has
// ended by then, and is no fat GET. Whoever waits to be asked for the body (Expect) has one.
func carriesBody(r *http.Request) bool {
	if r.ContentLength >= 0 || r.Body == nil || r.Body == http.NoBody || len(r.Header["Expect"]) > 0 {
		return r.ContentLength != 0
	}
	var first [1]byte
	n, err := io.ReadFull(r.Body, first[:])
	if n == 0 && errors.Is(err, io.EOF) {
		r.Body, r.ContentLength, r.TransferEncoding = http.NoBody, 0, nil
		return false
	}
	r.Body = &resumed{Reader: io.MultiReader(bytes.NewReader(first[:n]), r.Body), Closer: r.Body}
	return true
}

// resumed is a body of which the beginning has been read already.
type resumed struct {
	io.Reader
	io.Closer
}

// readBody reads the body for the key. It reports false, and leaves the body as it was, when that is
// too large, cannot be read, or has trailers behind it: these are not part of the key, and a fetch
// would lose them.
func (q *request) readBody() bool {
	body, err := io.ReadAll(io.LimitReader(q.r.Body, maxKeyedBody+1))
	if err != nil || len(body) > maxKeyedBody || len(q.r.Trailer) > 0 {
		q.r.Body = &resumed{Reader: io.MultiReader(bytes.NewReader(body), q.r.Body), Closer: q.r.Body}
		return false
	}
	q.keyed.body = body
	q.r.Body = io.NopCloser(bytes.NewReader(body))
	return true
}

// isUpgrade reports whether the request wants another protocol (RFC 9110 7.8).
func isUpgrade(h http.Header) bool { return len(h["Upgrade"]) > 0 }

// ignoreH2C takes the offer to go on in HTTP/2 out of a request, and what Connection says of it.
// Java's HttpClient and `curl --http2` make it with every request in clear text; RFC 9110 7.8 lets
// a server ignore it, and RFC 9113 3.1 has dropped it.
func ignoreH2C(h http.Header) {
	upgrade := without(h["Upgrade"], "h2c")
	gone := []string{"http2-settings"}
	if len(upgrade) == 0 {
		gone = append(gone, "upgrade")
	}
	setOrDelete(h, "Upgrade", upgrade)
	setOrDelete(h, "Connection", without(h["Connection"], gone...))
	delete(h, "Http2-Settings")
}

// without are the members of comma-separated lines but for those that are named, in lower case.
func without(lines []string, names ...string) []string {
	var left []string
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			member = strings.TrimSpace(member)
			if member != "" && !slices.Contains(names, strings.ToLower(member)) {
				left = append(left, member)
			}
		}
	}
	return left
}

func setOrDelete(h http.Header, name string, members []string) {
	if len(members) == 0 {
		delete(h, name)
		return
	}
	h[name] = []string{strings.Join(members, ", ")}
}

// ordinaryConnection reports whether Connection names nothing but the connection's own business. Anything else would have a proxy drop
// fields that the key, or the rule for Authorization, has already counted (C10).
func ordinaryConnection(h http.Header) bool {
	for _, line := range h["Connection"] {
		for option := range strings.SplitSeq(line, ",") {
			switch strings.ToLower(strings.TrimSpace(option)) {
			case "", "close", "keep-alive", "upgrade", "te", "http2-settings":
			default:
				return false
			}
		}
	}
	return true
}

// readKey computes the key and notes what of the request decides about storing.
func (q *request) readKey() {
	r, k := q.r, &q.keyed
	k.method = r.Method
	if r.Method == http.MethodHead {
		k.method = http.MethodGet
	}
	if r.Host != k.authority {
		// Of the spellings that share a key, the origin and every placeholder that is still to be expanded gets one (C11).
		r.Host = k.authority
	}
	k.inner = r.URL
	k.header, k.added = r.Header, q.expand(q.h.Key.Add)
	k.hasBody = k.method != http.MethodGet
	k.variance = q.cache.varianceHints.variance(&q.h.keying, k)
	q.key = q.h.keying.key(k)
	q.authorized = q.h.keying.hasUnkeyedAuthorization(r.Header)
	q.unkeyedCookie = q.h.keying.hasUnkeyedCookie(r.Header)
	q.hops = rfc9111.CDNLoopCount(r.Header, loopToken)
	if !q.h.policy.IgnoreClientDirectives {
		q.directives = rfc9111.ParseRequest(r.Header)
	}
}

// saysNoStore reports whether the request has no-store (RFC 9111 5.2.1.5), whether this handler
// obeys that or not: another may.
func (q *request) saysNoStore() bool {
	if q.h.policy.IgnoreClientDirectives {
		return rfc9111.ParseRequest(q.r.Header).NoStore
	}
	return q.directives.NoStore
}

// schemeOf is how the client has spoken to Caddy.
func schemeOf(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// clientURL is the URL as the client sent it, before any rewrite.
func clientURL(r *http.Request) *url.URL {
	if orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && orig.URL != nil {
		return orig.URL
	}
	return r.URL
}

// listener tells where the request's connection came in.
func (q *request) listener() listener {
	l := listener{server: q.h.server}
	switch addr := q.r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr:
		l.port = addr.Port
	case *net.UDPAddr: // HTTP/3
		l.port = addr.Port
	case net.Addr:
		l.socket = addr.String()
	}
	return l
}

// expand expands the placeholders of texts for this request.
func (q *request) expand(texts []string) []string {
	if len(texts) == 0 {
		return nil
	}
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = q.repl.ReplaceAll(text, "")
	}
	return out
}

// url is the URL by which a response to this request is purged and listed.
func (q *request) url() string {
	return q.h.keying.entryURL(q.keyed.site.scheme, q.keyed.site.authority, q.keyed.client)
}

// storedURL is url at the listener that the request came in by, which is how the store has it.
func (q *request) storedURL() string { return q.h.keying.storedURL(&q.keyed) }

// flightKey names the fetch that this request can share. Requests with Authorization, and those with a cookie where a ttl option
// treats them apart, share only among themselves: what their responses may be used for differs, and an answer that is private for one
// must not have the others found not shareable. A request that has come by before may be the fetch itself, in a loop: it must not
// wait for its own answer, so requests share only with those that have come by as often.
func (q *request) flightKey() store.Key {
	class := classOf(q.authorized, q.unkeyedCookie && q.h.ttlRules)
	if class == ordinary && q.hops == 0 && len(q.varyNames) == 0 {
		return q.key
	}
	names := append([]string{class}, q.varyNames...)
	values := append([]string{strconv.Itoa(q.hops)}, rfc9111.VariantValues(q.varyNames, q.r.Header)...)
	return variantKey(q.key, names, values)
}

// ordinary is the class of requests whose responses are for everybody.
const ordinary = " "

// classOf spells the two facts as a name that no header field can have.
func classOf(authorized, cookie bool) string {
	switch {
	case authorized && cookie:
		return " authorization cookie"
	case authorized:
		return " authorization"
	case cookie:
		return " cookie"
	}
	return ordinary
}

// reasonError is the reason where the inner handlers returned an error instead of a response: nobody listens at the origin, or file_server found
// no file.
const reasonError = "error"

// note records how the request was answered: for placeholders, the access log and metrics. It is called once a request, before
// the response's header is written.
func (q *request) note(outcome Outcome, reason string) {
	q.h.metrics.requests[outcome].Inc()
	q.outcome, q.reason, q.noted = outcome, reason, true
	q.publish()
	if !q.logged() {
		return
	}
	if extra, ok := q.r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("larder_status", outcome.String()))
		if reason != "" {
			extra.Set(zap.String("larder_reason", reason))
		}
	}
}

const (
	statusPlaceholder = "http.larder.status"
	reasonPlaceholder = "http.larder.reason"
)

// publish has the placeholders answered. The replacer asks its providers in the order in which they came, so ours comes before those of a
// fetch, and of a handler of ours within: what is told to the client is the outermost's. To set them in the replacer's map would be
// simpler, but the map is mostly empty, and to make it costs a third of what a hit allocates. Being asked costs nothing unless somebody
// asks.
func (q *request) publish() {
	if !q.published {
		q.published = true
		q.repl.Map(q.placeholder)
	}
}

// placeholder is a caddy.ReplacerFunc.
func (q *request) placeholder(name string) (value any, known bool) {
	if !q.noted {
		return nil, false
	}
	switch name {
	case statusPlaceholder:
		return outcomeWords[q.outcome], true
	case reasonPlaceholder:
		return q.reason, true
	}
	return nil, false
}

// logged reports whether the request can come into an access log. Fields for one that cannot would cost what the rest of a hit does.
func (q *request) logged() bool {
	server, ok := q.r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return ok && server.Logs != nil
}

// sendStatus appends our member of Cache-Status to the response, as much of it as the handler is to tell.
func (q *request) sendStatus(h http.Header, cs rfc9111.CacheStatus) {
	switch q.h.statusMode {
	case statusOff:
		return
	case statusShort:
		if !cs.Hit && cs.Forward != rfc9111.ForwardBypass {
			cs.Detail = ""
		}
	case statusFull:
		if cs.Forward != rfc9111.ForwardBypass {
			cs.Key = q.keyed.method + " " + q.url()
		}
	}
	if len(h["Cache-Status"]) > 0 {
		cs.Append(h)
		return
	}
	h["Cache-Status"] = q.scratch.one(scratchStatus, cs.String())
}

// rewind puts the body that was read for the key back, for the inner handlers.
func (q *request) rewind() {
	if len(q.keyed.body) > 0 {
		q.r.Body = io.NopCloser(bytes.NewReader(q.keyed.body))
	}
}
