package httpcache

import (
	"log/slog"
	"maps"
	"net/http"
	"slices"

	"github.com/larder-cache/larder/rfc9111"
)

// tags returns the surrogate keys of a response: those that the origin sent, those that the route
// adds for all or for an item, its cache groups (RFC 9875), and those by which a purge of a URL
// finds a response that answers for it.
func (x *Fetch) tags(header http.Header) []string {
	sent, dropped := rfc9111.Tags(header, x.route.Tags.From)
	ofItem := x.batchTags()
	tags := make([]string, 0, len(x.route.Tags.Add)+len(ofItem)+len(sent)) // mostly there is none
	// The operator's tags come first: an origin with many must not push them out.
	for _, text := range x.route.Tags.Add {
		if tag := x.origin.Expand(text); len(tags) < rfc9111.MaxTags && rfc9111.ValidTag(tag) {
			tags = append(tags, tag)
		} else {
			dropped++
		}
	}
	tags = append(tags, ofItem[:min(len(ofItem), rfc9111.MaxTags-len(tags))]...)
	own := len(tags)
	for _, tag := range sent {
		switch {
		case slices.Contains(tags[:own], tag):
		case len(tags) < rfc9111.MaxTags:
			tags = append(tags, tag)
		default:
			dropped++
		}
	}
	if dropped > 0 {
		x.route.Logger.Warn("some tags of a response are not kept: "+
			"a tag is 1 to 256 bytes of visible ASCII, a response has at most 128",
			slog.Int("dropped", dropped), slog.Int("kept", len(tags)))
	}
	if tag := x.keyed.content.tag(); tag != "" && rfc9111.ValidTag(tag) && !slices.Contains(tags, tag) {
		tags = append(tags, tag)
	}
	for _, group := range rfc9111.CacheGroups(header, "Cache-Groups") {
		origin := x.keyed.Site.origin()
		tags = append(tags, groupTag(origin, x.keyed.listenerName(), group), groupTag(origin, "", group))
	}
	return append(tags, x.searchTags(header)...)
}

// groupTag is a cache group as a tag. It begins with NUL, which makes it internal. It is scoped to
// its origin (RFC 9875 2.2), which is one site only at the listener that the request came in by.
// With an empty listener it is that of all, as for purges at a server of before.
func groupTag(origin, listener, group string) string {
	return "\x00group\x00" + origin + "\x00" + listener + "\x00" + group
}

// withoutTags leaves out the fields that carry tags, unless the route keeps them. It writes to the
// list.
func (rt *Route) withoutTags(fields []field) []field {
	return slices.DeleteFunc(fields, func(f field) bool { return rt.Tags.strips(f.name) })
}

// trailersWithoutTags returns the trailer fields without those that carry tags, unless the route
// keeps them.
func (rt *Route) trailersWithoutTags(trailer http.Header) http.Header {
	for _, name := range rt.Tags.From {
		if _, ok := trailer[name]; ok && rt.Tags.strips(name) {
			own := maps.Clone(trailer)
			rt.stripTags(own)
			return own
		}
	}
	return trailer
}

// stripTags removes the fields that carry tags, unless the route keeps them.
func (rt *Route) stripTags(header http.Header) {
	for _, name := range rt.Tags.From {
		if _, ok := header[name]; ok && rt.Tags.strips(name) {
			delete(header, name)
		}
	}
}
