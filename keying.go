package larder

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/httpcache"
)

// identify makes the identity of a request, which is at s, from what Caddy knows about it.
func (h *Handler) identify(r *http.Request, s *standing, id *httpcache.Identity) {
	claims := len(r.Header["X-Forwarded-Proto"])+len(r.Header["X-Forwarded-Host"]) > 0
	client, trusted := clientURL(r), claims && fromTrustedProxy(r)
	*id = httpcache.Identify(r, client, trusted)
	if id.IsUnusual(r) {
		id.Show(r, textsOf(varsOf(r.Context())))
		h.branch.show(r, id)
	}
	id.Listener.Server, id.Branch = h.server(), s.branchFor(r)
	if s.errors {
		id.ErrorStatus = errorStatus(r)
	}
}

// textsOf yields the vars of a request that are texts.
func textsOf(vars map[string]any) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, value := range vars {
			if text, ok := value.(string); ok && !yield(text) {
				return
			}
		}
	}
}

// errorStatus returns the status of the error that brought a request to handle_errors, else 0.
func errorStatus(r *http.Request) uint16 {
	err, failed := r.Context().Value(caddyhttp.ErrorCtxKey).(error)
	if !failed {
		return 0
	}
	if handlerErr, ok := errors.AsType[caddyhttp.HandlerError](err); ok && handlerErr.StatusCode > 0 {
		return uint16(handlerErr.StatusCode)
	}
	return http.StatusInternalServerError
}

// clientURL returns the URL as the client sent it, before any rewrite.
func clientURL(r *http.Request) *url.URL {
	orig := r.Context().Value(caddyhttp.OriginalRequestCtxKey)
	if orig == nil {
		return r.URL
	}
	// Nothing but Caddy has the key, and a look at the type would copy the request once more.
	return cmp.Or(orig.(http.Request).URL, r.URL)
}

// fromTrustedProxy reports whether the request comes from one of the server's trusted_proxies.
func fromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// serverOf returns the server that the request came to, nil if there is none.
func serverOf(r *http.Request) *caddyhttp.Server {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return server
}

// serverName names a server by the addresses that it is configured to listen at. So stored
// responses are found again after a reload and a restart: Caddy's own names are numbers, which
// change with the sites of a Caddyfile. The name is short, because the URL of each entry ends with
// it. A nil server has an empty name.
func serverName(server *caddyhttp.Server) string {
	if server == nil {
		return ""
	}
	return nameOf(server.Listen)
}

func nameOf(addresses []string) string {
	sum := sha256.Sum256([]byte(strings.Join(slices.Sorted(slices.Values(addresses)), "\n")))
	return hex.EncodeToString(sum[:8])
}

// sharedServerName names a server of a node of a fleet, by its ports: the nodes have addresses of
// their own, and share what came in by the same ports. Where another server of this node has the
// same ports the addresses tell them apart, as they do without a fleet.
func sharedServerName(server *caddyhttp.Server, all map[string]*caddyhttp.Server) string {
	if server == nil {
		return ""
	}
	name := nameOf(withoutHosts(server.Listen))
	for _, other := range all {
		if other != server && nameOf(withoutHosts(other.Listen)) == name {
			return serverName(server)
		}
	}
	return name
}

// withoutHosts leaves the hosts out of addresses.
func withoutHosts(addresses []string) []string {
	without := make([]string, len(addresses))
	for i, address := range addresses {
		without[i] = address
		if parsed, err := caddy.ParseNetworkAddress(address); err == nil && !parsed.IsUnixNetwork() && !parsed.IsFdNetwork() {
			without[i] = caddy.JoinNetworkAddress(parsed.Network, "", strconv.FormatUint(uint64(parsed.StartPort), 10)+"-"+strconv.FormatUint(uint64(parsed.EndPort), 10))
		}
	}
	return without
}
