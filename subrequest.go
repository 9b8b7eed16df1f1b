package larder

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/larder-cache/larder/httpcache"
)

// A fetch runs the handlers behind larder with a request of its own. Its client may leave, and what
// the client's goroutine goes on to do with its request must not race with the fetch. To the
// handlers the request has to look like the client's all the same:
//
//   - the vars are a copy (`root`, `client_ip`, matchers' results); so are the satisfied route
//     groups, or a sibling `handle` would run,
//   - the original request stays the original one (PHP's REQUEST_URI), with the query rules
//     applied to it as well, and without what is not in the key,
//   - placeholders that outer handlers set (regexp captures) are asked of the client's
//     replacer, last,
//   - idle timeouts are about the client's connection and do not apply.
//
// Caddy has no function for this. caddyhttp.PrepareRequest, the one for a new request, makes all of
// it anew. Most of that would have to be put back, and it is a tenth of what a miss allocates. So
// the context answers by itself. PrepareRequest is called when the first placeholder of a request
// is asked for, because only it can make these.

// Context keys that Caddy does not export. They are plain strings of caddy.CtxKey. A test fails if
// one changes.
const (
	routeGroupCtxKey   = caddy.CtxKey("route_group")
	idleTimeoutsCtxKey = caddy.CtxKey("idle_timeouts")
)

// detached is the context of a fetch. It is cancelled with the flight. What Caddy keeps of a
// request in its context is the fetch's own; everything else is the client's.
type detached struct {
	context.Context // the flight's
	client          context.Context

	replacer  *caddy.Replacer
	vars      map[string]any
	groups    map[string]struct{}
	original  any // an http.Request
	logFields caddyhttp.ExtraLogFields
}

// Value implements context.Context.
func (c *detached) Value(key any) any {
	if k, ok := key.(caddy.CtxKey); ok {
		switch k {
		case caddy.ReplacerCtxKey:
			return c.replacer
		case caddyhttp.VarsCtxKey:
			return c.vars
		case routeGroupCtxKey:
			return c.groups
		case caddyhttp.OriginalRequestCtxKey:
			return c.original
		case caddyhttp.ExtraLogFieldsCtxKey:
			return &c.logFields
		case idleTimeoutsCtxKey:
			return nil
		}
		return c.client.Value(key)
	}
	if v := c.Context.Value(key); v != nil { // the context package looks there for what cancels
		return v
	}
	return c.client.Value(key)
}

// subrequest is the request of a fetch to the handlers behind larder. It implements
// httpcache.OriginRequest.
type subrequest struct {
	fetch  httpcache.Fetch
	next   caddyhttp.Handler
	first  call
	second *call // nil if there will be none; as is third
	third  *call
	asked  *call // the one that the handlers have
	writer http.ResponseWriter

	behind       caddy.Replacer // the client's
	before       *subrequest    // of the same client, nil for its first
	exposed      atomic.Bool    // the client's replacer has its placeholders as well
	clientVars   *sharedVars    // what behind may ask; one for all fetches of the client
	firstVars    sharedVars     // of the first of them
	httpVars     httpVars
	vars         []namedVar // of the context, as they were at the response header
	varsReturned bool       // the leader's request has the final vars
}

// call is a request with its context.
type call struct {
	request *http.Request
	context detached
}

// newSubrequest copies r for a fetch. It is called on the goroutine of the client.
func newSubrequest(ctx context.Context, c *clientRequest, r *http.Request, copies int) *subrequest {
	// The replacer is a copy, whose list of providers stays as it is. The client's replacer will
	// come to ask the fetch's, and without a copy the two would ask each other for ever.
	s := &subrequest{next: c.next, behind: *c.replacer()}
	if s.before = c.fetched.Load(); s.before != nil {
		s.clientVars = s.before.clientVars
	} else {
		s.clientVars = &s.firstVars
	}
	c.fetched.Store(s)
	s.asked = &s.first
	rules := &c.Route().Key.Query
	s.copy(&s.first, ctx, r, rules)
	for n := 1; n < copies; n++ {
		another := new(call)
		s.copy(another, ctx, r, rules)
		if n == 1 {
			s.second = another
		} else {
			s.third = another
		}
	}
	return s
}

func (s *subrequest) copy(to *call, ctx context.Context, r *http.Request, rules *httpcache.QueryRules) {
	to.context.detach(ctx, r.Context(), rules)
	to.context.replacer.Map(s.placeholder)
	to.request = r.Clone(&to.context)
}

