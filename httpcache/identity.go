package httpcache

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/urlform"
)

// Identity is what a server knows about the URL that a request asks for and where the request came
// in, beyond the request itself.
type Identity struct {
	// URL has path and query as the client sent them, before any rewrite.
	URL *url.URL
	// Authority is the request's Host, in its canonical form.
	Authority string
	// Site is scheme and authority of the URL by which a response is purged and listed.
	Site Site
	// Listener is where the connection came in. The client chooses Host, so Host alone would let
	// two sites share responses.
	Listener Listener
	// Purgeable says that the request asks for a URL that a purge could name.
	Purgeable bool
	// TLS says that the client spoke https to the server.
	TLS bool
	// Trusted says that a trusted proxy made the request's claims about scheme or host.
	Trusted bool
	// Dotted says that the Host had a trailing dot. To the matchers of a server, such as Caddy's,
	// example.com. is another name than example.com. So the request may have come to another site,
	// or past other handlers in front of the cache.
	Dotted bool
	// ShowsHost says that handlers in front of the cache have shown what comes behind the Host as
	// it was sent, which is not in its canonical form, and ShowsHead the method of a HEAD: see
	// shown.go.
	ShowsHost, ShowsHead bool
	// ErrorStatus is the status of the error that the request has ended in, where it comes from the
	// server's routes for errors, else 0. What answers an error is no answer for the URL.
	ErrorStatus uint16
	// Branch names the server's routes that the request has come to by what a response to it says,
	// or behind another cache. They answer the URL otherwise. It is empty in the main ones.
	Branch string
}

// Listener is where a connection came in: a server, and its port or the path of its socket. The
// port alone does not identify it. Two servers may use the same port at different addresses, and
// behind the PROXY protocol the port is what that protocol's header says.
type Listener struct {
	// Server names the server; it stays the same across restarts. It has no colon.
	Server string
	Port   int    // 0 for a socket
	Socket string // the path, empty for a port
}

// Site is scheme and authority of the URLs under which responses are stored: what people call the
// site. Behind a proxy that ends TLS, or that asks for another host, the server is asked for
// another URL than the client asked for. A purge of https://example.com/ would then find nothing.
type Site struct{ Scheme, Authority string }

// IdentityOf is the identity of a request to a plain net/http server.
func IdentityOf(r *http.Request) Identity { return Identify(r, r.URL, false) }

// Identify makes the identity of r. client is the URL as the client sent it. trusted says that r
// came from a trusted proxy.
func Identify(r *http.Request, client *url.URL, trusted bool) Identity {
	id := Identity{URL: client, TLS: r.TLS != nil, Listener: listenerOf(r), Dotted: dotted(r.Host)}
	authority, err := urlform.Authority(id.scheme(), r.Host)
	id.Authority, id.Site = authority, Site{id.scheme(), authority}
	id.Purgeable = err == nil && namesURL(client)
	if id.IsUnusual(r) {
		id.Show(r, valuesOf(r.Header))
	}
	if h := r.Header; trusted && len(h["X-Forwarded-Proto"])+len(h["X-Forwarded-Host"]) > 0 {
		id.Trusted, id.Site = true, id.Site.forwarded(h)
	}
	return id
}

// namesURL reports whether a purge could name the request target. Other targets reach handlers as
// they are, and what is stored of them would outlive every purge of its host. They are
// asterisk-form (`GET *`), authority-form (`GET host:80`), a target without a slash in front (`GET
// http:one`), another scheme than http and https, and a Host that is empty or that no URL can have
// (RFC 9112 3.2). Absolute-form is the URL of its authority: net/http has put that into Host.
func namesURL(u *url.URL) bool {
	switch {
	case u.Opaque != "":
		return false
	case u.Scheme == "":
		return strings.HasPrefix(u.Path, "/")
	}
	return (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && (u.Path == "" || u.Path[0] == '/')
}

// reachesPath reports whether the origin is asked for a path under which something may be stored at
// a site. A proxy asks the origin for it whatever scheme stands in the request target (`POST
// ftp://example.com/a`, `POST http:/a`), also where such a target is answered from no store.
func (id *Identity) reachesPath() bool {
	path := id.URL.Path
	return id.URL.Opaque == "" && (path == "" || path[0] == '/')
}

// nameIn returns the name that servers read in a Host of which no URL can be made (example.com:0,
// [example.com]:80): what stands before the port, without brackets. Matchers of names, Caddy's
// among them, take such a Host for that name, and so may origins. An IPv6 address has its brackets.
func nameIn(host string) string {
	name, _, bracketed := strings.Cut(strings.TrimPrefix(host, "["), "]")
	address, _, _ := strings.Cut(name, "%")
	if addr, err := netip.ParseAddr(address); err == nil && addr.Is6() {
		return "[" + address + "]"
	}
	if !bracketed {
		name, _, _ = strings.Cut(name, ":")
	}
	return name
}

// dotted reports whether the name in a Host has a trailing dot.
func dotted(host string) bool { return strings.HasSuffix(host, ".") || strings.Contains(host, ".:") }

// scheme is the scheme in which the client spoke to the server.
func (id *Identity) scheme() string {
	if id.TLS {
		return "https"
	}
	return "http"
}

// listenerOf tells where the request's connection came in.
func listenerOf(r *http.Request) Listener {
	switch addr := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr:
		return Listener{Port: addr.Port}
	case *net.UDPAddr: // HTTP/3
		return Listener{Port: addr.Port}
	case net.Addr:
		return Listener{Socket: addr.String()}
	}
	return Listener{}
}

// forwarded is the site that a trusted proxy names by X-Forwarded-Proto and X-Forwarded-Host. A
// claim that is not a scheme or not an authority is ignored.
func (s Site) forwarded(h http.Header) Site {
	if scheme := rfc9111.ToLower(nearest(h["X-Forwarded-Proto"])); scheme == "http" || scheme == "https" {
		s.Scheme = scheme
	}
	for _, host := range [...]string{nearest(h["X-Forwarded-Host"]), s.Authority} {
		if authority, err := urlform.Authority(s.Scheme, host); err == nil {
			s.Authority = authority
			break
		}
	}
	return s
}

// nearest is the last member of a list. The trusted proxy added it; those before it may come from
// the proxy's client.
func nearest(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	last := lines[len(lines)-1]
	return rfc9111.TrimOWS(last[strings.LastIndexByte(last, ',')+1:])
}

// origin is scheme and authority as a URL begins with them.
func (s Site) origin() string { return s.Scheme + "://" + s.Authority }

// listenerName names where the request came in, in the form that the URLs of entries have
// (store.URLAt): the listener, and a dot if the Host had one behind it.
func (id *Identity) listenerName() string { return string(id.appendListenerName(nil)) }

func (id *Identity) appendListenerName(b []byte) []byte {
	b = append(append(b, id.Listener.Server...), ':')
	if b = append(b, id.Listener.Socket...); id.Listener.Socket == "" {
		b = strconv.AppendInt(b, int64(id.Listener.Port), 10)
	}
	if id.Dotted {
		b = append(b, '.')
	}
	return b
}
