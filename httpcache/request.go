package httpcache

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

var errOnlyIfCached = errors.New("the request says only-if-cached, and nothing stored may answer it")

// maxKeyedBody is the largest request body that is read to become part of a key.
const maxKeyedBody = 64 << 10

// Request is one client's request on its way through the story in serve.go. An adapter embeds one
// in its own struct, so a hit allocates both at once. It belongs to the client's goroutine. A fetch
// uses it only while its leader waits for that fetch.
type Request struct {
	route  *Route
	w      http.ResponseWriter
	r      *http.Request
	origin Origin
	now    time.Time
	waited time.Duration // from its arrival to now; a second time.Time would cost every hit more

	presented
	// Set by lookUp.
	found     store.Result
	freshness *rfc9111.Freshness // of found.Entry
	varyNames []string           // what is known of the URL's Vary

	hints *pathHints // what is known of the path's queries
	trace *Trace     // of how it is decided, nil unless that is explained

	decision  Decision    // set by Request.decide
	decided   bool        // it is
	gaveBack  bool        // what was found is released, see letGo
	rounds    uint8       // that are left after this one, see answer
	withheld  Detail      // why what was found, or is under way, is no answer
	fields    fieldSet    // of the header as it came, set by classify
	sending   atomic.Bool // the answer, for breaking
	sent      int64       // bytes of the body
	following *following  // a pointer, because a hit allocates a request and follows no fetch
	breaking  atomic.Pointer[writeBreak]
	room      scratchRoom // of its answer, see scratch
}

// presented has what decides about storing and reuse of a request, which RFC 9111 calls the
// presented one. A fetch has a copy of its leader's, because the leader may be over before the
// fetch is.
type presented struct {
	keyed         keyed // Serve sets its identity, classify its content, readKey the rest
	key           store.Key
	directives    rfc9111.RequestDirectives
	authorized    bool // it carries Authorization, and the key lacks it
	unkeyedCookie bool
	objectChanged bool            // what was found in slices was another version, see respondWithoutSlice
	mustValidate  bool            // nothing stored answers it unconfirmed, see withoutpass.go
	forward       rfc9111.Forward // why the origin must be asked, set by lookUp
	hops          uint8           // how often it has passed this cache already, set by readKey
	repeats       uint16          // how often its client has sent it, if that is too often, see Repeats
}

// personal reports whether the request carries Authorization or a cookie, and the key lacks them.
func (p *presented) personal() bool { return p.authorized || p.unkeyedCookie }

// cache is the cache that answers the request.
func (q *Request) cache() *Cache { return q.route.cache }

// Route returns the route that answers the request. It implements Subject.
func (q *Request) Route() *Route { return q.route }

// Identity returns the identity of the request, which the caller of [Route.Serve] may fill.
func (q *Request) Identity() *Identity { return &q.keyed.Identity }

// HTTP returns the request as the server has it.
func (q *Request) HTTP() *http.Request { return q.r }

// Decision returns how the request was answered. It is valid from the call of Origin.Decided on.
func (q *Request) Decision() *Decision { return &q.decision }

// Sent returns how many bytes of the body the client has been sent.
func (q *Request) Sent() int64 { return q.sent }

// URL returns the URL by which a response to this request is purged and listed. It implements
// Subject.
func (q *Request) URL() string {
	return q.route.Key.entryURL(q.keyed.Site.Scheme, q.keyed.Site.Authority, q.keyed.URL)
}

// ListedURL is URL, and for a request that is answered from the store that of the stored response,
// which costs nothing. The two differ where the origin says that some of the query does not count.
func (q *Request) ListedURL() string {
	if e := q.found.Entry; e != nil && (q.decision.Outcome == OutcomeHit || q.decision.Outcome == OutcomeStale) {
		return store.BareURL(e.URL)
	}
	return q.URL()
}

// Arrived returns when the request arrived.
func (q *Request) Arrived() time.Time { return q.arrivedAt() }

// updateNow sets the time again for a request that has waited.
func (q *Request) updateNow() {
	now := time.Now()
	q.waited += now.Sub(q.now)
	q.now = now
}

// arrivedAt is when the request arrived.
func (q *Request) arrivedAt() time.Time { return q.now.Add(-q.waited) }

