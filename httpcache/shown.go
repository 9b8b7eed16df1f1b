package httpcache

import (
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/larder-cache/larder/rfc9111"
)

// A key has one form of what clients may spell in many: the request target in absolute-form, the
// Host in capitals or with its default port, HEAD and GET. The handlers behind the cache are shown
// that form. Those in front of it have run by then, and may have written what the client sent into
// fields or variables, which the origin gets (`request_header X-Original-URI
// {http.request.orig_uri}`). Then the client's spelling decides about the answer. So a target in
// absolute-form has a key of its own. A Host in another form that can be seen in them bypasses, and
// a HEAD whose method can be seen leads no fetch.

// isOriginForm reports whether a request target has its path and query alone, as nearly all have: a
// client sends another form to proxies (RFC 9112 3.2.2).
func isOriginForm(target *url.URL) bool {
	return target.Scheme == "" && target.Host == "" && target.User == nil
}

// IsUnusual reports whether there may be something to Show of a request.
func (id *Identity) IsUnusual(r *http.Request) bool {
	return r.Host != id.Authority || r.Method == http.MethodHead
}

// Show tells of texts that handlers in front of the cache have made for a request: the values of
// its fields, and of variables that a server keeps beside it.
func (id *Identity) Show(r *http.Request, texts iter.Seq[string]) {
	for text := range texts {
		if r.Method == http.MethodHead && showsHead(text) {
			id.ShowsHead = true
		}
		if r.Host != id.Authority && showsHost(text, r.Host, id.Authority) {
			id.ShowsHost = true
		}
	}
}

// showsHead reports whether a text may have been made of the method: it is that, begins or ends
// with it, as a request line does, or has it quoted or behind a sign. Within a sentence it is a
// word.
func showsHead(text string) bool {
	const head = http.MethodHead
	return text == head || strings.HasPrefix(text, head+" ") || strings.HasSuffix(text, " "+head) ||
		strings.Contains(text, `"`+head+`"`) || strings.Contains(text, "="+head) || strings.Contains(text, ":"+head)
}

// showsHost reports whether a text may have been made of a Host that is spelt otherwise than its
// canonical form. A part of the name counts that is in capitals, and the port with a name before it
// or by itself.
func showsHost(text, host, canonical string) bool {
	name, port, _ := strings.Cut(host, ":")
	if port != "" && text == port {
		return true
	}
	lower := rfc9111.ToLower(text)
	if rest := strings.TrimPrefix(rfc9111.ToLower(host), canonical); rest != "" && strings.Contains(lower, canonical+rest) {
		return true
	}
	for label := range strings.SplitSeq(name, ".") {
		if label != rfc9111.ToLower(label) && strings.Contains(text, label) {
			return true
		}
	}
	return false
}

// valuesOf yields the values of fields.
func valuesOf(h http.Header) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, lines := range h {
			for _, line := range lines {
				if !yield(line) {
					return
				}
			}
		}
	}
}
