package rfc9111

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/dunglas/httpsfv"
)

// CacheName is the name of this cache in Cache-Status.
const CacheName = "Larder"

// CacheStatus is the member that this cache appends to Cache-Status (RFC 9211).
type CacheStatus struct {
	// Hit: answered from the store. Otherwise Forward says why not.
	Hit     bool
	Forward Forward
	// FwdStatus is the HTTP status that the origin sent, 0 to leave it out.
	FwdStatus int
	// TTL is the rest of freshness in seconds, negative when stale; it is there if HasTTL. See
	// [CacheStatus.SetTTL].
	HasTTL bool
	TTL    int64
	// Stored: the response is being stored. Collapsed: it was fetched for another.
	Stored, Collapsed bool
	// Key and Detail are left out if empty.
	Key, Detail string
}

// SetTTL sets TTL from a duration such as [Freshness.TTL]. A fresh one is rounded up, so that it
// and a whole Age add up to the lifetime; a stale one down, so that it is negative.
func (c *CacheStatus) SetTTL(d time.Duration) {
	c.HasTTL = true
	c.TTL = int64(d / time.Second)
	switch rest := d % time.Second; {
	case rest > 0:
		c.TTL++
	case rest < 0:
		c.TTL--
	}
}

const cacheStatusField = "Cache-Status"

// Append adds the member to h as its own field line behind those there (RFC 9211 2). Recipients
// must ignore a field that as a whole is no structured field, and ours would be ignored with it. So
// lines that are none are removed, and so are more than 8 KiB of them, which are not checked. The
// slice in h is not written to, it may be shared.
func (c *CacheStatus) Append(h http.Header) {
	lines := h[cacheStatusField]
	if len(lines) > 0 && !isList(lines) {
		lines = nil
	}
	h[cacheStatusField] = append(slices.Clip(lines), c.String())
}

func isList(lines []string) bool {
	if longer(lines, maxField) {
		return false
	}
	list, err := httpsfv.UnmarshalList(lines)
	return err == nil && len(list) > 0
}

// String renders the member: the name, hit or fwd, then fwd-status, ttl, stored, collapsed, key and
// detail, those that are set.
func (c *CacheStatus) String() string {
	var room [64]byte
	b := c.appendOutcome(append(room[:0], CacheName...))
	if c.Stored || c.Collapsed || c.Key != "" || c.Detail != "" {
		b = c.appendOthers(b)
	}
	return string(b)
}

// appendOutcome renders what a hit has.
func (c *CacheStatus) appendOutcome(b []byte) []byte {
	switch {
	case c.Hit:
		b = append(b, "; hit"...)
	case c.Forward != ForwardNone:
		b = append(b, "; fwd="...)
		b = append(b, c.Forward.String()...)
	}
	if c.FwdStatus > 0 {
		b = append(b, "; fwd-status="...)
		b = strconv.AppendInt(b, int64(c.FwdStatus), 10)
	}
	if c.HasTTL {
		b = append(b, "; ttl="...)
		b = strconv.AppendInt(b, c.TTL, 10)
	}
	return b
}

// appendOthers renders the parameters behind those.
func (c *CacheStatus) appendOthers(b []byte) []byte {
	if c.Stored {
		b = append(b, "; stored"...)
	}
	if c.Collapsed {
		b = append(b, "; collapsed"...)
	}
	if c.Key != "" {
		b = appendString(append(b, "; key="...), c.Key)
	}
	if c.Detail == "" {
		return b
	}
	b = append(b, "; detail="...)
	if isSFToken(c.Detail) {
		return append(b, c.Detail...)
	}
	return appendString(b, c.Detail)
}

// appendString renders a structured-field String (RFC 9651 3.3.3). It holds printable ASCII only;
// anything else is percent-encoded, as in a URL.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c > '~':
			b = appendPercent(b, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// isSFToken reports whether s is a structured-field Token (RFC 9651 3.3.4).
func isSFToken(s string) bool {
	if s == "" {
		return false
	}
	first := s[0] | 0x20
	if (first < 'a' || first > 'z') && s[0] != '*' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if !isTokenChar(s[i]) && s[i] != ':' && s[i] != '/' {
			return false
		}
	}
	return true
}
