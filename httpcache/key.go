package httpcache

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/urlform"
)

// KeyRules say how a route turns requests into keys. docs/configuration.md, "Key", tells users what
// a key is made of. The rules are pure: they get placeholders expanded and bodies read. Names such
// as C5 are rows of the table of attacks in SECURITY.md, here and elsewhere.
type KeyRules struct {
	Query   QueryRules // which parameters are part of the key
	Headers []string   // canonical names whose values are part of the key
	Cookies []string   // names whose values are part of the key
	Add     []string   // texts with placeholders that are part of the key
	Body    BodyForm   // how the body of a POST or QUERY is part of the key
}

// keyed is the part of a request that its key is made of. Two requests have the same key only if
// every field here is equal after the route's query rules.
type keyed struct {
	Identity
	method string   // the method class: GET stands for HEAD too
	inner  *url.URL // path and query as they are when the cache sees them
	header http.Header
	// unforwarded says that the header is known to have none of forwardedFields.
	unforwarded bool
	added       []string               // expanded texts of KeyRules.Add
	content     *content               // the request's, see hasBody
	variance    rfc9111.SearchVariance // what the origin says of the query (No-Vary-Search)
}

// hasBody reports whether the request's content is part of the key: of POST and QUERY.
func (k *keyed) hasBody() bool { return k.method != http.MethodGet }

// key hashes k. Every part is preceded by its length, so two different requests cannot spell the
// same bytes (C5).
func (rules *KeyRules) key(k *keyed) store.Key {
	b := keyBuffers.Get().(*keyBytes)
	defer keyBuffers.Put(b)
	b.bytes = b.bytes[:0]
	b.request(rules, k)
	return sha256.Sum256(b.bytes)
}

// Parts that few keys have begin with numbers that cannot stand in their place otherwise: no status
// of an error is as large, and no key has as many added texts.
const (
	markBranch       = math.MaxUint16 + 1
	markAbsoluteForm = math.MaxUint16 + 2
	markOddCookies   = math.MaxUint16 + 1 // in another place of the key
)

// request writes what tells a request from others.
func (b *keyBytes) request(rules *KeyRules, k *keyed) {
	b.part("method").text(k.method)
	b.part("scheme").text(k.scheme())
	b.part("host").text(k.Authority)
	b.part("server").text(k.Listener.Server)
	b.part("port").number(k.Listener.Port)
	b.part("socket").text(k.Listener.Socket)
	b.part("path").url(urlform.PathAsSent(k.URL), k.URL, &rules.Query, k.variance)
	// A rewrite in front of the cache may have changed the URL. Then the changed form counts as
	// well: two rewrites that lead to different origins must not share a key.
	if sameTarget(k.URL, k.inner) {
		b.count(0)
	} else {
		b.part("rewritten path").url(k.inner.EscapedPath(), k.inner, &rules.Query, k.variance)
	}
	b.fields(rules, k.header)
	b.part("add").texts(k.added)
	if !k.unforwarded {
		b.forwarded(k.header)
	}
	b.count(0) // no more of them
	b.part("dot behind the host").flag(k.Dotted)
	// A proxy behind the cache passes on what a trusted client says in X-Forwarded fields, and
	// replaces what any other says.
	b.part("claims of a trusted proxy").flag(k.Trusted)
	if !isOriginForm(k.URL) { // handlers in front have seen it, see shown.go
		b.count(markAbsoluteForm)
		b.part("absolute-form").text(k.URL.Scheme)
		if k.URL.User != nil {
			b.text(k.URL.User.String())
		}
		b.text(k.URL.Host)
	}
	if k.Branch != "" {
		b.count(markBranch)
		b.part("branch").text(k.Branch)
	}
	b.part("status of the error").number(int(k.ErrorStatus))
	if k.hasBody() {
		// RFC 10008 2.7: the content and what says how to read it.
		b.part("Content-Type").texts(k.header["Content-Type"])
		b.part("Content-Encoding").texts(k.header["Content-Encoding"])
		k.content.write(b)
	}
}

