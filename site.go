package larder

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/urlform"
)

// site is scheme and authority of the URLs under which responses are stored: what people call the
// site. Behind a proxy that ends TLS, or that asks for another host, that is not what Caddy is
// asked for, and a purge of https://example.com/ would find nothing.
type site struct{ scheme, authority string }

// fromTrustedProxy reports whether the request comes from one of the server's trusted_proxies.
func fromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// forwarded is the site that a trusted proxy names by X-Forwarded-Proto and X-Forwarded-Host. A
// claim that is no scheme or no authority is as if it were not there.
func (s site) forwarded(h http.Header) site {
	if scheme := strings.ToLower(nearest(h["X-Forwarded-Proto"])); scheme == "http" || scheme == "https" {
		s.scheme = scheme
	}
	for _, host := range [...]string{nearest(h["X-Forwarded-Host"]), s.authority} {
		if authority, err := urlform.Authority(s.scheme, host); err == nil {
			s.authority = authority
			break
		}
	}
	return s
}

// nearest is the last member of a list, which the proxy has added that is trusted; those before it
// may be its client's own.
func nearest(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	last := lines[len(lines)-1]
	return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
}
