package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A body that breaks off breaks every reader's connection, is not stored, and the next request
// begins anew.
func TestBrokenBody(t *testing.T) {
	const n = 10
	for name, declared := range map[string]string{"Content-Length too long": "100", "chunked, connection cut": ""} {
		t.Run(name, func(t *testing.T) {
			cut := make(chan struct{})
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				w.Header().Set("Cache-Control", "max-age=60")
				if v.number > 1 {
					_, _ = io.WriteString(w, "whole")
					return
				}
				if declared != "" {
					w.Header().Set("Content-Length", declared)
				}
				_, _ = io.WriteString(w, "a part")
				_ = http.NewResponseController(w).Flush()
				<-cut
				panic(http.ErrAbortHandler)
			})
			// With a Content-Length reverse_proxy keeps small bodies back.
			in := start(t, setup{site: "larder\nreverse_proxy {{origin}} {\nflush_interval -1\n}"}, g.origin)
			var clients sync.WaitGroup
			headers := make(chan struct{}, n)
			for range n {
				clients.Go(func() {
					resp, err := in.client.Get(in.url("/"))
					headers <- struct{}{}
					if err != nil {
						t.Errorf("no header: %v", err)
						return
					}
					defer resp.Body.Close()
					if body, err := io.ReadAll(resp.Body); err == nil {
						t.Errorf("the body ended cleanly: %d %q", resp.StatusCode, body)
					}
				})
			}
			parked(t, n)
			open(g.next(t, 1)...)
			for range n {
				<-headers
			}
			close(cut)
			clients.Wait()
			g.noMore(t)
			g.letThrough(t, in, "/").want(t, 200, "whole", "Larder; fwd=uri-miss; stored")
			settled(t, in)
		})
	}
}

// A failure costs two fetches, however many wait: the leader's client has its own as it came, the
// others have the second's.
func TestFailureWithFollowers(t *testing.T) {
	const followers = 10
	fail := func(w http.ResponseWriter, number int) {
		w.Header().Set("Retry-After", fmt.Sprint(number))
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "the origin's own words")
	}
	abort := func(http.ResponseWriter, int) { panic(http.ErrAbortHandler) }
	for name, tc := range map[string]struct {
		first, second func(w http.ResponseWriter, number int)
		leader        string // status and body
		others        string
		fetches       int
	}{
		"503 twice":       {fail, fail, "503 the origin's own words", "503 handled: miss status", 2},
		"no answer twice": {abort, abort, "502 handled: miss error", "502 handled: miss error", 2},
		"503, then good": {fail, func(w http.ResponseWriter, _ int) {
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "good")
		}, "503 the origin's own words", "200 good", 2},
		"no answer, then good": {abort, func(w http.ResponseWriter, _ int) {
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "good")
		}, "502 handled: miss error", "200 good", 2},
		"503, then not to be stored": {fail, func(w http.ResponseWriter, _ int) {
			w.Header().Set("Cache-Control", "no-store")
			_, _ = io.WriteString(w, "single")
		}, "503 the origin's own words", "200 single", 1 + followers},
		"503, then not found": {fail, func(w http.ResponseWriter, _ int) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "none")
		}, "503 the origin's own words", "404 none", 1 + followers},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				if v.number == 1 {
					tc.first(w, v.number)
					return
				}
				tc.second(w, v.number)
			})
			in := start(t, setup{site: `larder
				reverse_proxy {{origin}} {
					transport http {
						keepalive off
					}
				}
				handle_errors {
					respond "handled: {http.larder.status} {http.larder.reason}"
				}`}, g.origin)
			leader := gather(t, in, 1, http.MethodGet, "/", nil)
			v := g.next(t, 1)
			c := gather(t, in, followers, http.MethodGet, "/", nil)
			parked(t, 1+followers)
			open(v...)
			first := leader.all()[0]
			if got := fmt.Sprint(first.StatusCode, " ", first.body); got != tc.leader {
				t.Errorf("the leader got %s, want %s", got, tc.leader)
			}
			v = g.next(t, 1)
			parked(t, followers) // all gather on the second fetch
			g.noMore(t)
			open(v...)
			if more := tc.fetches - 2; more > 0 {
				open(g.next(t, more)...)
			}
			for i, a := range c.all() {
				if got := fmt.Sprint(a.StatusCode, " ", a.body); got != tc.others {
					t.Errorf("follower %d got %s, want %s", i, got, tc.others)
				}
				if want := "2"; a.StatusCode == 503 && a.Header.Get("Retry-After") != want {
					t.Errorf("follower %d: Retry-After %q, want %q", i, a.Header.Get("Retry-After"), want)
				}
			}
			g.noMore(t)
			settled(t, in)
		})
	}
}

