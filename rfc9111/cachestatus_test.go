package rfc9111

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
)

func TestCacheStatus(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status CacheStatus
		want   string
	}{
		{"hit", CacheStatus{Hit: true, HasTTL: true, TTL: 42}, "Larder; hit; ttl=42"},
		{"hit with a ttl of 0", CacheStatus{Hit: true, HasTTL: true}, "Larder; hit; ttl=0"},
		{"miss", CacheStatus{Forward: ForwardURIMiss, Stored: true}, "Larder; fwd=uri-miss; stored"},
		{
			"collapsed",
			CacheStatus{Forward: ForwardURIMiss, FwdStatus: 200, Collapsed: true},
			"Larder; fwd=uri-miss; fwd-status=200; collapsed",
		},
		{
			"revalidated",
			CacheStatus{Forward: ForwardStale, FwdStatus: 304, Stored: true},
			"Larder; fwd=stale; fwd-status=304; stored",
		},
		{"stale", CacheStatus{Hit: true, HasTTL: true, TTL: -3, Detail: "swr"}, "Larder; hit; ttl=-3; detail=swr"},
		{"bypass", CacheStatus{Forward: ForwardBypass, Detail: "method"}, "Larder; fwd=bypass; detail=method"},
		{"vary-miss", CacheStatus{Forward: ForwardVaryMiss}, "Larder; fwd=vary-miss"},
		{"request", CacheStatus{Forward: ForwardRequest}, "Larder; fwd=request"},
		{"remembered", CacheStatus{Forward: ForwardMiss}, "Larder; fwd=miss"},
		{
			"key",
			CacheStatus{Hit: true, Key: "GET https://a/?b=\"c\\d\"\x00é", Detail: "x y"},
			`Larder; hit; key="GET https://a/?b=\"c\\d\"%00%C3%A9"; detail="x y"`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := http.Header{"Cache-Status": {`"origin"; hit; ttl=1`}}
			tc.status.Append(h)
			if got := h["Cache-Status"]; !slices.Equal(got, []string{`"origin"; hit; ttl=1`, tc.want}) {
				t.Errorf("Cache-Status = %q, want %q last", got, tc.want)
			}
			mustBeList(t, h, 2)
		})
	}
}

func mustBeList(t *testing.T, h http.Header, members int) {
	t.Helper()
	list, err := httpsfv.UnmarshalList(h["Cache-Status"])
	if err != nil || len(list) != members {
		t.Errorf("Cache-Status %q: %d members, error %v, want %d", h["Cache-Status"], len(list), err, members)
	}
}

func TestCacheStatusAppendSharesNothing(t *testing.T) {
	shared := append(make([]string, 0, 4), "upstream; hit")
	a, b := http.Header{"Cache-Status": shared}, http.Header{"Cache-Status": shared}
	(&CacheStatus{Hit: true}).Append(a)
	(&CacheStatus{Forward: ForwardMiss}).Append(b)
	if got := a["Cache-Status"][1]; got != "Larder; hit" {
		t.Errorf("the second Append wrote %q into the first", got)
	}
}

func TestCacheStatusReplacesWhatDoesNotParse(t *testing.T) {
	h := http.Header{"Cache-Status": {"Souin; key=GET-http-a-/?b"}}
	(&CacheStatus{Hit: true}).Append(h)
	mustBeList(t, h, 1)
}

func TestCacheStatusTTL(t *testing.T) {
	for _, tc := range []struct {
		name string
		d    time.Duration
		want int64
	}{
		{"just stored", 42*time.Second - time.Millisecond, 42},
		{"whole", 42 * time.Second, 42},
		{"almost over", time.Millisecond, 1},
		{"over", 0, 0},
		{"just stale", -time.Millisecond, -1},
		{"stale", -2500 * time.Millisecond, -3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c CacheStatus
			c.SetTTL(tc.d)
			if !c.HasTTL || c.TTL != tc.want {
				t.Errorf("ttl = %d, want %d", c.TTL, tc.want)
			}
		})
	}
}

func FuzzCacheStatus(f *testing.F) {
	f.Add("GET https://example.com/", "no-store", "upstream; hit")
	f.Add("\"\\\x7f", "a b", "Souin; key=a?b")
	f.Fuzz(func(t *testing.T, key, detail, upstream string) {
		h := http.Header{"Cache-Status": {upstream}}
		(&CacheStatus{Hit: true, Key: key, Detail: detail}).Append(h)
		if _, err := httpsfv.UnmarshalList(h["Cache-Status"]); err != nil {
			t.Errorf("Cache-Status %q: %v", h["Cache-Status"], err)
		}
	})
}

func BenchmarkCacheStatusAppend(b *testing.B) {
	h := make(http.Header)
	b.ReportAllocs()
	for b.Loop() {
		delete(h, "Cache-Status")
		c := CacheStatus{Hit: true}
		c.SetTTL(42 * time.Second)
		c.Append(h)
	}
}
