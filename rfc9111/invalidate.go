package rfc9111

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Invalidates reports whether a response invalidates what is stored for its target (RFC 9111 4.4):
// a non-error answer to a method that is not known to be safe. A 101 counts: the answer itself
// comes in the other protocol (RFC 9110 7.8), where no cache sees its status.
func Invalidates(method string, status int) bool {
	return !isSafe(method) && (status >= 200 && status < 400 || status == http.StatusSwitchingProtocols)
}

// isSafe lists the methods that IANA's registry calls safe. Methods are case-sensitive, and an
// unknown one is unsafe.
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace,
		"QUERY", "PROPFIND", "REPORT", "SEARCH", "PRI":
		return true
	}
	return false
}

// maxReferences is how many lines of a field are looked at; a field has one URL.
const maxReferences = 8

// InvalidatedURLs returns what else such a response invalidates (RFC 9111 4.4): the URLs in its
// Location and Content-Location that have the origin of the absolute target. Those of other origins
// are ignored, because any origin could name them. A field has one URL; more than eight, and what
// is longer than 8 KiB, are ignored.
//
// The URLs are absolute, without fragment. Scheme and host are in lower case, without the default
// port and a trailing dot. Path and query are as written, but for bytes that no URL may have, which
// are percent-encoded.
func InvalidatedURLs(target *url.URL, h http.Header) []string {
	var urls []string
	for _, name := range [...]string{"Location", "Content-Location"} {
		for _, line := range h[name][:min(len(h[name]), maxReferences)] {
			if len(line) > maxField { // to resolve dots in a path costs its square
				continue
			}
			ref, err := url.Parse(encodeReference(TrimOWS(line)))
			if err != nil {
				continue
			}
			u := target.ResolveReference(ref)
			if u.Opaque != "" || u.User != nil || origin(u) != origin(target) {
				continue
			}
			if s := absolute(u); !slices.Contains(urls, s) {
				urls = append(urls, s)
			}
		}
	}
	return urls
}

// encodeReference percent-encodes what a reference may not have as it is: many origins put raw
// UTF-8 into Location. Left to url.URL, one such byte has the whole path encoded anew, and /(ü
// becomes /%28%C3%BC. A # begins the fragment, here as well as there.
func encodeReference(ref string) string {
	path, query, hasQuery := strings.Cut(ref, "?")
	path = PercentEncode(path, func(c byte) bool { return c == '#' || standsInPath(c) })
	if !hasQuery {
		return path
	}
	return path + "?" + PercentEncode(query, func(c byte) bool { return c == '#' || standsInQuery(c) })
}

// absolute renders a URL as the key of a stored response has it.
func absolute(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	s := origin(u) + path
	if u.RawQuery != "" || u.ForceQuery {
		s += "?" + u.RawQuery
	}
	return s
}

// origin is scheme, host and port (RFC 9110 4.3.1), normalised.
func origin(u *url.URL) string {
	scheme := ToLower(u.Scheme)
	host := strings.TrimSuffix(ToLower(u.Hostname()), ".")
	port := u.Port()
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		port = ""
	}
	switch {
	case port != "":
		host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	return scheme + "://" + host
}
