package rfc9111

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func headerWith(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestParsePart(t *testing.T) {
	for _, tt := range []struct {
		field, length string
		want          Part
		ok            bool
	}{
		{"bytes 0-9/10", "", Part{ByteRange{0, 10}, 10}, true},
		{"bytes 5-9/10", "5", Part{ByteRange{5, 5}, 10}, true},
		{"BYTES 5-5/10", "1", Part{ByteRange{5, 1}, 10}, true},
		{" bytes 5-9/10 ", "", Part{ByteRange{5, 5}, 10}, true},
		{"bytes 5-9/10", "4", Part{}, false},
		{"bytes 5-9/*", "", Part{}, false},
		{"bytes */10", "", Part{}, false},
		{"bytes 9-5/10", "", Part{}, false},
		{"bytes 5-10/10", "", Part{}, false},
		{"bytes -5-9/10", "", Part{}, false},
		{"bytes +5-9/10", "", Part{}, false},
		{"bytes 5-+9/10", "", Part{}, false},
		{"bytes 5-9/10/11", "", Part{}, false},
		{"bytes 5-9", "", Part{}, false},
		{"bytes  5-9/10", "", Part{}, false},
		{"pages 5-9/10", "", Part{}, false},
		{"bytes 5-9/99999999999999999999", "", Part{}, false},
		{"", "", Part{}, false},
	} {
		h := headerWith("Content-Range", tt.field)
		if tt.length != "" {
			h.Set("Content-Length", tt.length)
		}
		if got, ok := ParsePart(h); ok && got != tt.want || ok != tt.ok {
			t.Errorf("%q, length %q: %+v %t, want %+v %t", tt.field, tt.length, got, ok, tt.want, tt.ok)
		}
	}
	if _, ok := ParsePart(headerWith("Content-Range", "bytes 0-4/10", "Content-Range", "bytes 5-9/10")); ok {
		t.Error("two lines of Content-Range are read as one part")
	}
	if _, ok := ParsePart(headerWith("Content-Range", "bytes 0-4/10", "Content-Encoding", "gzip")); ok {
		t.Error("a coded part without Content-Length is read")
	}
	if _, ok := ParsePart(http.Header{}); ok {
		t.Error("a header without Content-Range is read as a part")
	}
}

// What is read as a part lies within its whole, and says the same when it is written again.
func FuzzParsePart(f *testing.F) {
	f.Add("bytes 0-9/10", "10")
	f.Add("bytes 5-9/*", "")
	f.Add("bytes */10", "0")
	f.Fuzz(func(t *testing.T, field, length string) {
		h := headerWith("Content-Range", field, "Content-Length", length)
		p, ok := ParsePart(h)
		if !ok {
			return
		}
		if p.Start < 0 || p.Length <= 0 || p.End() > p.Complete {
			t.Fatalf("%q: %+v is not a part of its whole", field, p)
		}
		if strings.TrimSpace(length) != strconv.FormatInt(p.Length, 10) {
			t.Fatalf("%q: length %q", field, length)
		}
		again, ok := ParsePart(headerWith("Content-Range", p.ContentRange(p.Complete)))
		if !ok || again != p {
			t.Fatalf("%q: %+v is written as %q and read as %+v", field, p, p.ContentRange(p.Complete), again)
		}
	})
}

const (
	dated    = "Sun, 01 Mar 2026 12:00:00 GMT"
	modified = "Sun, 01 Mar 2026 11:00:00 GMT"
	changed  = "Sun, 01 Mar 2026 11:00:01 GMT"
)

func TestCombinable(t *testing.T) {
	for name, tt := range map[string]struct {
		stored, part http.Header
		want         bool
	}{
		"same tag":            {headerWith("Etag", `"a"`), headerWith("Etag", `"a"`), true},
		"another tag":         {headerWith("Etag", `"a"`), headerWith("Etag", `"b"`), false},
		"weak tags":           {headerWith("Etag", `W/"a"`), headerWith("Etag", `W/"a"`), false},
		"one weak tag":        {headerWith("Etag", `"a"`), headerWith("Etag", `W/"a"`), false},
		"no tag in the part":  {headerWith("Etag", `"a"`), headerWith("Date", dated, "Last-Modified", modified), false},
		"two tags":            {headerWith("Etag", `"a"`, "Etag", `"a"`), headerWith("Etag", `"a"`), false},
		"no quotes":           {headerWith("Etag", "a"), headerWith("Etag", "a"), false},
		"a quote within":      {headerWith("Etag", `"a"b"`), headerWith("Etag", `"a"b"`), false},
		"a lone quote":        {headerWith("Etag", `"`), headerWith("Etag", `"`), false},
		"same strong date":    {headerWith("Date", dated, "Last-Modified", modified), headerWith("Date", dated, "Last-Modified", modified), true},
		"another date":        {headerWith("Date", dated, "Last-Modified", modified), headerWith("Date", dated, "Last-Modified", changed), false},
		"a weak date":         {headerWith("Date", modified, "Last-Modified", modified), headerWith("Date", dated, "Last-Modified", modified), false},
		"a weak tag and date": {headerWith("Etag", `W/"a"`, "Date", dated, "Last-Modified", modified), headerWith("Etag", `W/"a"`, "Date", dated, "Last-Modified", modified), false},
		"nothing":             {http.Header{}, http.Header{}, false},
		"same coding":         {headerWith("Etag", `"a"`, "Content-Encoding", "gzip"), headerWith("Etag", `"a"`, "Content-Encoding", "GZIP"), true},
		"no coding":           {headerWith("Etag", `"a"`, "Content-Encoding", "gzip"), headerWith("Etag", `"a"`), false},
		"a coding":            {headerWith("Etag", `"a"`), headerWith("Etag", `"a"`, "Content-Encoding", "gzip"), false},
		"another coding":      {headerWith("Etag", `"a"`, "Content-Encoding", "gzip"), headerWith("Etag", `"a"`, "Content-Encoding", "br"), false},
		"same type":           {headerWith("Etag", `"a"`, "Content-Type", "video/mp4"), headerWith("Etag", `"a"`, "Content-Type", "video/mp4"), true},
		"another type":        {headerWith("Etag", `"a"`, "Content-Type", "video/mp4"), headerWith("Etag", `"a"`, "Content-Type", "video/webm"), false},
		"no type":             {headerWith("Etag", `"a"`, "Content-Type", "video/mp4"), headerWith("Etag", `"a"`), true},
	} {
		if got := Combinable(tt.stored, tt.part); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
		if tt.want && !HasStrongValidator(tt.stored) {
			t.Errorf("%s: its validator is not strong", name)
		}
	}
}

func TestFirstSlice(t *testing.T) {
	const size = 100
	for _, tt := range []struct {
		field string
		want  string // Range of the slice
		ok    bool
	}{
		{"bytes=0-", "bytes=0-99", true},
		{"bytes=99-", "bytes=0-99", true},
		{"bytes=100-100", "bytes=100-199", true},
		{"bytes=250-900", "bytes=200-299", true},
		{"bytes=-1", "bytes=-100", true},
		{"bytes=-1000", "bytes=-100", true},
		{"bytes= 350-360 , 0-1", "bytes=300-399", true},
		{"bytes=,,-5,0-1", "bytes=-100", true},
		{"Bytes=5-6", "bytes=0-99", true},
		{"bytes=9223372036854775800-9223372036854775805", "bytes=9223372036854775800-9223372036854775807", true},
		{"bytes=9223372036854775807-", "", false},
		{"bytes=9223372036854775799-", "bytes=9223372036854775700-9223372036854775799", true},
		{"bytes=9223372036854775808-", "", false},
		{"bytes=-0", "", false},
		{"bytes=", "", false},
		{"bytes=9-5", "", false},
		{"pages=1-2", "", false},
		{"bytes 1-2", "", false},
	} {
		s, ok := FirstSlice(headerWith("Range", tt.field), size)
		if ok != tt.ok || ok && s.Range() != tt.want {
			t.Errorf("%q: %q %t, want %q %t", tt.field, s.Range(), ok, tt.want, tt.ok)
		}
	}
	if _, ok := FirstSlice(headerWith("Range", "bytes=0-1", "Range", "bytes=0-1"), size); ok {
		t.Error("two lines of Range are read as one")
	}
}

func TestSliceAnswers(t *testing.T) {
	third, last := Slice{Size: 100, Number: 2}, Slice{Size: 100, Last: true}
	for _, tt := range []struct {
		slice Slice
		field string
		want  bool
	}{
		{third, "bytes 200-299/1000", true},
		{third, "bytes 200-249/250", true},
		{third, "bytes 200-249/1000", false},
		{third, "bytes 201-299/1000", false},
		{third, "bytes 0-99/100", true}, // the whole
		{third, "bytes 0-149/150", false},
		{last, "bytes 900-999/1000", true},
		{last, "bytes 950-1049/1050", true},
		{last, "bytes 0-49/50", true},
		{last, "bytes 800-999/1000", false},
		{last, "bytes 850-949/1000", false},
	} {
		p, ok := ParsePart(headerWith("Content-Range", tt.field))
		if !ok {
			t.Fatal(tt.field)
		}
		if got := tt.slice.Answers(p); got != tt.want {
			t.Errorf("%s answers %s: %t, want %t", tt.field, tt.slice.Range(), got, tt.want)
		}
	}
	if got, want := last.Of(1050), (ByteRange{1000, 50}); got != want {
		t.Errorf("the last slice of 1050 is %v, want %v", got, want)
	}
	if got := third.Of(150); got.Length != 0 {
		t.Errorf("a slice behind the end is %v", got)
	}
}

func TestWholeHeader(t *testing.T) {
	h := headerWith("Content-Range", "bytes 5-9/10", "Content-Length", "5", "Etag", `"a"`, "Content-Digest", "sha-256=:x=:", "Content-Md5", "x")
	p, _ := ParsePart(h)
	whole := WholeHeader(h, p)
	if whole.Get("Content-Length") != "10" || len(whole["Content-Range"])+len(whole["Content-Digest"])+len(whole["Content-Md5"]) > 0 || whole.Get("Etag") != `"a"` {
		t.Errorf("the whole has %v", whole)
	}
	if h.Get("Content-Length") != "5" {
		t.Errorf("the header of the part has become %v", h)
	}
}

func TestIsCompressible(t *testing.T) {
	for name, want := range map[string]bool{
		"text/html; charset=utf-8": true, "TEXT/CSS": true, "application/json": true, "application/ld+json": true, "image/svg+xml": true,
		"application/javascript": true, "application/wasm": true, "font/ttf": true, "image/x-icon": true, "application/rss+xml": true,
		"video/mp4": false, "audio/ogg": false, "image/jpeg": false, "image/tiff": false, "application/octet-stream": false, "application/zip": false,
		"application/pdf": false, "application/vnd.pmtiles": false, "application/x-iso9660-image": false, "application/vnd.debian.binary-package": false,
		"font/woff2": false, "multipart/byteranges; boundary=x": false, "": false, "application/x-tar": false, "application/gzip": false,
	} {
		if got := IsCompressible(headerWith("Content-Type", name)); got != want {
			t.Errorf("%q: %t, want %t", name, got, want)
		}
	}
	if IsCompressible(headerWith("Content-Type", "text/html", "Content-Encoding", "br")) {
		t.Error("what is compressed is called compressible")
	}
}

func TestRangesBeginBefore(t *testing.T) {
	for field, want := range map[string]bool{
		"":                         true,
		"bytes=0-0":                true,
		"bytes=99-100000":          true,
		"bytes=0-0, 99-99":         true,
		"bytes=100-100":            false,
		"bytes=0-0, 100-":          false,
		"bytes=-1":                 false,
		"bytes=0-0 , -1":           false,
		"bytes=9-5":                true,
		"pages=100-200":            true,
		"bytes=9000000000000000-0": true,
	} {
		h := http.Header{}
		if field != "" {
			h.Set("Range", field)
		}
		if got := RangesBeginBefore(h, 100); got != want {
			t.Errorf("%q: %t, want %t", field, got, want)
		}
	}
}
