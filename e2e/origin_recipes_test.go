package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestLimitedExample: twenty requests at once see ten connections, and those past the burst five a
// second.
func TestLimitedExample(t *testing.T) {
	const n, burst, perSecond, connections = 20, 10, 5, 10
	port := freePort(t)
	var under, most atomic.Int64
	o := newOriginAt(t, fmt.Sprintf("localhost:%d", port), func(http.ResponseWriter, *http.Request) {
		most.Store(max(most.Load(), under.Add(1)))
		under.Add(-1)
	})
	in := loadExample(t, example(t, "limited"), freePort(t), port)
	begun := time.Now()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			a, err := in.try(context.Background(), http.MethodGet, fmt.Sprintf("/%d", i), "")
			if err != nil {
				t.Error(err)
				return
			}
			a.want(t, 200, "", "Larder; fwd=uri-miss; stored")
		})
	}
	all.Wait()
	if took, least := time.Since(begun), time.Second*(n-burst)/perSecond; took < least-10*time.Millisecond {
		t.Errorf("all were let through in %v, want at least %v", took, least)
	}
	if most.Load() > connections {
		t.Errorf("%d at once", most.Load())
	}
	o.asked(t, n)
}

// TestScraperExample: the site sees one request at a time, and none after it has said that it wants
// to be left alone. What has been fetched is answered all the same.
func TestScraperExample(t *testing.T) {
	port := freePort(t)
	var tired atomic.Bool
	var under, most atomic.Int64
	o := newOriginAt(t, fmt.Sprintf("localhost:%d", port), func(w http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), under.Add(1)))
		defer under.Add(-1)
		if tired.Load() {
			answering(429, "Retry-After", "3600")(w, r)
		}
	})
	in := loadExample(t, example(t, "scraper"), freePort(t), port)
	begun := time.Now()
	var all sync.WaitGroup
	for i := range 6 { // two pages, three times each
		all.Go(func() {
			a, err := in.try(context.Background(), http.MethodGet, fmt.Sprintf("/%d", i%2), "", "Cache-Control", "no-cache")
			if err != nil {
				t.Error(err)
				return
			}
			a.want(t, 200, "", "")
		})
	}
	all.Wait()
	if took := time.Since(begun); took < 990*time.Millisecond || most.Load() != 1 {
		t.Errorf("two requests in %v, %d at once", took, most.Load())
	}
	o.asked(t, 2)
	tired.Store(true)
	in.get("/2").want(t, 429, "", "")
	for i := range 5 {
		a := in.get(fmt.Sprintf("/%d", 3+i))
		a.want(t, 503, "", "Larder; detail=origin-busy")
		in.get("/0").want(t, 200, "", "")
	}
	o.asked(t, 3)
	if got := in.repeatsTo("/0", 13); !strings.HasSuffix(got, "200, 200 21") { // 8 times before
		t.Errorf("a scraper that goes in circles: %s", got)
	}
}

// TestRepeatsExample: the sixth time that an agent sends a search it is sent away, and no other is.
func TestRepeatsExample(t *testing.T) {
	port := freePort(t)
	o := newOriginAt(t, fmt.Sprintf("localhost:%d", port), numbered())
	in := loadExample(t, example(t, "repeats"), freePort(t), port)
	if got := in.repeatsTo("/search?q=a", 7, "X-Session", "1"); got != "200, 200, 200, 200, 200, 429 6, 429 7" {
		t.Errorf("an agent in a circle: %s", got)
	}
	for _, other := range []struct{ path, session string }{{"/search?q=b", "1"}, {"/search?q=a", "2"}, {"/search?q=a", "3"}} {
		if got := in.repeatsTo(other.path, 5, "X-Session", other.session); got != "200, 200, 200, 200, 200" {
			t.Errorf("%v: %s", other, got)
		}
	}
	o.asked(t, 2)
}
