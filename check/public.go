package check

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// checkPurgeMethod finds sites at which too many may purge.
func (c *checker) checkPurgeMethod(s *server, at *handler) {
	p := at.config.PurgeMethod
	if p == nil || s.isLocal(at.entry) {
		return
	}
	for _, prefix := range p.Prefixes() {
		if prefix.Bits() == 0 {
			c.report(at, "purge_method allow", prefix.String(), "allow lets every address purge; name those of your own servers")
		}
	}
	switch {
	case p.Token == "" && s.TrustedProxiesRaw == nil:
		c.report(at, "purge_method", "", "only the address says who may purge, and behind a proxy or load balancer every client has that of the proxy; "+
			"add token, and trusted_proxies where there is one")
	case p.Token == "":
		c.report(at, "purge_method", "", "only the address says who may purge; add token")
	case s.isPlain(at.entry):
		c.report(at, "purge_method", "", "the token travels unencrypted to this site; have PURGE sent by HTTPS, or to a site on a private address")
	}
}

// isLocal reports whether only this machine reaches a handler, by its listeners or its hosts.
func (s *server) isLocal(e *entry) bool {
	local := func(address string) bool {
		parsed, err := caddy.ParseNetworkAddress(address)
		return err == nil && (parsed.IsUnixNetwork() || isLoopback(parsed.Host))
	}
	if len(s.Listen) > 0 && !slices.ContainsFunc(s.Listen, func(a string) bool { return !local(a) }) {
		return true
	}
	hosts := hostsOf(e)
	return len(hosts) > 0 && !slices.ContainsFunc(hosts, func(h string) bool { return !isLoopback(h) })
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.IsLoopback()
}

// hostsOf are the hosts that the routes around a handler name.
func hostsOf(e *entry) (hosts []string) {
	for _, f := range e.frames {
		if list, all := listsOf(f.route().MatcherSetsRaw, "host"); all {
			hosts = append(hosts, list...)
		}
	}
	return hosts
}

// isPlain reports whether a site is served without TLS for certain.
func (s *server) isPlain(e *entry) bool {
	if len(s.TLSConnPolicies) > 0 {
		return false
	}
	if s.AutoHTTPS != nil && s.AutoHTTPS.Disabled || len(hostsOf(e)) == 0 {
		return true
	}
	return !slices.ContainsFunc(s.Listen, func(address string) bool {
		_, port, err := net.SplitHostPort(address)
		return err != nil || port != "80"
	})
}

// checkAdmin finds an admin API that other machines reach: who does may purge everything.
func (c *checker) checkAdmin() {
	if c.admin == nil || c.admin.Disabled || c.admin.Listen == "" {
		return
	}
	parsed, err := caddy.ParseNetworkAddress(c.admin.Listen)
	if err != nil || parsed.IsUnixNetwork() || isLoopback(parsed.Host) || strings.Contains(parsed.Host, "{") {
		return
	}
	place := c.source.Global["admin"].Find("admin", "")
	c.findings = append(c.findings, Finding{
		File: place.File, Line: place.Line, Path: "admin/listen",
		Text: "admin listens at " + c.admin.Listen + ", where other machines reach it, and it does not ask who they are: they may purge, list what is stored and load " +
			"another configuration; write admin localhost:2019, or admin unix//run/caddy/admin.sock",
	})
}
