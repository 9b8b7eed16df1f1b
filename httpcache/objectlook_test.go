package httpcache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/larder-cache/larder/rfc9111"
)

// What is looked up before an answer begins is bounded, whatever it asks for.
func TestSample(t *testing.T) {
	o := newObject(100_000, 100)
	whole := []rfc9111.ByteRange{{Start: 0, Length: 100_000}}
	for _, tt := range []struct {
		parts []rfc9111.ByteRange
		limit int64
		want  []int64
	}{
		{nil, 4, nil},
		{[]rfc9111.ByteRange{{Start: 250, Length: 10}}, 4, []int64{2}},
		{[]rfc9111.ByteRange{{Start: 250, Length: 300}}, 4, []int64{2, 3, 4, 5}},
		{[]rfc9111.ByteRange{{Start: 250, Length: 400}}, 4, []int64{2, 3, 4, 6}},
		{whole, 4, []int64{0, 1, 2, 999}},
		{whole, 8, []int64{0, 1, 2, 3, 4, 335, 667, 999}},
		{[]rfc9111.ByteRange{{Start: 99_990, Length: 10}, {Start: 0, Length: 300}, {Start: 550, Length: 100}}, 4, []int64{999, 0, 1, 6}},
	} {
		if got := slices.Collect(o.sample(tt.parts, tt.limit)); !slices.Equal(got, tt.want) {
			t.Errorf("%v, at most %d: %v, want %v", tt.parts, tt.limit, got, tt.want)
		}
	}
	if got := len(slices.Collect(newObject(1<<40, 1<<16).sample([]rfc9111.ByteRange{{Start: 0, Length: 1 << 40}}, maxLooked))); got != maxLooked {
		t.Errorf("%d are looked up of a TiB, want %d", got, maxLooked)
	}
}

// An answer is a hit by the slices that are looked up. Another one that is missing is fetched when
// the answer comes to it, and only-if-cached gets nothing then.
func TestHitIsToldByABoundedNumberOfSlices(t *testing.T) {
	h, f := newSlicing(t), newFilm(50, 40_000)
	if w := f.get(t, h, "Range", "bytes=0-"); w.Code != 206 {
		t.Fatal(w.Code)
	}
	f.take()
	wantHit := func(end int, header ...string) {
		t.Helper()
		w := f.get(t, h, header...)
		if got := w.Header().Get("Cache-Status"); !strings.HasPrefix(got, "Larder; hit; ttl=") || !bytes.Equal(w.Body.Bytes(), f.content[:end]) {
			t.Errorf("%d, %s, %d bytes; want a hit with %d", w.Code, got, w.Body.Len(), end)
		}
	}
	wantHit(25_600, "Range", "bytes=0-25599", "Cache-Control", "only-if-cached")
	refused := func(asked string) {
		t.Helper()
		w := httptest.NewRecorder()
		r := newTestRequest(w, "Range", asked, "Cache-Control", "only-if-cached")
		if err := h.ServeHTTP(w, r, f.serve); statusOf(err) != http.StatusGatewayTimeout {
			t.Errorf("only-if-cached for %s: %v", asked, err)
		}
	}
	refused("bytes=0-25600") // one more than is looked up for that
	head := h.cache.store.Lookup(h.newKeyed(t), anySlice)
	defer head.Release()
	o := objectOf(head.Entry)
	remove := func(number int64) {
		t.Helper()
		found := h.cache.slice(o, number)
		if found.Entry == nil {
			t.Fatalf("slice %d is not stored", number)
		}
		h.cache.store.Remove(found.Entry)
		found.Release()
	}
	remove(10)
	refused("bytes=0-2599")
	wantHit(40_000, "Range", "bytes=0-")
	f.wantAsked(t, "bytes=1000-1099")
	remove(7)
	f.want(t, f.get(t, h, "Range", "bytes=0-"), 206, 0, 40_000, "Larder; fwd=partial")
	f.wantAsked(t, "bytes=700-799")
	remove(399)
	f.want(t, f.get(t, h), 200, 0, 40_000, "Larder; fwd=partial; fwd-status=206")
	f.wantAsked(t, "bytes=39900-39999")
}
