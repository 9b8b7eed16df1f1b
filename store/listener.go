package store

import (
	"slices"
	"strings"
)

// Host is the client's word: a client that asks a site at one listener may name the host of another
// site, at another. So an entry's URL says at which listener it was asked for, and a selector may
// say so too:
//
//	selector                     selects
//	URL                          the URL, wherever it was asked for
//	URLAt(URL, listener)         the URL as it is asked for there
//	URLElsewhere(URL, servers)   the URL as it is asked for at listeners of other servers
//	TagElsewhere(tag, servers)   what has the tag, as far as it is asked for there
//	AnyQuery(any of the URLs)    the same with every query of its path, and without one
//
// Prefixes and hosts are of URLs and reach every listener.
//
// A listener is that of a server, whose name it begins with, up to a colon. A server may get
// another name, by another configuration. What was stored under the former one is found again when
// that comes back, or at another machine that still has it. The former names are not known, so a
// purge for one server names those that it must not reach: the other servers of today. It holds for
// what any configuration has stored, and at a server that has gone it costs fetches at most.

// AtListener stands between a URL, which has no NUL, and its listener. It sorts before all that a
// longer URL could have in its place, so that the entries of one URL lie side by side.
const AtListener = "\x00"

// atOthers stands between a URL and the servers that URLElsewhere leaves out. No listener begins
// so.
const atOthers = AtListener + "!"

// tagAtOthers begins what TagElsewhere returns: behind it are the servers, a NUL and the tag.
const tagAtOthers = "\x00elsewhere\x00"

// URLAt is url as it is asked for at a listener, for Entry.URL, Selectors.URLs and Purged. An empty
// listener is none.
func URLAt(url, listener string) string {
	if listener == "" {
		return url
	}
	return url + AtListener + listener
}

// Servers are names of servers, each between commas.
type Servers string

// ServersOf are the servers with some names, in whatever order.
func ServersOf(names []string) Servers {
	return Servers("," + strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), ",") + ",")
}

// URLElsewhere is url as it is asked for at listeners of all but some servers, for Selectors.URLs.
func URLElsewhere(url string, servers Servers) string { return url + atOthers + string(servers) }

// TagElsewhere is a tag of what is asked for at listeners of all but some servers, for
// Selectors.Tags.
func TagElsewhere(tag string, servers Servers) string {
	return tagAtOthers + string(servers) + "\x00" + tag
}

// CutURLElsewhere returns what URLElsewhere was called with.
func CutURLElsewhere(selector string) (url string, servers Servers, found bool) {
	url, names, found := strings.Cut(selector, atOthers)
	return url, Servers(names), found
}

// CutTagElsewhere returns the same of TagElsewhere. Any other tag is returned as it is.
func CutTagElsewhere(selector string) (tag string, servers Servers, found bool) {
	rest, found := strings.CutPrefix(selector, tagAtOthers)
	if !found {
		return selector, "", false
	}
	names, tag, _ := strings.Cut(rest, "\x00")
	return tag, Servers(names), true
}

// anyQuery stands in a selector for every query and for none. No URL has this byte.
const anyQuery = "?\x01"

// AnyQuery makes a selector of a URL, which URLAt or URLElsewhere may have made, one of its path
// with any query or none, where that selector reaches.
func AnyQuery(url string) string {
	bare := BareURL(url)
	path, _, _ := strings.Cut(bare, "?")
	return path + anyQuery + url[len(bare):]
}

// isElsewhere tells whether a URL, which says where it was asked for, was so at none of the
// servers.
func isElsewhere(url string, servers Servers) bool {
	_, listener, found := strings.Cut(url, AtListener)
	server, _, _ := strings.Cut(listener, ":")
	return found && !strings.Contains(string(servers), ","+server+",")
}

// BareURL is the URL of one that URLAt or URLElsewhere made.
func BareURL(url string) string {
	bare, _, _ := strings.Cut(url, AtListener)
	return bare
}

// selectsURL tells whether a selector of a URL selects an entry's.
func selectsURL(selector, url string) bool {
	if bare, servers, elsewhere := CutURLElsewhere(selector); elsewhere {
		return selectsURL(bare, url) && isElsewhere(url, servers)
	}
	if path, at, found := strings.Cut(selector, anyQuery); found { // as for AnyQuery(url), and cheaper
		rest, under := strings.CutPrefix(url, path)
		query := BareURL(rest)
		return under && (query == "" || query[0] == '?') && (at == "" || at == rest[len(query):])
	}
	if !strings.HasPrefix(url, selector) {
		return false
	}
	rest := url[len(selector):]
	return rest == "" || rest[0] == AtListener[0] && !strings.Contains(selector, AtListener)
}

// startsOf are the beginnings of all URLs that a selector of a URL selects, where that is told by
// the URL alone. None of them begins with another.
func startsOf(selector string) []string {
	url, _, _ := CutURLElsewhere(selector)
	if path, _, some := strings.Cut(url, anyQuery); some {
		return []string{path + AtListener, path + "?"}
	}
	return []string{url + AtListener}
}

// selectsTag tells whether a selector of a tag selects an entry with it, which has this URL.
func selectsTag(selector, tag, url string) bool {
	bare, servers, elsewhere := CutTagElsewhere(selector)
	return bare == tag && (!elsewhere || isElsewhere(url, servers))
}