// Fetch implements httpcache.OriginRequest.
func (s *subrequest) Fetch() *httpcache.Fetch { return &s.fetch }

func (s *subrequest) call(n int) *call {
	switch n {
	case 0:
		return &s.first
	case 1:
		return s.second
	default:
		return s.third
	}
}

// Request implements httpcache.OriginRequest.
func (s *subrequest) Request(n int) *http.Request { return s.call(n).request }

// Retarget implements httpcache.OriginRequest. Where something in front of larder has taken a part
// off the path, the original request keeps that part.
func (s *subrequest) Retarget(n int, u *url.URL) {
	c := s.call(n)
	was := c.request.URL
	c.request.URL, c.request.RequestURI = u, u.RequestURI()
	orig, ok := c.context.original.(http.Request)
	if !ok || orig.URL == nil {
		return
	}
	whole := *u
	if front, cut := strings.CutSuffix(orig.URL.Path, was.Path); cut && front != "" {
		whole.Path, whole.RawPath = front+u.Path, ""
		if u.RawPath != "" {
			whole.RawPath = (&url.URL{Path: front}).EscapedPath() + u.RawPath
		}
	}
	orig.URL, orig.RequestURI = &whole, whole.RequestURI()
	c.context.original = orig
}

// Do implements httpcache.OriginRequest.
func (s *subrequest) Do(n int, w http.ResponseWriter) error {
	s.asked, s.writer = s.call(n), w
	s.httpVars.bound = nil // to the first request and writer
	return toCache(s.next.ServeHTTP(w, s.asked.request))
}

// Expand implements httpcache.OriginRequest.
func (s *subrequest) Expand(text string) string { return s.asked.context.replacer.ReplaceAll(text, "") }

// detach copies from the client's context what handlers may change.
func (c *detached) detach(flight, client context.Context, rules *httpcache.QueryRules) {
	c.Context, c.client = flight, client
	c.replacer = caddy.NewReplacer()
	if c.vars = maps.Clone(varsOf(client)); c.vars == nil {
		c.vars = make(map[string]any)
	}
	groups, _ := client.Value(routeGroupCtxKey).(map[string]struct{})
	if c.groups = maps.Clone(groups); c.groups == nil {
		c.groups = make(map[string]struct{})
	}
	c.original = client.Value(caddyhttp.OriginalRequestCtxKey)
	orig, ok := c.original.(http.Request)
	if !ok || orig.URL == nil {
		return
	}
	u := httpcache.OriginForm(rules.Applied(orig.URL))
	if u == orig.URL && orig.Method != http.MethodHead {
		return
	}
	if u != orig.URL {
		orig.URL, orig.RequestURI = u, u.RequestURI()
	}
	if orig.Method == http.MethodHead {
		orig.Method = http.MethodGet // as the fetch's: what the handlers make of it is for GET as well
	}
	c.original = orig
}

// ofRequest reports whether a placeholder is about a request. The client's replacer and the fetch's
// each have their own answer to it.
func ofRequest(name string) bool {
	return strings.HasPrefix(name, "http.request.") || strings.HasPrefix(name, "http.response.") || strings.HasPrefix(name, "http.vars.")
}

// ofFile reports whether a placeholder is the content of a file. Only the replacer that is asked
// may answer it, and no other behind it. Handlers remove its provider from their replacer where a
// client may have written the placeholder (templates).
func ofFile(name string) bool { return strings.HasPrefix(name, "file.") }

// placeholder is the last provider of the fetch's replacer. It answers placeholders of the request,
// and those that outer handlers have set.
func (s *subrequest) placeholder(name string) (value any, known bool) {
	if ofFile(name) {
		return nil, false
	}
	if ofRequest(name) {
		if value, known = s.httpVars.get(s, name); known {
			return value, true
		}
	}
	s.clientVars.beginReading()
	defer s.clientVars.endReading()
	return s.behind.Get(name)
}

// httpVars answers the placeholders of a request. Most fetches ask for none, so it makes what it
// needs when it is asked.
type httpVars struct {
	mu       sync.Mutex
	bound    *http.Request
	replacer *caddy.Replacer
}