// classify reports why the request bypasses the cache, if it does.
func (q *Request) classify() Bypass {
	r := q.r
	if q.fields = fieldSetOf(r.Header); q.fields.has(hasUpgrade) {
		ignoreH2C(r.Header)
		q.fields = fieldSetOf(r.Header)
	}
	switch {
	case r.Method == http.MethodConnect, q.fields.has(hasUpgrade):
		return BypassUpgrade
	case !q.keyed.Purgeable, q.keyed.ShowsHost:
		return BypassTarget
	case !slices.Contains(q.route.Methods, r.Method):
		return BypassMethod
	case q.fields.has(hasConnection) && !ordinaryConnection(r.Header):
		return BypassConnection
	case q.fields.has(hasOverride) && q.route.Key.hasMethodOverride(r.Header):
		return BypassOverride
	case q.fields.has(hasManyFields):
		return BypassFields
	}
	if carriesBody(r) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return BypassBody // a "fat GET": the origin may read a body that the key lacks (C3)
		}
		if !q.readBody() {
			return BypassBody
		}
	}
	if why := q.readContent(); why != NotBypassed {
		return why
	}
	if !q.storeOpen() {
		return BypassStore
	}
	return NotBypassed
}

// storeOpen reports whether there is an open store. A request that is only observed does not wait
// for one.
func (q *Request) storeOpen() bool {
	if q.observed() != nil && !q.cache().openNow() {
		return false
	}
	return q.cache().open(q.r.Context())
}

// carriesBody reports whether the request has content. The header may leave that open: chunked, or
// HTTP/2 and HTTP/3 without a Content-Length. Then the first byte is read. A request without one
// has ended by then, and is not a fat GET. A client that waits to be asked for the body (Expect)
// has one.
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

// resumed is a body whose beginning has been read already.
type resumed struct {
	io.Reader
	io.Closer
}

// readBody reads the body for the key. It reports false and leaves the body as it was if that is
// too large, cannot be read, or has trailers behind it. Trailers are not part of the key, and a
// fetch would lose them.
func (q *Request) readBody() bool {
	body, whole := readAhead(q.r, maxKeyedBody)
	if !whole || len(q.r.Trailer) > 0 {
		return false
	}
	q.keyed.content = &content{body: body}
	return true
}

// readAhead reads the first bytes of the request's body, which has them still. whole reports that
// they are all of it, and no more than so many. A body that cannot be read fails for who reads it
// next as well: one of net/http says so once, and seems to end there after that.
func readAhead(r *http.Request, most int64) (body []byte, whole bool) {
	body, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	if err == nil && int64(len(body)) <= most {
		r.Body = io.NopCloser(bytes.NewReader(body))
		return body, true
	}
	rest := io.Reader(r.Body)
	if err != nil {
		rest = failing{err}
	}
	r.Body = &resumed{Reader: io.MultiReader(bytes.NewReader(body), rest), Closer: r.Body}
	return body, false
}

// failing is a reader that fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// ignoreH2C removes the offer to go on in HTTP/2 from a request, and its names from Connection.
// Java's HttpClient and `curl --http2` make the offer with every request in clear text. RFC 9110
// 7.8 lets a server ignore it, and RFC 9113 3.1 has dropped it.
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

// without returns the members of comma-separated lines except the named ones. names are in lower
// case.
func without(lines []string, names ...string) []string {
	var left []string
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			member = rfc9111.TrimOWS(member)
			if member != "" && !slices.Contains(names, rfc9111.ToLower(member)) {
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

// ordinaryConnection reports whether Connection names only fields that are about the connection. By
// any other name a proxy would remove a field that the key, or the rule for Authorization, has
// already counted (C10).
func ordinaryConnection(h http.Header) bool {
	for _, line := range h["Connection"] {
		for option := range strings.SplitSeq(line, ",") {
			switch rfc9111.ToLower(rfc9111.TrimOWS(option)) {
			case "", "close", "keep-alive", "upgrade", "te", "http2-settings":
			default:
				return false
			}
		}
	}
	return true
}

// readKey computes the key and reads from the request what else decides about storing.
func (q *Request) readKey() {
	r, k := q.r, &q.keyed
	k.method = r.Method
	if r.Method == http.MethodHead {
		k.method = http.MethodGet
	}
	if r.Host != k.Authority {
		// Spellings of a host share a key. The origin, and every placeholder that is still to be
		// expanded, gets one of them (C11).
		r.Host = k.Authority
	}
	k.inner = r.URL
	k.header, k.unforwarded, k.added = r.Header, !q.fields.has(hasForwarded), q.expand(q.route.Key.Add)
	q.readHints()
	q.authorized = q.fields.has(hasAuthorization) && q.route.Key.hasUnkeyedAuthorization(r.Header)
	q.unkeyedCookie = q.fields.has(hasCookie) && q.route.Key.hasUnkeyedCookie(r.Header)
	if q.fields.has(hasLoop) {
		q.hops = uint8(rfc9111.CDNLoopCount(r.Header, loopToken)) // less than maxLoops
	}
	if q.fields.has(hasDirectives) && !q.route.Policy.IgnoreClientDirectives {
		q.directives = rfc9111.ParseRequest(r.Header)
	}
}

// saysNoStore reports whether the request has no-store (RFC 9111 5.2.1.5). This route may ignore
// that; another may not.
func (q *Request) saysNoStore() bool {
	if q.route.Policy.IgnoreClientDirectives {
		return rfc9111.ParseRequest(q.r.Header).NoStore
	}
	return q.directives.NoStore
}

// expand expands the placeholders of texts for this request.
func (q *Request) expand(texts []string) []string {
	if len(texts) == 0 {
		return nil
	}
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = q.origin.Expand(text)
	}
	return out
}

// expandURLs expands the placeholders of texts that name URLs.
func (q *Request) expandURLs(texts []string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = q.origin.ExpandURL(text)
	}
	return out
}