// Where a stale answer is allowed, a failure costs one fetch and no client sees it.
func TestStaleAnswerForAllWhoWait(t *testing.T) {
	const n = 20
	for name, answer := range map[string]func(w http.ResponseWriter){
		"503":       func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"no answer": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"header alone, chunked": func(w http.ResponseWriter) {
			w.Header().Set("Cache-Control", "max-age=60")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"header alone, with Content-Length": func(w http.ResponseWriter) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Length", "100")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"header alone, of what is for one client": func(w http.ResponseWriter) {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Content-Length", "100")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"header alone, of what states no lifetime": func(w http.ResponseWriter) {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"header alone, of a failure that no stale response stands in for": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusNotImplemented)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				if v.number > 1 {
					answer(w)
					return
				}
				w.Header().Set("Cache-Control", "max-age=60, stale-if-error=600")
				w.Header().Set("Age", "100")
				_, _ = io.WriteString(w, "old but good")
			})
			in := start(t, setup{site: "larder\nreverse_proxy {{origin}} {\ntransport http {\nkeepalive off\n}\n}"}, g.origin)
			fill(t, in, g, "/")
			c := gather(t, in, n, http.MethodGet, "/", nil)
			parked(t, n)
			open(g.next(t, 1)...)
			for _, a := range c.all() {
				a.want(t, 200, "old but good", "")
				if !strings.HasPrefix(a.cacheStatus(), "Larder; hit; ttl=-") || !strings.HasSuffix(a.cacheStatus(), "; detail=sie") {
					t.Errorf("Cache-Status %q", a.cacheStatus())
				}
			}
			g.noMore(t)
			settled(t, in)
		})
	}
}

// breaksOff answers with a header, and with part of a body where there is one, and then breaks its
// connection.
func breaksOff(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("X-Origin", "yes")
	if r.URL.Query().Has("length") {
		w.Header().Set("Content-Length", "1000")
	}
	_, _ = io.WriteString(w, r.URL.Query().Get("part"))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// A client whose answer breaks off before its first byte, or with all of it still in a buffer, sees
// the header and then a body that breaks off, as without Larder; so does the access log.
func TestLeaderSeesTheHeaderOfWhatBreaksOff(t *testing.T) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	h2 := &http.Transport{Protocols: &protocols, DisableCompression: true}
	t.Cleanup(h2.CloseIdleConnections)
	for name, query := range map[string]string{
		"Content-Length":           "length",
		"chunked":                  "chunked",
		"Content-Length, one byte": "length&part=x",
		"chunked, one byte":        "part=x",
	} {
		for proto, transport := range map[string]*http.Transport{"HTTP/1.1": nil, "h2": h2} {
			t.Run(name+", "+proto, func(t *testing.T) {
				log := newAccessLog(t)
				o := newQuietOrigin(t, breaksOff)
				s := setup{
					global: "servers {\nprotocols h1 h2c\n}",
					site: log.directive() + "@with path /with\nroute @with {\nlarder\nreverse_proxy {{origin}}\n}\n" +
						"reverse_proxy {{origin}}",
				}
				in := start(t, s, o)
				if transport != nil {
					in.client.Transport = transport
				}
				want, got := in.get("/without?"+query), in.get("/with?"+query)
				if want.err == nil || got.err == nil {
					t.Errorf("the body ends with %v, without Larder with %v; want errors", got.err, want.err)
				}
				differences(t, name, want, got)
				if got.ContentLength != want.ContentLength || fmt.Sprint(got.TransferEncoding) != fmt.Sprint(want.TransferEncoding) {
					t.Errorf("length %d %v, without Larder %d %v", got.ContentLength, got.TransferEncoding, want.ContentLength, want.TransferEncoding)
				}
				a := log.entry(t, http.MethodGet, "/without?"+query)
				b := log.entry(t, http.MethodGet, "/with?"+query)
				if a["status"] != b["status"] || b["status"] != float64(http.StatusOK) {
					t.Errorf("the access log has status %v, without Larder %v", b["status"], a["status"])
				}
				if !strings.Contains(query, "part") && b["larder_reason"] != "incomplete" {
					t.Errorf("the access log has reason %v, want incomplete", b["larder_reason"])
				}
			})
		}
	}
}

// Those who wait for what breaks off twice before its first byte get an error that handle_errors
// treats; the one whose fetch was the first sees what it would see alone.
func TestFollowersOfWhatBreaksOffTwice(t *testing.T) {
	const followers = 3
	ts := newTurnstile(t, func(_ int, w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		breaksOff(w, r)
		return nil
	})
	in := start(t, setup{site: "route {\nlarder\ntest_breaker\n}\nhandle_errors {\nrespond \"{err.status_code} handled\" 502\n}"}, nil)
	leader := in.dial()
	leader.send(fmt.Sprintf("GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n", in.port))
	parked(t, 1)
	c := gather(t, in, followers, http.MethodGet, "/", nil)
	parked(t, 1+followers)
	ts.let(t)
	parked(t, followers)
	ts.let(t)
	for _, a := range c.all() {
		if a.StatusCode != http.StatusBadGateway || a.body != "502 handled" {
			t.Errorf("a follower got %d %q, want a 502 by handle_errors", a.StatusCode, a.body)
		}
	}
	resp := leader.response(http.MethodGet)
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Origin") != "yes" || len(body) > 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the leader got %d %v %q, %v; want the header and a body that breaks off", resp.StatusCode, resp.Header, body, err)
	}
	settled(t, in)
}
