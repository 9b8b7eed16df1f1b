// Package httpcache is a response cache for HTTP servers: RFC 9111 for a shared cache, one fetch
// for any number of concurrent misses, and purging by surrogate key. It knows net/http and no
// server in particular: [Middleware] puts it before any http.Handler, and the Caddy module has an
// adapter.
//
// A [Cache] is a store with the fetches that fill it. A [Route] answers requests from it under the
// [Rules] of one part of a configuration; the zero Rules are sane defaults.
//
// # The story of a request
//
//	request ─ classify ─ key ─ lookUp ─┬─ fresh ───────────────► respondStored
//	   │                               ├─ stale, may be served ► respondStored, refreshInBackground
//	   │                               └─ else ─► join a flight ─► fetch ─ decide ─ store
//	   └─ bypass ─► next, untouched                    └──────► respondShared as the body arrives
//
// serve.go has the story as code. The steps are methods of [Request]: classify and key in
// request.go and key.go, flights in coalesced.go, the ways to answer in respond.go and deliver.go,
// and pass.go for what is passed on. evaluate.go has what is worked out about a stored response
// once for all hits. A fetch (fetch.go) runs apart from every request, so that its client may
// leave; decide.go says what becomes of its response, and package rfc9111 what may be stored and
// reused. When the origin may be asked, an [origin.Budget] says (admission.go), which is in
// [Rules].
//
// A large file that is asked for in parts is stored in slices, which are entries of their own
// behind a head. object.go has what they are and which files deal with them. Two choices differ
// from what other caches do. Nothing of a slice's name can be told from its URL: the id in its head
// is random, so that what takes the head takes the slices, without a second rule for purges,
// validation or Vary. And the first slice of something cold is fetched by the flight of the whole
// key: whether the origin answers in parts, with the whole, or fails, is found out once for all who
// wait.
//
// # The seams
//
// What differs from server to server is behind interfaces, which an adapter implements:
//
//   - [Origin]: one request's way to the handlers behind the cache. [Origin.Detach] makes an
//     [OriginRequest], with which a fetch asks them.
//   - [Behind]: which request fields those handlers write, so that nothing is selected by them. nil
//     in [Rules]: what proxies write.
//   - [RemoteFetch]: what other machines have stored, and what they are fetching. [Purger]: where
//     unsafe requests invalidate. [Metrics]: what is counted. All are in [Options], and nil is a
//     default there.
//   - [Decision]: how a request was answered and why, in enums. Cache-Status, logs and metrics
//     render it.
//
// middleware.go is the smallest adapter.
package httpcache
