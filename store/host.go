package store

import "strings"

// A selector of hosts is an authority without a scheme, and means what a client would write so:
//
//	selector       selects
//	example.com    http://example.com and https://example.com
//	example.com:N  http://example.com:N and https://example.com:N, of which the one with
//	               N as its default port has no port in the URLs of entries

// defaultPorts are those that the URLs of entries have not.
var defaultPorts = map[string]string{"http": ":80", "https": ":443"}

// selectsHost tells whether a selector of a host selects a URL.
func selectsHost(selector, url string) bool {
	host := HostOf(url)
	return host == selector || len(host) < len(selector) && strings.HasPrefix(selector, host) && withPort(url) == selector
}

// hostPrefixes are the beginnings of the URLs of an authority; what follows may still be more of
// the authority, so ask selectsHost.
func hostPrefixes(host string) [2]string {
	return [2]string{
		"http://" + strings.TrimSuffix(host, defaultPorts["http"]),
		"https://" + strings.TrimSuffix(host, defaultPorts["https"]),
	}
}

// withPort is HostOf with the default port where the URL has none.
func withPort(url string) string {
	host := HostOf(url)
	if strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']') {
		return host
	}
	scheme, _, _ := strings.Cut(url, "://")
	return host + defaultPorts[scheme]
}

// HostOf is the authority of an absolute URL, with its port where the URL has one.
func HostOf(url string) string {
	_, rest, found := strings.Cut(url, "://")
	if !found {
		return ""
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		return rest[:end]
	}
	return rest
}