// fields adds the header fields and cookies that the operator has put in the key. The names stand
// beside the values: another route may key other fields for the same URL.
func (b *keyBytes) fields(rules *KeyRules, header http.Header) {
	b.count(len(rules.Headers))
	for _, name := range rules.Headers {
		b.name(name)
		b.part(name).texts(header[name])
	}
	b.count(len(rules.Cookies))
	if len(rules.Cookies) == 0 {
		return
	}
	jar := cookieValues(header, rules.Cookies)
	for _, name := range rules.Cookies {
		b.name(name)
		b.cookie(name).texts(jar[name])
	}
	if odd := rules.oddCookies(header); len(odd) > 0 {
		b.count(markOddCookies)
		b.part("Cookie").texts(odd)
	}
}

func sameTarget(a, b *url.URL) bool {
	if a.RawQuery != b.RawQuery || a.ForceQuery != b.ForceQuery {
		return false
	}
	// The parts of the escaped path are mostly equal, and cheaper to compare.
	return a.Path == b.Path && a.RawPath == b.RawPath || a.EscapedPath() == b.EscapedPath()
}

// keyBytes is what a key hashes: length-prefixed parts.
type keyBytes struct {
	bytes []byte
	parts *[]KeyPart // what is written, for people; nil unless it is explained
}

// keyBuffers spare each request an allocation.
var keyBuffers = sync.Pool{New: func() any { return &keyBytes{bytes: make([]byte, 0, 1024)} }}

func (b *keyBytes) count(n int) {
	if uint(n) < 1<<7 { // one byte, as nearly always
		b.bytes = append(b.bytes, byte(n))
		return
	}
	b.bytes = binary.AppendUvarint(b.bytes, uint64(n))
}

func (b *keyBytes) number(n int) {
	b.count(n)
	if b.parts != nil && n != 0 {
		b.value(strconv.Itoa(n))
	}
}

func (b *keyBytes) flag(set bool) {
	if set {
		b.count(1)
		b.value("yes")
	} else {
		b.count(0)
	}
}

// name writes the name of what is written next.
func (b *keyBytes) name(s string) {
	b.count(len(s))
	b.bytes = append(b.bytes, s...)
}

func (b *keyBytes) text(s string) {
	b.name(s)
	if s != "" {
		b.value(s)
	}
}

func (b *keyBytes) texts(list []string) {
	b.count(len(list))
	for _, s := range list {
		b.name(s)
		b.value(s)
	}
}

// url writes a path and the query of u. A bare "?" counts: the origin can tell it from no query.
func (b *keyBytes) url(
	path string, u *url.URL, rules *QueryRules, variance rfc9111.SearchVariance,
) {
	b.count(1)
	b.text(path)
	b.query()
	query := rules.apply(u.RawQuery)
	if !variance.IsDefault() {
		query = variance.Normalize(query)
	}
	switch {
	case query != "":
		b.count(2)
	case u.ForceQuery && u.RawQuery == "":
		b.count(1)
		b.value("?")
	default:
		b.count(0)
	}
	b.text(query)
}

// methodOverrides are fields by which frameworks take a request for one with another method or URL,
// and one by which an origin sends the rest of an event stream alone. No browser and no proxy sends
// them on a GET, except for EventSource. A request with one bypasses: it reaches the origin as it
// is, and no other client gets its answer (C1, C8).
var methodOverrides = [...]string{
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override",
	"X-Original-Url", "X-Rewrite-Url", "Last-Event-Id",
}

// hasMethodOverride reports whether a request has one of these fields. One whose values the key
// tells apart does not count.
func (rules *KeyRules) hasMethodOverride(h http.Header) bool {
	for _, name := range methodOverrides {
		if len(h[name]) > 0 && !slices.Contains(rules.Headers, name) {
			return true
		}
	}
	return false
}

// variantKey is the key of one variant for coalescing. Requests with different values for the names
// of Vary do not wait for each other.
func variantKey(key store.Key, names, values []string) store.Key {
	b := keyBuffers.Get().(*keyBytes)
	defer keyBuffers.Put(b)
	b.bytes = append(b.bytes[:0], key[:]...)
	b.texts(names)
	b.texts(values)
	return sha256.Sum256(b.bytes)
}

// entryURL is the URL by which a stored response is purged, listed and invalidated. It is the one
// that the client sent, in urlform's form, with the query that the rules leave. Requests with the
// same key have the same entryURL: all its parts are in the key, unchanged.
func (rules *KeyRules) entryURL(scheme, authority string, u *url.URL) string {
	return urlform.Join(scheme, authority, u, rules.Query.apply(urlform.Query(u.RawQuery)))
}

