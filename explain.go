package larder

import (
	"context"
	"errors"
	"fmt"
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

	"github.com/larder-cache/larder/adminapi"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/inspect"
)

// servers are those of the running configuration, none where it has no HTTP app.
func (t adminView) servers() map[string]*caddyhttp.Server {
	app, err := t.ctx.AppIfConfigured("http")
	if err != nil {
		return nil
	}
	return app.(*caddyhttp.App).Servers
}

// Explain implements inspect.Explainer. It sends a request through the routes of the server that
// the URL names, in this process: explainroutes.go has how.
func (t adminView) Explain(ctx context.Context, q inspect.Question) (inspect.Explained, error) {
	target, err := parseTarget(q.URL)
	if err != nil {
		return inspect.Explained{}, err
	}
	servers := t.servers()
	if len(servers) == 0 {
		return verdictOf("Not Larder's: no site runs, because the configuration has no HTTP server."), nil
	}
	site, err := findSite(servers, target, q.Listen)
	if err != nil {
		return inspect.Explained{}, err
	}
	if site == nil {
		return verdictOf(fmt.Sprintf(
			"Not Larder's: nothing listens at port %d; %s. To change that: send the URL by which clients come to Caddy, or with listen (`--listen`) where a proxy in front has the port.",
			portOf(target), listening(servers),
		)), nil
	}
	run, err := t.explainOnce(ctx, site, target, &q)
	if err != nil {
		return inspect.Explained{}, err
	}
	first := run.explained(site)
	switch {
	case run.trace == nil:
		return first, nil
	case q.Fetch:
		return t.explainAgain(ctx, first, site, target, q)
	case run.trace.Missed() && site.behindTLS(target, &q):
		return t.explainForwarded(ctx, first, site, target, q)
	}
	return first, nil
}

// explainAgain completes the explanation of a request that was answered by what the next one gets.
func (t adminView) explainAgain(
	ctx context.Context, first inspect.Explained, site *explainedSite, target *url.URL, q inspect.Question,
) (inspect.Explained, error) {
	q.Fetch = false
	run, err := t.explainOnce(ctx, site, target, &q)
	if err != nil {
		return inspect.Explained{}, err
	}
	next := run.explained(site)
	first.Steps = append(first.Steps, inspect.ExplainedStep{Question: "and the next request?", Answer: next.Verdict})
	first.Key, first.Entry = next.Key, next.Entry
	return first, nil
}

// explainOnce sends the request through the routes.
func (t adminView) explainOnce(ctx context.Context, site *explainedSite, target *url.URL, q *inspect.Question) (*explainedRun, error) {
	r, err := site.request(ctx, target, q)
	if err != nil {
		return nil, err
	}
	run := &explainedRun{ctx: t.ctx, server: site.server, fetch: q.Fetch}
	return run, run.do(r)
}

func verdictOf(sentence string) inspect.Explained {
	return inspect.Explained{Verdict: sentence, Steps: []inspect.ExplainedStep{}}
}

// parseTarget reads the URL of a question.
func parseTarget(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case !strings.Contains(text, "://"):
		return nil, errors.New("the URL has no scheme; send a whole one such as https://example.com/path")
	case err != nil:
		return nil, errors.New("the URL cannot be read; send one such as https://example.com/path")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the URL has the scheme %s, which no site serves; send http or https", adminapi.Quote(u.Scheme))
	case u.Hostname() == "":
		return nil, errors.New("the URL has no host; send a whole one such as https://example.com/path")
	}
	return u, nil
}

