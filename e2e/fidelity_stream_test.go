package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Those who share a fetch see what they would see alone.
func TestSameForFollowers(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, _ *visit) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		h.Set("Server", "origin/1")
		h.Set("Via", "1.0 fred")
		h.Set("Etag", `"v1"`)
		h.Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		h.Set("X-Sum", "42")
	})
	s := startSides(t, "header X-Outer {http.request.header.X-Client}\n{{larder}}\nreverse_proxy {{origin}}", g.origin)
	client := func(int) []string { return []string{"X-Client", "c", "Host", "localhost"} }
	alone := gather(t, s.without, 1, http.MethodGet, "/", client)
	open(g.next(t, 1)...)
	want := alone.all()[0]
	c := gather(t, s.with, 5, http.MethodGet, "/", client)
	parked(t, 5)
	open(g.next(t, 1)...)
	for i, a := range c.all() {
		differences(t, fmt.Sprint("client ", i), want, a)
	}
	settled(t, s.with)
}

// Every event of a stream arrives before the origin sends the next. The origin waits for the client
// to say so.
func TestStreamsArriveEventByEvent(t *testing.T) {
	const events = 5
	for name, tc := range map[string]struct {
		directive string
		response  []string // header
		request   []string
	}{
		"SSE":                          {"larder", []string{"Content-Type", "text/event-stream"}, []string{"Accept", "text/event-stream"}},
		"SSE, no Accept":               {"larder", []string{"Content-Type", "text/event-stream"}, nil},
		"SSE, no-cache":                {"larder", []string{"Content-Type", "text/event-stream", "Cache-Control", "no-cache"}, nil},
		"SSE under ttl":                {"larder {\nttl 5m\n}", []string{"Content-Type", "text/event-stream; charset=utf-8"}, nil},
		"JSON lines, stored":           {"larder", []string{"Content-Type", "application/x-ndjson", "Cache-Control", "max-age=60"}, nil},
		"Incremental, not stored":      {"larder", []string{"Incremental", "?1", "Cache-Control", "no-store"}, nil},
		"X-Accel-Buffering":            {"larder", []string{"X-Accel-Buffering", "no", "Cache-Control", "no-store"}, nil},
		"Incremental, stored":          {"larder", []string{"Incremental", "?1", "Cache-Control", "max-age=60"}, nil},
		"SSE with coalescing disabled": {"larder {\ncoalesce off\n}", []string{"Content-Type", "text/event-stream"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan struct{})
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				for i := 0; i < len(tc.response); i += 2 {
					w.Header().Set(tc.response[i], tc.response[i+1])
				}
				writeEvents(w, r, events, arrived)
			})
			// Without flush_interval reverse_proxy itself would buffer what is not
			// text/event-stream.
			in := start(t, setup{site: tc.directive + "\nreverse_proxy {{origin}} {\nflush_interval -1\n}"}, o)
			for range 2 {
				if readEvents(t, in, tc.request, events, arrived); t.Failed() {
					return
				}
				if o.count() == 1 && slices.Contains(tc.response, "max-age=60") {
					return // the second would be a hit
				}
			}
		})
	}
}

// writeEvents writes n events, each when the one before has arrived.
func writeEvents(w http.ResponseWriter, r *http.Request, n int, arrived <-chan struct{}) {
	for i := range n {
		_, _ = fmt.Fprintf(w, "data: %d\n", i)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-arrived:
		case <-r.Context().Done():
			return
		}
	}
}

// readEvents reads the events that writeEvents writes, and says of each that it has arrived.
func readEvents(t *testing.T, in *instance, header []string, n int, arrived chan<- struct{}) {
	t.Helper()
	resp := in.open(t.Context(), "/events", header...)
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	for i := range n {
		line, err := r.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
			t.Errorf("event %q, %v, want %q", line, err, want)
			return
		}
		arrived <- struct{}{}
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("behind the last event: %q, %v", rest, err)
	}
}

// Where writes are to be passed on at once, that holds without reverse_proxy's flush_interval as
// well.
func TestIncrementalIsFlushedAtEveryWrite(t *testing.T) {
	for name, header := range map[string][]string{
		"Incremental":       {"Incremental", "?1"},
		"X-Accel-Buffering": {"X-Accel-Buffering", "no"},
	} {
		for _, directive := range []string{"no-store", "max-age=60"} {
			t.Run(name+" "+directive, func(t *testing.T) {
				arrived := make(chan struct{})
				o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set(header[0], header[1])
					w.Header().Set("Cache-Control", directive)
					writeEvents(w, r, 3, arrived)
				})
				in := start(t, proxied("larder"), o)
				readEvents(t, in, nil, 3, arrived)
			})
		}
	}
}