// storedURL is the entryURL of k at its listener, which is the form that the store keeps. It is
// store.URLAt of both, made without the string between.
func (rules *KeyRules) storedURL(k *keyed) string { return rules.storedURLOf(k, k.Site) }

// storedURLOf is storedURL by another site.
func (rules *KeyRules) storedURLOf(k *keyed, site Site) string {
	var room [256]byte
	query := rules.Query.apply(urlform.Query(k.URL.RawQuery))
	b := urlform.Append(room[:0], site.Scheme, site.Authority, k.URL, query)
	return string(k.appendListenerName(append(b, store.AtListener...)))
}

// QueryRules say which parameters count, in the key and in the fetch that fills it. The origin is
// sent the query that is keyed, so a parameter without effect on the key has none on the answer
// (C4).
type QueryRules struct {
	Sort   bool     // by name; equal names keep their order
	Ignore []string // patterns of names that do not count; * is any run of characters
	Only   []string // patterns of the only names that count; all where it is empty
}

// None reports whether there is no rule.
func (q *QueryRules) None() bool { return !q.Sort && len(q.Ignore) == 0 && len(q.Only) == 0 }

// apply returns the raw query without the parameters that do not count. A parameter is a whole
// piece between `&`. It is never split at `;` and never decoded: parameter cloaking lives on two
// programs that decode differently. Names are compared in the form of an entry's URL, so a raw
// query and its URL's form lose the same parameters and come in the same order.
func (q *QueryRules) apply(raw string) string {
	if raw == "" || q.None() {
		return raw
	}
	params := strings.Split(raw, "&")
	if len(q.Ignore) > 0 {
		params = slices.DeleteFunc(params, func(p string) bool { return MatchesAny(q.Ignore, paramName(p)) })
	}
	if len(q.Only) > 0 {
		params = slices.DeleteFunc(params, func(p string) bool { return !MatchesAny(q.Only, paramName(p)) })
	}
	if q.Sort && len(params) <= maxSorted {
		sortByName(params)
	}
	return strings.Join(params, "&")
}

// maxSorted is how many parameters of a query are sorted at most, because each request pays for it
// several times. More stay in the order in which they were sent, to the origin as well.
const maxSorted = 1 << 10

// sortByName sorts parameters by their names. Those of one name keep their order.
func sortByName(params []string) {
	named := make([]struct{ name, param string }, len(params))
	for i, p := range params {
		named[i].name, named[i].param = paramName(p), p
	}
	slices.SortStableFunc(named, func(a, b struct{ name, param string }) int { return strings.Compare(a.name, b.name) })
	for i := range named {
		params[i] = named[i].param
	}
}

// Applied returns u itself where the rules change nothing, otherwise a copy with the query that
// apply returns.
func (q *QueryRules) Applied(u *url.URL) *url.URL {
	raw := q.apply(u.RawQuery)
	if raw == u.RawQuery {
		return u
	}
	c := *u
	c.RawQuery = raw
	return &c
}

func paramName(param string) string {
	name, _, _ := strings.Cut(param, "=")
	return urlform.Query(name)
}

// MatchesAny reports whether name matches a pattern, with `*` as the only wildcard. The patterns
// were checked when the configuration was loaded.
func MatchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return wildcard(pattern, name) })
}

// wildcard reports whether name matches pattern, in which `*` stands for any run of bytes.
func wildcard(pattern, name string) bool {
	prefix, rest, starred := strings.Cut(pattern, "*")
	if !starred {
		return name == pattern
	}
	if !strings.HasPrefix(name, prefix) {
		return false
	}
	name = name[len(prefix):]
	for {
		part, more, again := strings.Cut(rest, "*")
		if !again {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name, rest = name[i+len(part):], more
	}
}

// hasUnkeyedAuthorization reports whether the request carries Authorization that is not part of the
// key. Keyed credentials are shared only by clients that show the same ones, so RFC 9111 3.5 has
// nothing to keep apart.
func (rules *KeyRules) hasUnkeyedAuthorization(h http.Header) bool {
	return len(h["Authorization"]) > 0 && !slices.Contains(rules.Headers, "Authorization")
}
