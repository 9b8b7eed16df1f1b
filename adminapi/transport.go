package adminapi

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Transport reaches the admin API at an address in Caddy's notation, as [Client.Address] returns
// it. Whatever host a request's URL has, it goes there.
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
}

// RoundTrip implements http.RoundTripper.
func (c *adminCaller) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host, r.Host = c.host, c.host
	if r.Header.Del("Origin"); c.origin != "" {
		r.Header.Set("Origin", c.origin)
	}
	return c.transport.RoundTrip(r)
}
