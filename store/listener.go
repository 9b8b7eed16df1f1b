package store

import "strings"

// Host is the client's word: a client that asks a site at one listener may name the host of another
// site, at another. So an entry's URL says at which listener it was asked for, and a selector may
// say so too:
//
//	selector                  selects
//	URL                       the URL, wherever it was asked for
//	URLAt(URL, listener)      the URL as it is asked for there
//
// Prefixes and hosts are of URLs and reach every listener.

// AtListener stands between a URL, which has no NUL, and its listener. It sorts before all that a
// longer URL could have in its place, so that the entries of one URL lie side by side.
const AtListener = "\x00"

// URLAt is url as it is asked for at a listener, for Entry.URL, Selectors.URLs and Purged. An empty
// listener is none.
func URLAt(url, listener string) string {
	if listener == "" {
		return url
	}
	return url + AtListener + listener
}

// BareURL is the URL of one that URLAt made.
func BareURL(url string) string {
	bare, _, _ := strings.Cut(url, AtListener)
	return bare
}

// selectsURL tells whether a selector of a URL selects an entry's.
func selectsURL(selector, url string) bool {
	if !strings.HasPrefix(url, selector) {
		return false
	}
	rest := url[len(selector):]
	return rest == "" || rest[0] == AtListener[0] && !strings.Contains(selector, AtListener)
}
