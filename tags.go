package larder

import (
	"maps"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/larder-cache/larder/rfc9111"
)

// tags are the surrogate keys of a response: those the origin sent, those the directive adds, its
// cache groups (RFC 9875), and those by which a purge of a URL finds what answers for it.
func (x *fetch) tags(header http.Header) []string {
	sent, dropped := rfc9111.Tags(header, x.h.Tags.From)
	tags := make([]string, 0, len(x.h.Tags.Add)+len(sent)+2) // and those of a path
	for _, text := range x.h.Tags.Add {                      // first: an origin with many must not push out the operator's own
		if tag := x.context.replacer.ReplaceAll(text, ""); len(tags) < rfc9111.MaxTags && rfc9111.ValidTag(tag) {
			tags = append(tags, tag)
		} else {
			dropped++
		}
	}
	for _, tag := range sent {
		switch {
		case slices.Contains(tags[:min(len(tags), len(x.h.Tags.Add))], tag):
		case len(tags) < rfc9111.MaxTags:
			tags = append(tags, tag)
		default:
			dropped++
		}
	}
	if dropped > 0 {
		x.h.logger.Warn("some tags of a response are not kept: "+
			"a tag is 1 to 256 bytes of visible ASCII, a response has at most 128",
			zap.Int("dropped", dropped), zap.Int("kept", len(tags)))
	}
	for _, group := range rfc9111.CacheGroups(header, "Cache-Groups") {
		tags = append(tags, groupTag(x.keyed.origin(), x.keyed.listenerName(), group))
	}
	return append(tags, x.searchTags(header)...)
}

// groupTag is a cache group as a tag: internal, as it begins with NUL, and scoped to its origin
// (RFC 9875 2.2), which is one site's only at the listener that the request came in by.
func groupTag(origin, listener, group string) string {
	return "\x00group\x00" + origin + "\x00" + listener + "\x00" + group
}

// withoutTags leaves out the fields that carry tags, unless the handler is to keep them. It writes
// to the list.
func (h *Handler) withoutTags(fields []field) []field {
	if h.Tags.KeepHeaders {
		return fields
	}
	return slices.DeleteFunc(fields, func(f field) bool { return slices.Contains(h.Tags.From, f.name) })
}

// trailersWithoutTags are trailer fields without those that carry tags, unless the handler is to
// keep them.
func (h *Handler) trailersWithoutTags(trailer http.Header) http.Header {
	for _, name := range h.Tags.From {
		if _, ok := trailer[name]; ok && !h.Tags.KeepHeaders {
			own := maps.Clone(trailer)
			h.stripTags(own)
			return own
		}
	}
	return trailer
}

// stripTags removes the fields that carry tags, unless the handler is to keep them.
func (h *Handler) stripTags(header http.Header) {
	if h.Tags.KeepHeaders {
		return
	}
	for _, name := range h.Tags.From {
		delete(header, name)
	}
}