// get answers from the request of s as it is now. PrepareRequest binds its placeholders to a
// request that it makes, so that one is first made equal to ours.
func (v *httpVars) get(s *subrequest, name string) (value any, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bound == nil {
		v.replacer = caddy.NewEmptyReplacer()
		v.bound = caddyhttp.PrepareRequest(s.asked.request, v.replacer, s.writer, nil)
	}
	*v.bound = *s.asked.request
	value, known = v.replacer.Get(name)
	s.asked.request.Body = v.bound.Body // {http.request.body} has read it and put it back
	return value, known
}

// namedVar is one of the vars.
type namedVar struct {
	name  string
	value any
}

// HeaderWritten implements httpcache.OriginRequest. It keeps the vars for Expose.
func (s *subrequest) HeaderWritten() {
	s.vars = make([]namedVar, 0, len(s.asked.context.vars))
	for name, value := range s.asked.context.vars {
		s.vars = append(s.vars, namedVar{name, value})
	}
}

// Expose implements httpcache.OriginRequest. The leader's request gets the vars and placeholders
// that the handlers behind larder have set, because outer handlers may write them into the response
// header (`header >X-Upstream {rp.upstream.hostport}`).
func (s *subrequest) Expose(leader httpcache.Origin, returned bool) {
	c := leader.(*clientRequest)
	if returned { // no handler changes them any more
		s.returnVars(c)
	} else if vars := varsOf(c.HTTP().Context()); vars != nil {
		s.clientVars.beginWriting()
		defer s.clientVars.endWriting()
		for _, v := range s.vars {
			giveVar(vars, v.name, v.value)
		}
	}
	s.exposed.Store(true)
}

// Unexposed implements httpcache.OriginRequest. The client keeps nothing of s, unless it is the
// first of its fetches: that has the vars of all.
func (s *subrequest) Unexposed(leader httpcache.Origin) {
	if s.before != nil {
		leader.(*clientRequest).fetched.Store(s.before)
		s.before = nil
	}
}

// exposedOf returns the last of a client's fetches, from s backwards, that its replacer has the
// placeholders of.
func exposedOf(s *subrequest) *subrequest {
	for s != nil && !s.exposed.Load() {
		s = s.before
	}
	return s
}

// Finish implements httpcache.OriginRequest. It leaves vars, placeholders and access-log fields in
// the leader's request as they would be without larder.
func (s *subrequest) Finish(leader httpcache.Origin) {
	c := leader.(*clientRequest)
	s.exposed.Store(true)
	s.returnVars(c)
	if to, ok := c.HTTP().Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		appendLogFields(to, &s.asked.context.logFields)
	}
}

// returnVars copies the vars to the leader's request, once. It is called when the handlers have
// returned.
func (s *subrequest) returnVars(c *clientRequest) {
	if s.varsReturned {
		return
	}
	s.varsReturned = true
	vars := varsOf(c.HTTP().Context())
	if vars == nil {
		return
	}
	s.clientVars.beginWriting()
	defer s.clientVars.endWriting()
	for name, value := range s.asked.context.vars {
		giveVar(vars, name, value)
	}
}

// varsOf returns the vars of a request, nil if the request has not been through Caddy.
func varsOf(ctx context.Context) map[string]any {
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	return vars
}

// exposedPlaceholder answers a placeholder that the leader's replacer does not know.
func (s *subrequest) exposedPlaceholder(name string) (value any, known bool) {
	if ofFile(name) || ofRequest(name) {
		return nil, false
	}
	return s.asked.context.replacer.Get(name)
}

// appendLogFields appends the access-log fields of from to those of to. ExtraLogFields can be added
// to but not read, and Caddy offers no other way to carry fields from one request to another. So
// the address of its list is taken by reflection. The test of `log_append` through a miss fails if
// Caddy changes it.
func appendLogFields(to, from *caddyhttp.ExtraLogFields) {
	if logFieldList < 0 {
		return
	}
	list := reflect.ValueOf(from).Elem().Field(logFieldList).Addr().UnsafePointer()
	for _, field := range *(*[]zap.Field)(list) {
		to.Set(field)
	}
}

// logFieldList is the index of the field of ExtraLogFields that holds its list, -1 if there is none
// of that name and type.
var logFieldList = func() int {
	list, ok := reflect.TypeFor[caddyhttp.ExtraLogFields]().FieldByName("fields")
	if !ok || len(list.Index) != 1 || list.Type != reflect.TypeFor[[]zap.Field]() {
		return -1
	}
	return list.Index[0]
}()

var _ httpcache.OriginRequest = (*subrequest)(nil)