func portOf(u *url.URL) int {
	if port, err := strconv.Atoi(u.Port()); err == nil {
		return port
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}

// explainedSite is where a request comes in.
type explainedSite struct {
	server *caddyhttp.Server
	local  net.Addr
	tls    bool
}

// findSite finds the server that listens where a URL leads, or at an address of the configuration.
// It is nil where none does.
func findSite(servers map[string]*caddyhttp.Server, target *url.URL, listen string) (*explainedSite, error) {
	var found []*explainedSite
	var addresses []string
	for _, server := range servers {
		for _, address := range server.Listen {
			if local := localAddr(address, portOf(target), listen); local != nil {
				found = append(found, &explainedSite{server, local, len(server.TLSConnPolicies) > 0})
				addresses = append(addresses, address)
			}
		}
	}
	if listen == "" && len(found) > 1 { // of several, one that speaks as the URL says
		found = slices.DeleteFunc(found, func(s *explainedSite) bool { return s.tls != (target.Scheme == "https") })
	}
	switch {
	case len(found) == 0 && listen != "":
		return nil, fmt.Errorf("no server has the listener %s; %s, so send \"listen\" (--listen) with one of these", adminapi.Quote(listen), listening(servers))
	case len(found) == 0:
		return nil, nil
	case listen == "" && slices.ContainsFunc(found, func(s *explainedSite) bool { return s.server != found[0].server }):
		slices.Sort(addresses)
		return nil, fmt.Errorf("several servers listen at port %d; send \"listen\" (--listen) with one of %s", portOf(target), strings.Join(addresses, ", "))
	case listen == "" && found[0].tls != (target.Scheme == "https"):
		return nil, fmt.Errorf("the server at port %d does not speak %s; send the URL with the other scheme, or \"listen\" (--listen)", portOf(target), target.Scheme)
	}
	return found[0], nil
}

// localAddr is the address of a listener at which a request comes in: where listen is given, that
// listener's, otherwise the port's. It is nil for another listener.
func localAddr(address string, port int, listen string) net.Addr {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return nil
	}
	if parsed.IsUnixNetwork() {
		if listen == address {
			return &net.UnixAddr{Name: parsed.Host, Net: "unix"}
		}
		return nil
	}
	if wanted, err := caddy.ParseNetworkAddress(listen); listen != "" {
		if err != nil || wanted != parsed {
			return nil
		}
		port = int(parsed.StartPort)
	}
	if port < int(parsed.StartPort) || port > int(parsed.EndPort) {
		return nil
	}
	return &net.TCPAddr{IP: net.ParseIP(parsed.Host), Port: port}
}

// listening lists where the configuration listens.
func listening(servers map[string]*caddyhttp.Server) string {
	var addresses []string
	for _, server := range servers {
		addresses = append(addresses, server.Listen...)
	}
	if len(addresses) == 0 {
		return "the configuration has no site"
	}
	slices.Sort(addresses)
	return "the configuration listens at " + strings.Join(slices.Compact(addresses), ", ")
}

// request makes the request that a client would send, as Caddy's server hands it to its routes.
func (s *explainedSite) request(ctx context.Context, target *url.URL, q *inspect.Question) (*http.Request, error) {
	uri := target.RequestURI()
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return nil, errors.New("the path of the URL cannot be read; send one that begins with a slash")
	}
	r := &http.Request{
		Method: q.Method, URL: u, RequestURI: uri, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: q.Headers.Clone(), Host: target.Host, RemoteAddr: net.JoinHostPort(clientOf(q), "1"), Body: http.NoBody,
	}
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
		r.Header.Del("Host")
	}
	r.ContentLength = int64(len(q.Body))
	if n, err := strconv.ParseInt(r.Header.Get("Content-Length"), 10, 64); err == nil && q.Body == "" {
		r.ContentLength = n // what is in it is not known
	}
	if r.ContentLength > 0 {
		r.Body = io.NopCloser(strings.NewReader(q.Body))
	}
	if s.tls {
		r.TLS = connectionState(target.Hostname())
	}
	withoutAliases(r.Header, s.server)
	return r.WithContext(context.WithValue(ctx, http.LocalAddrContextKey, s.local)), nil
}

func clientOf(q *inspect.Question) string {
	if q.Client != "" {
		return q.Client
	}
	return "127.0.0.1"
}

// withoutAliases removes the fields that Caddy's server takes out before its routes: those whose
// names CGI would write as another's.
func withoutAliases(h http.Header, server *caddyhttp.Server) {
	for name := range h {
		if strings.ContainsRune(name, '_') && len(server.ExpectedUnderscoreHeaders) == 0 ||
			strings.ContainsRune(name, '.') && len(server.ExpectedDotHeaders) == 0 {
			delete(h, name)
		}
	}
}

// explained renders what has become of the request.
func (x *explainedRun) explained(site *explainedSite) inspect.Explained {
	switch {
	case x.purge != nil:
		return inspect.Explained{Verdict: x.purge.Verdict, Steps: append(x.steps(), x.purge.Steps...)}
	case x.trace == nil:
		return inspect.Explained{Verdict: x.verdict(), Steps: x.steps()}
	}
	e := x.trace.Explanation()
	out := inspect.Explained{Verdict: e.Verdict, Steps: x.steps(), Key: explainedKey(&e)}
	for _, s := range e.Steps {
		out.Steps = append(out.Steps, inspect.ExplainedStep(s))
	}
	if e.Stored != nil {
		now := time.Now()
		entry := listed(e.Stored, now)
		entry.Hits, entry.Zone = hitCounts(x.handler.Zone, now)[entry.URL], x.handler.Zone
		out.Entry = &entry
	}
	return out
}

func explainedKey(e *httpcache.Explanation) *inspect.EntryKey {
	if e.Hash == "" {
		return nil
	}
	key := &inspect.EntryKey{Hash: e.Hash}
	for _, p := range e.Key {
		key.Parts = append(key.Parts, inspect.EntryKeyPart{Part: p.Name, Values: p.Values})
	}
	return key
}
