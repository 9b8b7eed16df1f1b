package httpcache

import (
	"net/http"
	"strings"

	"github.com/larder-cache/larder/rfc9111"
)

// forwardedFields tell an origin under which scheme, host, port or prefix it is asked, and some by
// which method, path or URL. Origins build redirects and links from them without naming them in
// Vary. A proxy in front sends them on every request, so the cache can neither remove them nor let
// such requests bypass. They are part of the key (C1, C24). That costs nothing where the proxy
// always sends the same values, or those of the request that are in the key anyway. Those with the
// whole URL (X-Original-Uri, X-Envoy-Original-Path) bring back what `query` leaves out of the key.
//
// Fields about the client's address are not among them, nor is what Forwarded says of it: each
// client would get a cache of its own.
var forwardedFields = [...]string{
	"Cf-Visitor", "Cloudfront-Forwarded-Proto", "Forwarded", "Front-End-Https", "X-Arr-Ssl",
	"X-Base-Path", "X-Context-Path", "X-Envoy-Original-Path", "X-Forwarded-Context",
	"X-Forwarded-Host", "X-Forwarded-Method", "X-Forwarded-Path", "X-Forwarded-Port",
	"X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Scheme",
	"X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Uri", "X-Forwarded-Url", "X-Host",
	"X-Http-Host-Override", "X-Ingress-Path", "X-Ms-Original-Url", "X-Original-Host",
	"X-Original-Method", "X-Original-Proto", "X-Original-Scheme", "X-Original-Uri", "X-Proto",
	"X-Replaced-Path", "X-Request-Uri", "X-Scheme", "X-Script-Name", "X-Url-Scheme",
	"X-Waws-Unencoded-Url",
}

// forwarded writes the forwarded fields that the request has, each with its name.
func (b *keyBytes) forwarded(h http.Header) {
	for _, name := range forwardedFields {
		values := h[name]
		if len(values) == 0 {
			continue
		}
		if name == "Forwarded" {
			values = withoutNodes(values)
		}
		b.name(name)
		b.part(name).texts(values)
	}
}

// withoutNodes returns the lines of Forwarded (RFC 7239) without what names the client (`for`) or a
// proxy (`by`). The elements keep their places, also where nothing is left of one: an origin may
// read the first, the last, or the nearest that it does not trust. Each pair that stays, an empty
// one too, has a semicolon behind it.
//
// Pairs are split at a semicolon or comma within a quoted string too, and stand as they were sent
// otherwise. That only makes more of the field count.
func withoutNodes(lines []string) []string {
	kept := make([]string, len(lines))
	for i, line := range lines {
		var b strings.Builder
		first := true
		for element := range strings.SplitSeq(line, ",") {
			if !first {
				b.WriteByte(',')
			}
			first = false
			for pair := range strings.SplitSeq(element, ";") {
				if !namesNode(pair) {
					b.WriteString(pair)
					b.WriteByte(';')
				}
			}
		}
		kept[i] = b.String()
	}
	return kept
}

// namesNode reports whether a pair is `for` or `by` with a node, and no more than that. Another
// value may be the half of a quoted string, or have a `host=` in it that an origin looks for.
func namesNode(pair string) bool {
	name, node, _ := strings.Cut(rfc9111.TrimOWS(pair), "=")
	if !rfc9111.EqualFold(name, "for") && !rfc9111.EqualFold(name, "by") {
		return false
	}
	if len(node) > 1 && node[0] == '"' && node[len(node)-1] == '"' {
		node = node[1 : len(node)-1]
	}
	return node != "" && strings.Trim(node, nodeChars) == ""
}

// nodeChars are the characters of addresses, ports and obfuscated names (RFC 7239 6).
const nodeChars = ".:[]_-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
