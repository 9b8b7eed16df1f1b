package httpcache

import (
	"crypto/sha256"
	"net/http"
	"strings"

	"github.com/larder-cache/larder/store"
)

// A response with No-Vary-Search answers for URLs by which it was not asked for. A purge of one of
// these has to reach it. Only the response knows which they are: a hint is lost in a restart, and a
// response on its way has not given one yet. So the response carries a tag of its path, and a purge
// of a URL purges that tag as well: it takes every response of the path that has the field.

const searchTagPrefix = "\x00search\x00"

// searchTag is the tag for the path of an absolute URL: at the listener or the servers that the URL
// names, or at any.
func searchTag(url string) string {
	if bare, servers, elsewhere := store.CutURLElsewhere(url); elsewhere {
		return store.TagElsewhere(searchTag(bare), servers)
	}
	bare := store.BareURL(url)
	path, _, _ := strings.Cut(bare, "?")
	sum := sha256.Sum256([]byte(store.URLAt(path, strings.TrimPrefix(url[len(bare):], store.AtListener))))
	return searchTagPrefix + string(sum[:16])
}

// searchTags are the tags that a response to the fetch carries if it has No-Vary-Search.
func (x *Fetch) searchTags(header http.Header) []string {
	if x.says(header).IsDefault() {
		return nil
	}
	return []string{searchTag(x.url), searchTag(store.BareURL(x.url))}
}

// ReachSearched adds to selectors the tags by which their URLs reach responses with No-Vary-Search.
// URLs of one path have the same tag, and mostly follow each other; the store takes each selector
// once.
func ReachSearched(selectors *store.Selectors) {
	var last, before string // at the listener and elsewhere, in turn
	for _, url := range selectors.URLs {
		if tag := searchTag(url); tag != last && tag != before {
			selectors.Tags = append(selectors.Tags, tag)
			last, before = tag, last
		}
	}
}
