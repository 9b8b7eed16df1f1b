package rfc9111

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestResultsAreCopies holds that no result shares a slice with its argument, which is in a store
// and read by others.
func TestResultsAreCopies(t *testing.T) {
	stored := http.Header{"A": {"1"}, "Etag": {`"a"`}, "Cache-Control": {"max-age=60"}}
	answer := http.Header{"B": {"2"}, "Etag": {`"a"`}}
	x := &Exchange{Header: stored}
	head, _ := FreshenByHead(stored, answer)
	for name, h := range map[string]http.Header{
		"StorableHeader":    StorableHeader(x, &Policy{}),
		"Merge":             Merge(stored, answer),
		"FreshenByHead":     head,
		"NotModifiedHeader": NotModifiedHeader(stored),
	} {
		for _, lines := range h {
			lines[0] = name
		}
	}
	want := http.Header{"A": {"1"}, "Etag": {`"a"`}, "Cache-Control": {"max-age=60"}}
	if !reflect.DeepEqual(stored, want) || answer.Get("B") != "2" {
		t.Errorf("stored %v, answer %v", stored, answer)
	}
}

func TestNilHeaders(t *testing.T) {
	if h := StorableHeader(&Exchange{}, &Policy{}); h == nil {
		t.Error("StorableHeader is nil")
	}
	if h := Merge(nil, nil); h == nil {
		t.Error("Merge is nil")
	}
	if h := NotModifiedHeader(nil); h == nil {
		t.Error("NotModifiedHeader is nil")
	}
}

func TestNotModifiedHeader(t *testing.T) {
	kept := []string{
		"Cache-Control", "Content-Location", "Date", "Etag", "Expires", "Vary", "Access-Control-Allow-Origin",
		"Content-Security-Policy", "Age",
	}
	dropped := []string{
		"Content-Type", "Content-Length", "Content-Encoding", "Content-Language", "Content-Range", "Content-Md5",
		"Last-Modified", "Accept-Ranges",
	}
	stored := make(http.Header)
	for _, name := range append(slices.Clip(kept), dropped...) {
		stored.Set(name, "x")
	}
	h := NotModifiedHeader(stored)
	for _, name := range kept {
		if h.Get(name) == "" {
			t.Errorf("%s is missing", name)
		}
	}
	hasNot(t, "304", h, dropped)

	stored.Del("Etag")
	if NotModifiedHeader(stored).Get("Last-Modified") == "" {
		t.Error("Last-Modified is missing where there is no entity tag")
	}
}

func TestAppendCDNLoop(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"none", nil, "larder"},
		{"one line", []string{"foo; v=1"}, "foo; v=1, larder"},
		{"two lines", []string{"foo", "bar"}, "foo, bar, larder"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := make(http.Header)
			if tc.lines != nil {
				h["Cdn-Loop"] = tc.lines
			}
			AppendCDNLoop(h, "larder")
			if got := strings.Join(h["Cdn-Loop"], "|"); got != tc.want {
				t.Errorf("CDN-Loop = %q, want %q", got, tc.want)
			}
			if got := CDNLoopCount(h, "larder"); got != 1 {
				t.Errorf("count %d", got)
			}
		})
	}
}

func FuzzPrecondition(f *testing.F) {
	f.Add(`"a", W/"b"`, `"b"`, "Sun, 01 Mar 2026 12:00:00 GMT")
	f.Add(`W/`, `W/`, `,`)
	f.Fuzz(func(t *testing.T, list, tag, date string) {
		stored := http.Header{"Etag": {tag}, "Last-Modified": {date}}
		Precondition(http.MethodGet, http.Header{"If-None-Match": {list}}, 200, stored, arrival)
		Precondition(http.MethodGet, http.Header{"If-Modified-Since": {list}}, 200, stored, arrival)
		Selects(stored, http.Header{"Etag": {list}})
		// What is asked with the stored validators finds itself.
		if fill := make(http.Header); entityTag(stored) != "" && strings.HasPrefix(tag, `"`) &&
			strings.Count(tag, `"`) == 2 && strings.HasSuffix(tag, `"`) {
			MakeConditional(fill, stored)
			if Precondition(http.MethodGet, fill, 200, stored, arrival) != NotModified {
				t.Errorf("tag %q does not match itself", tag)
			}
		}
	})
}

func FuzzRange(f *testing.F) {
	f.Add("bytes=0-1,-5,7-", `"a"`, int64(10))
	f.Add("bytes=99999999999999999999-", "", int64(0))
	f.Fuzz(func(t *testing.T, value, ifRange string, size int64) {
		if size < 0 {
			size = -(size + 1)
		}
		h := http.Header{"Range": {value}}
		if ifRange != "" {
			h["If-Range"] = []string{ifRange}
		}
		ranges, unsatisfiable, ok := ParseRange(h, http.Header{"Etag": {`"a"`}}, size)
		if len(ranges) > maxRanges || unsatisfiable && len(ranges) > 0 || !ok && len(ranges) > 0 {
			t.Errorf("%d ranges, unsatisfiable %v, ok %v", len(ranges), unsatisfiable, ok)
		}
		for _, r := range ranges {
			if r.Start < 0 || r.Length <= 0 || r.Length > size-r.Start {
				t.Errorf("%+v is not within %d", r, size)
			}
		}
	})
}

func FuzzFields(f *testing.F) {
	f.Add("a b,c", `"x", "y"`, `larder;a="b,c"`, `params=("a")`)
	f.Fuzz(func(t *testing.T, tags, groups, loop, search string) {
		h := http.Header{
			"Surrogate-Key": {tags}, "Cache-Tag": {tags}, "X-Tags": {tags}, "Cache-Groups": {groups},
			"Cdn-Loop": {loop}, "No-Vary-Search": {search}, "Incremental": {groups},
		}
		got, _ := Tags(h, []string{"Surrogate-Key", "Cache-Tag", "X-Tags"})
		for _, tag := range got {
			if tag == "" || len(tag) > MaxTagBytes || strings.Trim(tag, " \t") != tag {
				t.Errorf("tag %q", tag)
			}
		}
		if len(got) > MaxTags || len(CacheGroups(h, "Cache-Groups")) > MaxTags {
			t.Error("too many")
		}
		CDNLoopCount(h, "larder")
		Incremental(h)
		v := ParseNoVarySearch(h)
		if once := v.Normalize(tags); v.Normalize(once) != once {
			t.Errorf("query %q: normalised twice", tags)
		}
	})
}