// storedURL returns URL at the listener of the request, which is the form that the store keeps.
func (q *Request) storedURL() string { return q.route.Key.storedURL(&q.keyed) }

// flightKey is the key of the flight that this request can share.
//
// Requests with Authorization share only among themselves. So do those with a cookie where a ttl
// option treats them apart. Their responses may be used for less, and an answer that is private for
// one of them must not make the others count as not shareable.
//
// A request that has passed this cache before may be the fetch itself, in a loop, and must not wait
// for its own answer. So requests share only with those that have passed as often.
func (q *Request) flightKey() store.Key { return q.flightKeyFor(q.varyNames) }

// flightKeyFor is flightKey where these names of Vary are known.
func (q *Request) flightKeyFor(varyNames []string) store.Key {
	class := classOf(q.authorized, q.unkeyedCookie && q.route.cookiesApart)
	if q.observed() != nil { // no client may wait for a fetch that goes at the pace of another
		class += "observed"
	}
	if len(q.route.Tags.Keep) > 0 {
		class += " tags" // its answers have fields that those of others lack
	}
	if class == ordinary && q.hops == 0 && len(varyNames) == 0 {
		return q.key
	}
	names := varyNamesOf(varyNames)
	names, values := q.route.withWritten(q.r, names, rfc9111.VariantValues(names, q.r.Header))
	return variantKey(q.key, append([]string{class}, names...), append([]string{strconv.Itoa(int(q.hops))}, values...))
}

// ordinary is the class of requests whose responses may be for all clients.
const ordinary = " "

// classOf returns the class as a name that no header field can have.
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

// decide records how the request is answered. It is called once, before the response header is
// written.
func (q *Request) decide(d Decision) {
	if d.Reason() == "" {
		d.Detail = q.withheld
	}
	q.decision, q.decided = d, true
	q.trace.decided(q)
	q.trace.tell(q.w.Header()) // also beside an error, for which there is no Cache-Status
	q.tellRepeats(q.w.Header())
	if log := q.route.Logger; log.Enabled(q.r.Context(), slog.LevelDebug) {
		log.LogAttrs(q.r.Context(), slog.LevelDebug, "decided", q.logged()...)
	}
	q.origin.Decided(&q.decision)
}

// logged is what the log says of a decision.
func (q *Request) logged() []slog.Attr {
	d := &q.decision
	attrs := []slog.Attr{
		slog.String("method", q.r.Method), slog.String("url", q.URL()), slog.String("outcome", d.Outcome.String()),
		slog.String("reason", d.Reason()), slog.String("forward", d.Forward.String()), slog.String("key", q.ShortKey()),
	}
	if d.Bypass == BypassObserve {
		attrs = append(attrs, slog.String("would", d.Would.String()))
	}
	return attrs
}

// ShortKey is the beginning of the hash that the request is looked up by: 16 hexadecimal digits,
// the same across restarts. It is empty for a request that bypasses.
func (q *Request) ShortKey() string {
	if q.key == (store.Key{}) {
		return ""
	}
	return hex.EncodeToString(q.key[:8])
}

// sendStatus appends the cache's member of Cache-Status to the response, as far as the route tells
// it.
func (q *Request) sendStatus(h http.Header, cs *rfc9111.CacheStatus) {
	mode := q.route.Status
	q.tellRepeats(h)
	if q.trace.tell(h) {
		mode = StatusFull
	}
	switch mode {
	case StatusOff:
		return
	case StatusShort:
		if !cs.Hit && cs.Forward != rfc9111.ForwardBypass && cs.Forward != rfc9111.ForwardNone {
			cs.Detail = ""
		}
	case StatusFull:
		if cs.Forward != rfc9111.ForwardBypass {
			cs.Key = q.keyed.method + " " + q.URL()
		}
		if cs.Detail == "" {
			cs.Detail = q.decision.Detail.String()
		}
	}
	if len(h["Cache-Status"]) > 0 {
		cs.Append(h)
		return
	}
	h["Cache-Status"] = q.scratch().one(scratchStatus, cs.String())
}

// rewind restores the body that was read for the key, for the origin.
func (q *Request) rewind() {
	if len(q.keyed.content.sent()) > 0 {
		q.r.Body = q.keyed.content.reader()
	}
}