func TestEarlyHintsArePassedOnAtOnce(t *testing.T) {
	for name, directive := range map[string]string{"stored": "max-age=60", "not stored": "no-store"} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan struct{})
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Link", "</style.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				select {
				case <-seen:
				case <-r.Context().Done():
					return
				}
				w.Header().Del("Link")
				w.Header().Set("Cache-Control", directive)
				_, _ = io.WriteString(w, "body")
			})
			in := start(t, proxied("larder"), o)
			var hints []string
			var once sync.Once
			trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, " ", header.Get("Link")))
				once.Do(func() { close(seen) })
				return nil
			}}
			ctx := httptrace.WithClientTrace(t.Context(), trace)
			first, err := in.try(ctx, http.MethodGet, "/", "")
			if err != nil {
				t.Fatal(err)
			}
			first.want(t, 200, "body", "")
			if len(hints) != 1 || hints[0] != "103 </style.css>; rel=preload" {
				t.Errorf("informational responses: %q", hints)
			}
			if link := first.Header.Get("Link"); link != "" {
				t.Errorf("the final response has the hint's Link: %s", link)
			}
			hints = nil
			second, err := in.try(ctx, http.MethodGet, "/", "")
			if err != nil {
				t.Fatal(err)
			}
			second.want(t, 200, "body", "")
			if strings.HasPrefix(second.cacheStatus(), "Larder; hit") && len(hints) != 0 {
				t.Errorf("a hit came with %q", hints)
			}
		})
	}
}

// C17: nor does an informational response show them, whether what follows is stored or not.
func TestEarlyHintsShowNoTags(t *testing.T) {
	for name, tc := range map[string]struct{ method, directive string }{
		"stored": {http.MethodGet, "max-age=60"}, "not stored": {http.MethodGet, "no-store"}, "passed on": {http.MethodPost, "no-store"},
	} {
		t.Run(name, func(t *testing.T) {
			in := start(t, proxied("larder"), newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Surrogate-Key", "secret")
				w.Header().Set("Link", "</style.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				w.Header().Set("Cache-Control", tc.directive)
				_, _ = io.WriteString(w, "page")
			}))
			for range 2 { // the second knows the key for one that is not shareable
				var hints []string
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
					hints = append(hints, fmt.Sprintf("%d %s %q", code, header.Get("Link"), header.Get("Surrogate-Key")))
					return nil
				}})
				a, err := in.try(ctx, tc.method, "/", "")
				if err != nil {
					t.Fatal(err)
				}
				a.want(t, 200, "page", "")
				for _, hint := range hints {
					if hint != `103 </style.css>; rel=preload ""` {
						t.Errorf("%s: %s", a.cacheStatus(), hint)
					}
				}
			}
			if want := map[string]int{"stored": 1}[name]; in.purge(`{"tags":["secret"]}`) != want {
				t.Errorf("a purge by the tag matches another number than %d", want)
			}
		})
	}
}

func TestSameTrailers(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		if r.URL.Path == "/announced" {
			w.Header().Set("Trailer", "X-Sum, X-Never")
		}
		_, _ = io.WriteString(w, "body")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/announced" {
			w.Header().Set("X-Sum", "42")
			return
		}
		w.Header().Set(http.TrailerPrefix+"X-Sum", "43")
	})
	s := startSides(t, "{{larder}}\nreverse_proxy {{origin}}", o)
	for _, path := range []string{"/announced", "/unannounced"} {
		s.same(t, probe{name: path + " not stored", path: path + "?cc=no-store"})
		for name, want := range map[string]*answer{"without": s.without.get(path + "?cc=max-age%3D60"), "miss": s.with.get(path + "?cc=max-age%3D60"), "hit": s.with.get(path + "?cc=max-age%3D60")} {
			if want.Trailer.Get("X-Sum") == "" {
				t.Errorf("%s, %s: no trailer: %v", path, name, want.Trailer)
			}
		}
		s.same(t, probe{name: path, path: path + "?cc=max-age%3D60", hit: true})
	}
}

