package httpcache

import (
	"context"
	"net/http"
	"net/url"
)

// Middleware puts a route in front of any http.Handler. In a fetch the handler's request has a
// context that ends with the fetch, not with the client that led it. It has the values of that
// client's context. Where the handler writes nothing, the client gets an empty 200 that is not
// stored. A handler whose answer is empty calls WriteHeader.
//
// The context of an unsafe request ends ten seconds after its client has left at most. Where the
// handler goes on after that, and returns without having written anything, nothing is invalidated,
// whatever it has done.
func Middleware(rt *Route) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		handle := func(w http.ResponseWriter, r *http.Request) error {
			next.ServeHTTP(w, r)
			return nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := rt.serve(w, r, handle); err != nil {
				answerError(w, err)
			}
		})
	}
}

// answerError answers with the status of an error of the cache.
func answerError(w http.ResponseWriter, err error) {
	status := statusOf(err)
	http.Error(w, http.StatusText(status), status)
}

// serve answers a request of a net/http server.
func (rt *Route) serve(w http.ResponseWriter, r *http.Request, next handlerFunc) error {
	delete(r.Header, RepeatsField)
	q := &plainRequest{next: next}
	return rt.Serve(&q.Request, w, r, new(IdentityOf(r)), q)
}

// handlerFunc is a handler that may fail.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

// plainRequest is a request of a net/http server. It implements Origin.
type plainRequest struct {
	Request
	next handlerFunc
}

func (p *plainRequest) ServeHTTP(w http.ResponseWriter, r *http.Request) error { return p.next(w, r) }

func (p *plainRequest) Detach(ctx context.Context, r *http.Request, copies int) OriginRequest {
	s := &plainFetch{next: p.next}
	detached := &detachedContext{ctx, r.Context()}
	for n := range copies {
		s.requests[n] = r.Clone(detached)
	}
	return s
}

// ClientAddr returns that of the connection: net/http trusts no proxies.
func (p *plainRequest) ClientAddr() string { return p.r.RemoteAddr }

// Expand returns the text as it is: net/http has no placeholders.
func (p *plainRequest) Expand(text string) string { return text }

// ExpandURL returns the text as it is, too.
func (p *plainRequest) ExpandURL(text string) string { return text }

func (p *plainRequest) Decided(*Decision) {}

// plainFetch has the requests of a fetch. It implements OriginRequest.
type plainFetch struct {
	fetch    Fetch
	next     handlerFunc
	requests [3]*http.Request
}

func (s *plainFetch) Fetch() *Fetch               { return &s.fetch }
func (s *plainFetch) Request(n int) *http.Request { return s.requests[n] }
func (s *plainFetch) Retarget(n int, u *url.URL) {
	s.requests[n].URL, s.requests[n].RequestURI = u, u.RequestURI()
}
func (s *plainFetch) Do(n int, w http.ResponseWriter) error { return s.next(w, s.requests[n]) }
func (s *plainFetch) Expand(text string) string             { return text }
func (s *plainFetch) HeaderWritten()                        {}
func (s *plainFetch) Expose(Origin, bool)                   {}
func (s *plainFetch) Unexposed(Origin)                      {}
func (s *plainFetch) Finish(Origin)                         {}

// detachedContext ends with the fetch and has the values of the client's context.
type detachedContext struct {
	context.Context // the fetch's
	client          context.Context
}

// Value implements context.Context.
func (c *detachedContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil { // the context package looks there for what cancels
		return v
	}
	return c.client.Value(key)
}

// Interface guards.
var (
	_ Origin        = (*plainRequest)(nil)
	_ OriginRequest = (*plainFetch)(nil)
)
