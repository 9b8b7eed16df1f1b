package httpcache

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/larder-cache/larder/origin"
)

// crowdedPages are more pages than there are places for refreshes.
const crowdedPages = maxRefreshes + 50

// newCrowded returns a handler with crowdedPages and /page stored, all of them stale, before an
// origin that hangs for requests with X-Slow and takes a tenth of a second for others.
func newCrowded(t *testing.T) *budgeted {
	t.Helper()
	b := newBudgeted(t, origin.Limits{}, page("stale-while-revalidate=86400"))
	b.get("/page")
	for i := range crowdedPages {
		b.get("/" + strconv.Itoa(i))
	}
	time.Sleep(time.Second)
	b.calls.Store(0)
	b.next = func(w http.ResponseWriter, r *http.Request) error {
		if r.Header.Get("X-Slow") != "" {
			return hangs(nil)(w, r)
		}
		time.Sleep(100 * time.Millisecond)
		return page("stale-while-revalidate=86400")(w, r)
	}
	t.Cleanup(func() {
		time.Sleep(2 * time.Minute) // what hangs is over
		b.wantPlaces(0)
	})
	return b
}

// crowd has a refresh of each page begun that hangs, by the clients that from names.
func (b *budgeted) crowd(from func(i int) string) {
	for i := range crowdedPages {
		b.from = from(i)
		b.get("/"+strconv.Itoa(i), "X-Slow", "1")
	}
}

// refreshed asks for /page and reports whether the origin was asked.
func (b *budgeted) refreshed(from string) bool {
	b.from = from
	before := b.calls.Load()
	b.get("/page")
	time.Sleep(2 * time.Second)
	return b.calls.Load() == before+1
}

// wantPlaces checks how many places are taken.
func (b *budgeted) wantPlaces(want int) {
	b.Helper()
	ps := &b.h.cache.refreshes
	ps.mu.Lock()
	defer ps.mu.Unlock()
	clients, origins := 0, 0
	for _, n := range ps.ofClients {
		clients += n
	}
	for _, n := range ps.ofOrigins {
		origins += n
	}
	if ps.taken != want || clients != want || origins != want {
		b.Errorf("%d places are taken, %d by clients, %d by origins; want %d", ps.taken, clients, origins, want)
	}
}

// One client with a field for which the origin hangs stopped the refreshes of every page in the
// store, with as many stale pages as there are places.
func TestOneClientDoesNotTakeAllRefreshes(t *testing.T) {
	for name, from := range map[string]func(i int) string{
		"one address":         func(i int) string { return fmt.Sprintf("192.0.2.1:%d", i+1) },
		"one network by IPv6": func(i int) string { return fmt.Sprintf("[2001:db8:1:%x::%x]:1", i, i+1) },
		"no address":          func(i int) string { return "socket " + strconv.Itoa(i) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				b := newCrowded(t)
				b.crowd(from)
				b.wantPlaces(maxRefreshes / 2)
				for i := range 10 {
					if !b.refreshed("198.51.100.7:1") {
						t.Errorf("refresh %d of another client's page has found no place", i)
					}
				}
			})
		})
	}
}

// An origin that hangs leaves places for the refreshes of another one.
func TestOneOriginDoesNotTakeAllRefreshes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newCrowded(t)
		other := &budgeted{T: t, h: &testHandler{b.h.cache.NewRoute(Rules{}, nil)}, next: b.next}
		other.h.Budget = origin.New("other", origin.Limits{}, nil)
		b.crowd(func(i int) string { return fmt.Sprintf("192.0.%d.%d:1", i/200, i%200) })
		if n := b.calls.Load(); n != maxRefreshes/4*3 {
			t.Errorf("%d refreshes of one origin are under way", n)
		}
		for i := range 10 {
			if !other.refreshed("192.0.0.1:1") {
				t.Errorf("refresh %d of another origin's page has found no place", i)
			}
		}
	})
}

func TestPlacesAreBounded(t *testing.T) {
	var ps places
	one, other := origin.New("one", origin.Limits{}, nil), origin.New("other", origin.Limits{}, nil)
	taken := map[holder]int{}
	takes := func(h holder, want int) {
		t.Helper()
		n := 0
		for ps.take(h, maxRefreshes) {
			n++
		}
		if taken[h] += n; n != want {
			t.Errorf("%v takes %d, want %d", h, n, want)
		}
	}
	client := func(i int) netip.Prefix { return clientNetwork(fmt.Sprintf("192.0.2.%d", i)) }
	takes(holder{client(0), one}, 128)
	for i := range 8 {
		takes(holder{client(i + 1), one}, fewPlaces)
	}
	takes(holder{client(9), one}, 0)
	takes(holder{client(0), other}, 0)
	takes(holder{client(9), other}, fewPlaces)
	for i := range 7 {
		takes(holder{client(i + 10), origin.New("", origin.Limits{}, nil)}, fewPlaces)
	}
	takes(holder{client(20), origin.New("", origin.Limits{}, nil)}, 0)
	for h, n := range taken {
		for range n {
			ps.give(h)
		}
	}
	if ps.taken+len(ps.ofClients)+len(ps.ofOrigins) != 0 {
		t.Errorf("%d are taken in the end, by %d clients and %d origins", ps.taken, len(ps.ofClients), len(ps.ofOrigins))
	}
}

func TestClientNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:8080":          "192.0.2.1/32",
		"192.0.2.1":               "192.0.2.1/32",
		"[::ffff:192.0.2.1]:1":    "192.0.2.1/32",
		"[2001:db8:1:2:3::4]:443": "2001:db8:1::/48",
		"2001:db8:1:ffff:3::4":    "2001:db8:1::/48",
		"[fe80::1%eth0]:1":        "fe80::/48",
		"":                        "invalid Prefix",
		"@":                       "invalid Prefix",
		"larder.example:443":      "invalid Prefix",
	} {
		if got := clientNetwork(addr).String(); got != want {
			t.Errorf("%q: %s, want %s", addr, got, want)
		}
	}
}
