package httpcache

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A slice is asked for as the head was, so that clients which spell a field otherwise do not remove
// each other's file.
func TestSliceIsAskedForAsItsHeadWas(t *testing.T) {
	for _, c := range []struct{ name, vary, field, head, other string }{
		{"order of codings", "Accept-Encoding", "Accept-Encoding", "br, gzip", "gzip, br"},
		{"another coding", "Accept-Encoding", "Accept-Encoding", "br, gzip", "zstd, br"},
		{"no Vary", "", "Accept-Encoding", "br", "gzip"},
		{"no Vary, none asked", "", "Accept-Encoding", "br", ""},
		{"no Vary, none coded", "", "Accept-Encoding", "", "br"},
		{"order of languages", "Accept-Language", "Accept-Language", "de, en", "en, de"},
		{"any list", "X-Kind", "X-Kind", "a,b", "a ,  b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(40, 1000)
			f.alter = func(w http.ResponseWriter, r *http.Request) bool {
				if c.vary != "" {
					w.Header().Set("Vary", c.vary)
				}
				first, _, _ := strings.Cut(r.Header.Get(c.field), ",")
				if first == c.head || strings.HasPrefix(c.head, first+",") || first == "identity" && c.head == "" {
					if c.field == "Accept-Encoding" && first == "br" {
						w.Header().Set("Content-Encoding", "br")
					}
					return false
				}
				w.Header().Set("Etag", `"other"`)
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, 900)))
				return true
			}
			header := func(part, value string) []string {
				if value == "" {
					return []string{"Range", part}
				}
				return []string{"Range", part, c.field, value}
			}
			f.want(t, f.get(t, h, header("bytes=110-119", c.head)...), 206, 110, 120, cold)
			f.want(t, f.get(t, h, header("bytes=210-219", c.other)...), 206, 210, 220, partly)
			f.want(t, f.get(t, h, header("bytes=310-319", c.head)...), 206, 310, 320, partly)
			f.want(t, f.get(t, h, header("bytes=110-319", c.other)...), 206, 110, 320, hit)
		})
	}
}
