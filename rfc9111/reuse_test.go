package rfc9111

import (
	"net/http"
	"testing"
	"time"
)

func TestParseRequest(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lines []string
		want  RequestDirectives
	}{
		{"none", nil, RequestDirectives{}},
		{
			"all",
			[]string{"no-store, no-cache, only-if-cached, max-age=1, max-stale=2, min-fresh=3, stale-if-error=4"},
			RequestDirectives{
				NoStore: true, NoCache: true, OnlyIfCached: true,
				HasMaxAge: true, MaxAge: time.Second, HasMaxStale: true, MaxStale: 2 * time.Second,
				HasMinFresh: true, MinFresh: 3 * time.Second, HasStaleIfError: true, StaleIfError: 4 * time.Second,
			},
		},
		{"two lines", []string{"no-store", "no-cache"}, RequestDirectives{NoStore: true, NoCache: true}},
		{"max-age=0", []string{"max-age=0"}, RequestDirectives{HasMaxAge: true}},
		{"max-stale without a limit", []string{"max-stale"}, RequestDirectives{HasMaxStale: true, MaxStale: maxDelta}},
		{"invalid times", []string{"max-stale=x, min-fresh=x, stale-if-error=x"}, RequestDirectives{}},
		{
			"arguments where none belong",
			[]string{"no-store=1, only-if-cached=1"},
			RequestDirectives{NoStore: true, OnlyIfCached: true},
		},
		{"garbage", []string{"@, =, \"", "foo bar"}, RequestDirectives{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := ParseRequest(http.Header{"Cache-Control": tc.lines}); got != tc.want {
				t.Errorf("%q = %+v, want %+v", tc.lines, got, tc.want)
			}
		})
	}
}

// TestStalenessIsForGood walks through the life of responses second by second: what may be done
// with one only ever gets less.
func TestStalenessIsForGood(t *testing.T) {
	for _, cacheControl := range []string{
		"max-age=20", "max-age=10, stale-while-revalidate=10", "max-age=10, stale-if-error=20",
		"s-maxage=5, stale-while-revalidate=10, stale-if-error=20", "max-age=10, must-revalidate", "no-cache",
	} {
		t.Run(cacheControl, func(t *testing.T) {
			x := freshExchange()
			x.Header.Set("Cache-Control", cacheControl)
			f := (&Policy{}).Freshness(x)
			last, usable := UseFresh, true
			for second := range 60 {
				now := arrival.Add(time.Duration(second) * time.Second)
				use, _ := f.Use(RequestDirectives{}, now, Valid)
				onError := f.UsableOnError(RequestDirectives{}, now, Valid, NoAnswer)
				if use < last || onError && !usable {
					t.Errorf("second %d: %v after %v, usable on error %v", second, use, last, onError)
				}
				last, usable = use, onError
			}
			if last != UseValidate || usable {
				t.Errorf("in the end %v, usable on error %v", last, usable)
			}
		})
	}
}

func TestUseAllocatesNothing(t *testing.T) {
	f := (&Policy{}).Freshness(freshExchange())
	now := arrival.Add(10 * time.Second)
	use := UseNever
	if n := testing.AllocsPerRun(100, func() { use, _ = f.Use(RequestDirectives{}, now, Valid) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if use != UseFresh {
		t.Errorf("use %v", use)
	}
}

func freshExchange() *Exchange {
	return &Exchange{
		Method: http.MethodGet, Status: http.StatusOK,
		Header: http.Header{
			"Cache-Control": {"public, max-age=60, stale-while-revalidate=30"}, "Etag": {`"a"`},
			"Date": {arrival.Format(http.TimeFormat)}, "Content-Type": {"text/html; charset=utf-8"},
		},
		RequestTime: arrival, ResponseTime: arrival,
	}
}

func BenchmarkUse(b *testing.B) {
	f := (&Policy{}).Freshness(freshExchange())
	now := arrival.Add(10 * time.Second)
	b.ReportAllocs()
	for b.Loop() {
		f.Use(RequestDirectives{}, now, Valid)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	for name, h := range map[string]http.Header{
		"none":   {"Accept": {"*/*"}},
		"reload": {"Cache-Control": {"max-age=0"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParseRequest(h)
			}
		})
	}
}

func BenchmarkFreshness(b *testing.B) {
	p, x := &Policy{}, freshExchange()
	b.ReportAllocs()
	for b.Loop() {
		p.Freshness(x)
	}
}
