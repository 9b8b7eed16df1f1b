package adminapi

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
)

// Transport reaches the admin API at an address in Caddy's notation, as [Client.Address] returns
// it. Whatever host a request's URL has, it goes there. An address that cannot be read, or that has
// a range of ports, is an error.
func Transport(address string) (http.RoundTripper, error) {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil || parsed.PortRangeSize() > 1 {
		return nil, fmt.Errorf("--address %s is no address of an admin API; give one like localhost:2019", Quote(address))
	}
	target, host := parsed.JoinHostPort(0), parsed.JoinHostPort(0)
	origin := "http://" + host
	if parsed.IsUnixNetwork() {
		target, _, _ = strings.Cut(parsed.Host, "|") // behind it stand the socket's permissions
		host, origin = "127.0.0.1", ""               // Caddy accepts that host on a socket, and no origin
	}
	dialer := new(net.Dialer)
	return &adminCaller{host: host, origin: origin, transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, parsed.Network, target)
		},
	}}, nil
}

// adminCaller gives a request the host and origin that Caddy's admin listener wants.
type adminCaller struct {
	host      string
	origin    string // empty: none is sent
	transport http.RoundTripper
	noOrigin  atomic.Bool // the listener has last taken a request without origin, and none with it
}

// RoundTrip implements http.RoundTripper. A listener at all addresses (`admin :2019`) takes no
// origin that names one of them, and one with `enforce_origin` wants the origin. So a request that
// is refused is sent again the other way: Caddy checks the origin before it looks at the rest. A
// reload may change which way it is.
func (c *adminCaller) RoundTrip(r *http.Request) (*http.Response, error) {
	withOrigin := c.origin != "" && !c.noOrigin.Load()
	response, err := c.transport.RoundTrip(c.request(r, withOrigin))
	hasBody := r.Body != nil && r.Body != http.NoBody
	if err != nil || response.StatusCode != http.StatusForbidden || c.origin == "" || hasBody && r.GetBody == nil {
		return response, err
	}
	_ = response.Body.Close()
	again := c.request(r, !withOrigin)
	if hasBody {
		if again.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	if response, err = c.transport.RoundTrip(again); err == nil && response.StatusCode != http.StatusForbidden {
		c.noOrigin.Store(withOrigin)
	}
	return response, err
}

// request is r as it is sent.
func (c *adminCaller) request(r *http.Request, withOrigin bool) *http.Request {
	r = r.Clone(r.Context())
	r.URL.Host, r.Host = c.host, c.host
	if r.Header.Del("Origin"); withOrigin {
		r.Header.Set("Origin", c.origin)
	}
	return r
}
