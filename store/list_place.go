package store

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// place is a position in listing order; that of a tag has no URL.
type place struct {
	url string
	id  uint64
}

func (p place) compare(o place) int {
	return cmp.Or(strings.Compare(p.url, o.url), cmp.Compare(p.id, o.id))
}

func (p place) cursor(f *Filter) string {
	raw := idBytes(p.id)
	if f.Tag == "" {
		raw = urlRowKey(p.url, p.id)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func decodeCursor(f *Filter, cursor string) (p place, err error) {
	if cursor == "" {
		return place{}, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	switch {
	case err != nil:
		return place{}, ErrCursor
	case f.Tag != "" && len(raw) == 8:
		return place{id: binary.BigEndian.Uint64(raw)}, nil
	case f.Tag != "":
		return place{}, ErrCursor
	}
	url, id, ok := cutURLRowKey(raw)
	if !ok {
		return place{}, ErrCursor
	}
	return place{url, id}, nil
}
