package wire

import (
	"encoding/binary"
	"net/http"
	"slices"
)

// wellKnown are names of fields that are one byte in a record: the place of the name here, counted
// from 1. New ones go to the end; another order is another schema.
var wellKnown = [...]string{
	"Accept-Ranges", "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
	"Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Age", "Alt-Svc", "Cache-Control", "Cache-Groups", "Cache-Status",
	"Cache-Tag", "Cdn-Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length",
	"Content-Location", "Content-Security-Policy", "Content-Type", "Cross-Origin-Embedder-Policy", "Cross-Origin-Opener-Policy",
	"Cross-Origin-Resource-Policy", "Date", "Etag", "Expires", "Last-Modified", "Link", "Location", "Nel", "Permissions-Policy",
	"Pragma", "Referrer-Policy", "Report-To", "Server", "Server-Timing", "Set-Cookie", "Strict-Transport-Security",
	"Surrogate-Control", "Surrogate-Key", "Timing-Allow-Origin", "Trailer", "Vary", "Via", "X-Cache", "X-Content-Type-Options",
	"X-Frame-Options", "X-Powered-By", "X-Request-Id", "X-Xss-Protection", "Xkey",
}

// wellKnownCode is the inverse of wellKnown.
var wellKnownCode = func() map[string]byte {
	codes := make(map[string]byte, len(wellKnown))
	for i, name := range wellKnown {
		codes[name] = byte(i + 1)
	}
	return codes
}()

// AppendHeader writes the number of names, the number of values, and for each name: a byte of
// wellKnown, or 0 and the name; how many values it has; the values.
func AppendHeader(b []byte, h http.Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(h)))
	place, total := len(b), 0
	b = append(b, 0) // for total, which takes a byte in nearly all headers
	for name, values := range h {
		total += len(values)
		code := wellKnownCode[name]
		if b = append(b, code); code == 0 {
			b = AppendString(b, name)
		}
		b = AppendList(b, values)
	}
	if total < 0x80 {
		b[place] = byte(total)
		return b
	}
	return slices.Replace(b, place, place+1, binary.AppendUvarint(nil, uint64(total))...)
}

// maxNamesAhead is for how many names there is room before any of them has been read: a map takes
// many times as much as what claims that there are names.
const maxNamesAhead = 64

// Header reads the fields; nil where there are none. All values share one array.
func (d *Decoder) Header() http.Header {
	names, total := d.Count(1), d.Count(1)
	if names == 0 {
		d.bad = d.bad || total > 0
		return nil
	}
	h, values := make(http.Header, min(names, maxNamesAhead)), make([]string, total)
	for range names {
		var name string
		if code := d.Byte(); code == 0 {
			name = d.Text()
		} else if int(code) <= len(wellKnown) {
			name = wellKnown[code-1]
		} else {
			d.fail()
		}
		n := d.Uvarint()
		if n > uint64(len(values)) {
			d.fail()
			return h
		}
		for i := range n {
			values[i] = d.Text()
		}
		h[name], values = values[:n:n], values[n:]
	}
	if len(values) > 0 || len(h) != names {
		d.fail()
	}
	return h
}
