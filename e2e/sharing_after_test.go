package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Who waits for whom after an answer that was for one client only.

// Five clients that wait for a message each have a request of their own at the origin, also those
// that come while the others' is open.
func TestLongPollsWaitForNobody(t *testing.T) {
	const n = 5
	g := newGate(t, func(w http.ResponseWriter, _ *visit) {
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, "message")
	})
	in := start(t, proxied("larder"), g.origin)
	first := gather(t, in, 1, http.MethodGet, "/poll", nil)
	open(g.next(t, 1)...)
	first.all()
	polls := gather(t, in, n, http.MethodGet, "/poll", nil)
	all := g.next(t, n)
	open(all...)
	for _, a := range polls.all() {
		a.want(t, 200, "message", "Larder; fwd=miss")
	}
	g.nobody(t)
}

// EventSource waits for nobody, and nobody for it: neither on a cold key nor where a stale response
// is to be validated.
func TestEventStreamsWaitForNobody(t *testing.T) {
	const n = 5
	accept := func(int) []string { return []string{"Accept", "text/event-stream"} }
	for name, then := range map[string]http.HandlerFunc{
		"cold":  answering(200, "Content-Type", "text/event-stream", "Cache-Control", "no-cache"),
		"stale": answering(503),
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				if name == "stale" && v.number == 1 {
					w.Header().Set("Cache-Control", "max-age=60")
					w.Header().Set("Age", "100")
					_, _ = io.WriteString(w, "old")
					return
				}
				then(w, v.Request)
			})
			in := start(t, proxied(block("stale_if_error 1h")), g.origin)
			if name == "stale" {
				fill(t, in, g, "/")
			}
			ordinary := gather(t, in, 1, http.MethodGet, "/", nil)
			leader := g.next(t, 1)
			streams := gather(t, in, n, http.MethodGet, "/", accept)
			open(g.next(t, n)...)
			for _, a := range streams.all() {
				if name == "stale" { // the failure is answered with it all the same
					if a.want(t, 200, "old", ""); !strings.HasSuffix(a.cacheStatus(), "detail=sie") {
						t.Errorf("Cache-Status %q", a.cacheStatus())
					}
					continue
				}
				a.want(t, 200, "", "Larder; fwd=uri-miss")
			}
			open(leader...)
			ordinary.all()
			settled(t, in)
		})
	}
}

// personalRequests have answers of their own by what they carry.
var personalRequests = map[string][]string{
	"Authorization and no-cache":  {"Authorization", "x", "Cache-Control", "no-cache"},
	"Authorization and max-age=0": {"Authorization", "x", "Cache-Control", "max-age=0"},
	"a cookie":                    {"Cookie", "session=x"},
	"a cookie and no-cache":       {"Cookie", "session=x", "Cache-Control", "no-cache"},
	"no-cache":                    {"Cache-Control", "no-cache"},
	"Pragma":                      {"Pragma", "no-cache"},
	"max-age=0":                   {"Cache-Control", "max-age=0"},
	"an odd field":                {"X-Odd", "x"},
}

// personally answers requests of personalRequests each in another way, and everybody else with what
// is for all.
func personally(w http.ResponseWriter, v *visit) {
	switch {
	case v.Header.Get("X-Odd") != "":
		w.WriteHeader(http.StatusBadRequest)
	case v.Header.Get("Cookie") != "":
		w.Header().Set("Location", "/login")
		w.WriteHeader(http.StatusFound)
	case v.Header.Get("Authorization") != "":
		w.Header().Set("Cache-Control", "private")
	case v.Header.Get("Cache-Control") != "" || v.Header.Get("Pragma") != "":
		w.Header().Set("Set-Cookie", "new=visitor")
	default:
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "for all")
	}
}