// TestTrailersAreAnnounced holds that each client hears before the body what comes behind it
// (RFC 9110 6.6.2): the leader, who waits for the same fetch, and who gets it from memory or from
// disk.
func TestTrailersAreAnnounced(t *testing.T) {
	goOn := make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Trailer", "X-Sum, X-Never")
		_, _ = io.WriteString(w, "begun ")
		_ = http.NewResponseController(w).Flush()
		<-goOn
		_, _ = io.WriteString(w, "ended")
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Late", "1")
	})
	in := start(t, proxied("larder"), o)
	open := func(who string) *http.Response {
		resp, err := in.client.Get(in.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		if _, announced := resp.Trailer["X-Sum"]; !announced {
			t.Errorf("%s: Trailer announces %v", who, resp.Trailer)
		}
		return resp
	}
	end := func(who string, resp *http.Response) {
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "begun ended" {
			t.Errorf("%s: body %q, %v", who, body, err)
		}
		if resp.Trailer.Get("X-Sum") != "42" || resp.Trailer.Get("X-Late") != "1" {
			t.Errorf("%s: trailers %v", who, resp.Trailer)
		}
	}
	leader, follower := open("the leader"), open("a follower")
	close(goOn)
	end("the leader", leader)
	end("a follower", follower)
	hit := open("a hit")
	if _, announced := hit.Trailer["X-Late"]; !announced {
		t.Errorf("a hit: Trailer announces %v, and what came unannounced is known by now", hit.Trailer)
	}
	end("a hit", hit)
	o.asked(t, 1)
}

// trailing answers with trailer fields, half of them announced.
func trailing(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", r.Header.Get("X-Cache-Control"))
	h.Set("Trailer", "Surrogate-Key, X-Sum, X-User")
	size := 1
	if r.URL.Path == "/large" {
		size = 6 << 20 // goes to disk while it arrives
	}
	_, _ = io.WriteString(w, strings.Repeat("b", size))
	_ = http.NewResponseController(w).Flush()
	h.Set("Surrogate-Key", marker)
	h.Set("X-Sum", "42")
	h.Set("X-User", "7")
	h.Set(http.TrailerPrefix+"Cache-Tag", marker)
	h.Set(http.TrailerPrefix+"X-Other", "1")
	h.Set(http.TrailerPrefix+"Retry-After", "1000")
	if r.Header.Get("X-Cookie") != "" {
		h.Set(http.TrailerPrefix+"Set-Cookie", "u=1")
	}
}

// Every rule for the fields of a header holds for those behind the body: for the client that a
// response was made for, for those who waited, and for hits.
func TestTrailersAreHeldToTheRules(t *testing.T) {
	const sums = "X-Other X-Sum"
	for _, tc := range []struct {
		name, directive, path string
		cacheControl          string
		cookie                bool
		own, others           string
		stored                bool
	}{
		{"tags", "larder", "/", "max-age=60", false, sums + " X-User", sums + " X-User", true},
		{"tags that are kept", block("tags {\nkeep_headers\n}"), "/", "max-age=60", false, "Cache-Tag Surrogate-Key " + sums + " X-User", "Cache-Tag Surrogate-Key " + sums + " X-User", true},
		{"named in private", "larder", "/", `max-age=60, private="X-User"`, false, sums + " X-User", sums, true},
		{"named in no-cache", "larder", "/", `max-age=60, no-cache="X-User"`, false, sums + " X-User", sums, true},
		{"Set-Cookie", "larder", "/", "max-age=60", true, "Set-Cookie " + sums + " X-User", sums + " X-User", false},
		{"Set-Cookie behind a large body", "larder", "/large", "max-age=60", true, "Set-Cookie " + sums + " X-User", sums + " X-User", false},
		{"Set-Cookie under strip", block("set_cookie strip"), "/", "max-age=60", true, "Set-Cookie " + sums + " X-User", sums + " X-User", true},
		{"Set-Cookie under store", block("set_cookie store"), "/", "max-age=60", true, "Set-Cookie " + sums + " X-User", "Set-Cookie " + sums + " X-User", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) { trailing(w, v.Request) })
			in := start(t, withDisk(t, tc.directive), g.origin)
			header := []string{"X-Cache-Control", tc.cacheControl}
			if tc.cookie {
				header = append(header, "X-Cookie", "1")
			}
			c := gather(t, in, 3, http.MethodGet, tc.path, func(int) []string { return header })
			parked(t, 3)
			open(g.next(t, 1)...)
			for _, a := range c.all() {
				want := tc.others
				if a.cacheStatus() == "Larder; fwd=uri-miss; stored" {
					want = tc.own
				}
				if got := trailers(a); got != want {
					t.Errorf("%q: trailers %q, want %q", a.cacheStatus(), got, want)
				}
			}
			if !tc.stored {
				if n := in.stats().Memory.Entries; n != 0 {
					t.Errorf("%d entries, want none", n)
				}
				settled(t, in)
				return
			}
			hit := in.get(tc.path)
			if got := trailers(hit); !hit.isHit() || got != tc.others {
				t.Errorf("%q: trailers %q, want %q", hit.cacheStatus(), got, tc.others)
			}
			g.noMore(t)
		})
	}
}

// trailers are the names of the fields behind the body, sorted.
func trailers(a *answer) string {
	names := make([]string, 0, len(a.Trailer))
	for name, values := range a.Trailer {
		if len(values) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// Tags stay inside also where they come behind the body of what is passed on; all else passes as
// without Larder.
func TestTagsInTrailersOfWhatIsPassed(t *testing.T) {
	o := newOrigin(t, trailing)
	for _, tc := range []struct {
		name, directive, want string
	}{
		{"stripped", "larder", "Retry-After X-Other X-Sum X-User"},
		{"kept", block("tags {\nkeep_headers\n}"), "Cache-Tag Retry-After Surrogate-Key X-Other X-Sum X-User"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := start(t, proxied(tc.directive), o)
			for _, request := range []struct{ name, method, said, status string }{
				{"not shared", http.MethodGet, "no-store", "Larder; fwd=uri-miss"},
				{"remembered as not shareable", http.MethodGet, "no-store", "Larder; fwd=miss"},
				{"bypass", http.MethodPost, "max-age=60", "Larder; fwd=bypass; detail=method"},
			} {
				a := in.do(request.method, "/", "", "X-Cache-Control", request.said)
				if a.want(t, 200, "b", request.status); trailers(a) != tc.want {
					t.Errorf("%s: trailers %q, want %q", request.name, trailers(a), tc.want)
				}
			}
		})
	}
}

// Trailers that are stored are judged at look-up by the rules of today.
func TestStoredTrailersByStricterRules(t *testing.T) {
	o := newOrigin(t, trailing)
	in := start(t, proxied(block("set_cookie store", "tags {\nkeep_headers\n}")), o)
	header := []string{"X-Cache-Control", "max-age=60", "X-Cookie", "1"}
	if got := trailers(in.get("/", header...)); !strings.Contains(got, "Set-Cookie") || !strings.Contains(got, "Surrogate-Key") {
		t.Fatalf("trailers %q", got)
	}
	in.load(proxied(block("set_cookie strip")), o)
	if hit := in.get("/", header...); !hit.isHit() || trailers(hit) != "X-Other X-Sum X-User" {
		t.Errorf("%q: trailers %q under strip", hit.cacheStatus(), trailers(hit))
	}
	in.load(proxied("larder"), o)
	if a := in.get("/", header...); a.isHit() {
		t.Errorf("%q under refuse", a.cacheStatus())
	}
}

// Tags that inner handlers have set before they failed stay inside too: error handlers answer with
// the header map as it is.
func TestTagsOfAnErrorStayInside(t *testing.T) {
	in := start(t, setup{site: `
		route {
			larder
			header Surrogate-Key ` + marker + `
			header X-Other 1
			error "no such page" 404
		}
		handle_errors {
			respond "error"
		}`}, nil)
	for _, method := range []string{http.MethodGet, http.MethodGet, http.MethodPost} {
		a := in.do(method, "/", "")
		a.want(t, 404, "error", "")
		if a.Header.Get("X-Other") != "1" || a.Header.Get("Surrogate-Key") != "" {
			t.Errorf("%s: %q", method, a.Header)
		}
	}
}

// A request whose body would be part of the key reaches the origin with its trailers: it bypasses.
func TestTrailersBehindAKeyedBodyReachTheOrigin(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, string(body)+" "+r.Trailer.Get("X-Sum"))
	})
	in := start(t, proxied("larder {\nmethods GET HEAD POST QUERY\nkey {\nbody\n}\nsafe_post\n}"), o)
	for _, method := range []string{http.MethodPost, "QUERY"} {
		c := in.dial()
		c.send(method + " / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" +
			"3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n")
		resp := c.response(method)
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "abc 42" {
			t.Errorf("%s: the origin saw %q, want the body and its trailer (%v)", method, body, err)
		}
		if got := resp.Header.Get("Cache-Status"); got != "Larder; fwd=bypass; detail=body" {
			t.Errorf("%s: %q, want a bypass", method, got)
		}
	}
}