// One personal request before a hundred ordinary ones had each of those ask the origin.
func TestPersonalAnswerIsNotRememberedForOthers(t *testing.T) {
	for name, header := range personalRequests {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, personally)
			in := start(t, proxied("larder"), g.origin)
			for range 2 {
				personal := gather(t, in, 1, http.MethodGet, "/", func(int) []string { return header })
				open(g.next(t, 1)...)
				personal.all()
			}
			crowd := gather(t, in, 100, http.MethodGet, "/", nil)
			parked(t, 100)
			open(g.next(t, 1)...)
			for _, a := range crowd.all() {
				a.want(t, 200, "for all", "")
			}
			g.nobody(t)
		})
	}
}

// The same while the ordinary ones wait for the personal one: its answer is not for them, but the
// next is for all of them.
func TestFollowersOfAPersonalRequestGather(t *testing.T) {
	for name, header := range personalRequests {
		if header[0] == "Authorization" {
			continue // it leads none but its like
		}
		t.Run(name, func(t *testing.T) {
			const n = 50
			g := newGate(t, personally)
			in := start(t, proxied("larder"), g.origin)
			personal := gather(t, in, 1, http.MethodGet, "/", func(int) []string { return header })
			leader := g.next(t, 1)
			crowd := gather(t, in, n, http.MethodGet, "/", nil)
			parked(t, n+1)
			open(leader...)
			personal.all()
			second := g.next(t, 1)
			parked(t, n)
			open(second...)
			for _, a := range crowd.all() {
				a.want(t, 200, "for all", "")
			}
			g.nobody(t)
		})
	}
}

// Members, whose answers are their own, do not wait for each other once that is known, also where a
// visitors' copy is there and stale.
func TestMembersWaitForNobody(t *testing.T) {
	const n = 10
	g := newGate(t, func(w http.ResponseWriter, v *visit) {
		if cookie := v.Header.Get("Cookie"); cookie != "" {
			w.Header().Set("Cache-Control", "private")
			w.WriteHeader(http.StatusForbidden) // which leaves the copy where it is
			_, _ = io.WriteString(w, cookie)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Age", "100")
		_, _ = io.WriteString(w, "for all")
	})
	in := start(t, proxied("larder"), g.origin)
	fill(t, in, g, "/")
	member := func(i int) []string { return []string{"Cookie", fmt.Sprint("session=", i)} }
	first := gather(t, in, 1, http.MethodGet, "/", member)
	open(g.next(t, 1)...)
	first.all()
	crowd := gather(t, in, n, http.MethodGet, "/", member)
	open(g.next(t, n)...)
	for i, a := range crowd.all() {
		a.want(t, 403, fmt.Sprint("session=", i), "")
	}
	visitors := gather(t, in, n, http.MethodGet, "/", nil)
	parked(t, n)
	open(g.next(t, 1)...)
	for _, a := range visitors.all() {
		a.want(t, 200, "for all", "")
	}
	g.nobody(t)
}

// What the old rules called not shareable was remembered through a reload: the first hit under the
// new ones was the third request.
func TestReloadBeginsWithItsOwnRules(t *testing.T) {
	o := newOrigin(t, answering(200))
	in := start(t, proxied("larder"), o)
	in.get("/").want(t, 200, "", "Larder; fwd=uri-miss")
	for i, tc := range []struct{ name, directive, want string }{
		{"the same rules", "larder", "Larder; fwd=miss"},
		{"another way to tell", block("status off"), ""},
		{"the same rules again", "larder", "Larder; fwd=miss"},
		{"rules that let it in", block("ttl 1m"), "Larder; fwd=uri-miss; stored"},
		{"and those kept", block("ttl 1m"), "Larder; hit; ttl="},
	} {
		in.load(proxied(fmt.Sprintf("header X-Load %d\n%s", i, tc.directive)), o)
		var first *answer
		eventually(t, "the old server takes no request any more", func() bool {
			first = in.get("/")
			return first.Header.Get("X-Load") == fmt.Sprint(i)
		})
		if got := first.cacheStatus(); !strings.HasPrefix(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
