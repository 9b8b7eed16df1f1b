package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestVaryByWhatAFetchGoesWithout asks for forty ranges, and by conditionals, of what varies by
// them: a fetch carries none of these fields, so there is one variant and one fetch (RFC 9111 4.1).
func TestVaryByWhatAFetchGoesWithout(t *testing.T) {
	o := newOrigin(t, answering(http.StatusOK, "Cache-Control", "max-age=60", "Etag", `"a"`,
		"Vary", "Range, If-None-Match, If-Modified-Since, If-Range, If-Match, If-Unmodified-Since"))
	in := start(t, proxied("larder"), o)
	for i := range 40 {
		a := in.get("/", "Range", fmt.Sprintf("bytes=0-%d", i))
		if a.StatusCode != http.StatusPartialContent {
			t.Fatalf("range %d: status %d", i, a.StatusCode)
		}
	}
	in.get("/", "If-None-Match", `"b"`).want(t, http.StatusOK, "1", "")
	in.get("/", "If-None-Match", `"a"`).want(t, http.StatusNotModified, "", "")
	o.asked(t, 1)
}

// TestChunkedGetWithoutContent asks for what is stored by a GET whose framing leaves open whether
// it has content. It has none, so it is no fat GET; one with a single byte is.
func TestChunkedGetWithoutContent(t *testing.T) {
	o := newOrigin(t, answering(http.StatusOK, "Cache-Control", "max-age=60"))
	in := start(t, proxied("larder"), o)
	in.get("/").want(t, http.StatusOK, "1", "")
	host := fmt.Sprintf("localhost:%d", in.port)
	ask := func(method, body string) *answer {
		return in.raw(method + " / HTTP/1.1\nHost: " + host + "\nTransfer-Encoding: chunked\nConnection: close\n\n" + body)
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if a := ask(method, "0\n\n"); !a.isHit() {
			t.Errorf("%s without content: Cache-Status %q", method, a.cacheStatus())
		}
		if a := ask(method, "1\nx\n0\n\n"); a.cacheStatus() != "Larder; fwd=bypass; detail=body" {
			t.Errorf("%s with content: Cache-Status %q", method, a.cacheStatus())
		}
	}
	if sent := o.last(); sent.ContentLength != -1 {
		t.Errorf("the fat GET reached the origin with Content-Length %d", sent.ContentLength)
	}
	o.asked(t, 3)
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

// TestUnsatisfiableRangeHasNoLifetime holds that our own 416 says nothing of how long the whole may
// be kept, nor how it is validated.
func TestUnsatisfiableRangeHasNoLifetime(t *testing.T) {
	o := newOrigin(t, answering(http.StatusOK, "Cache-Control", "public, max-age=600", "Cdn-Cache-Control", "max-age=600",
		"Surrogate-Control", "max-age=600", "Fastly-Cache-Control", "max-age=600", "Expires", httpDate(time.Hour), "Pragma", "x",
		"Etag", `"a"`, "Last-Modified", httpDate(-time.Hour), "Content-Language", "en", "X-Kept", "1"))
	in := start(t, proxied("larder {\n\ttargeted Surrogate-Control Cdn-Cache-Control\n}"), o)
	for _, who := range []string{"the leader", "a hit"} {
		a := in.get("/", "Range", "bytes=9-")
		a.want(t, http.StatusRequestedRangeNotSatisfiable, "", "")
		if a.Header.Get("Content-Range") != "bytes */1" || a.Header.Get("X-Kept") != "1" {
			t.Errorf("%s: header %v", who, a.Header)
		}
		for name := range a.Header {
			if slices.Contains([]string{
				"Cache-Control", "Cdn-Cache-Control", "Surrogate-Control", "Fastly-Cache-Control", "Expires", "Pragma", "Etag", "Last-Modified",
				"Content-Language",
			}, name) {
				t.Errorf("%s: the 416 has %s: %q", who, name, a.Header[name])
			}
		}
	}
}

// TestModifiedSinceWithoutDates holds that what has neither Last-Modified nor a Date that is one is
// as old as it is here (RFC 9111 4.3.2): for the client it was fetched for, who sent the condition,
// and for a hit; stored or not.
func TestModifiedSinceWithoutDates(t *testing.T) {
	for _, control := range []string{"max-age=600", "no-store"} {
		for status, since := range map[int]time.Duration{http.StatusOK: -time.Hour, http.StatusNotModified: time.Hour} {
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("If-Modified-Since") != "" {
					t.Error("the fetch carries the condition")
				}
				w.Header()["Date"] = []string{"yesterday"}
				w.Header().Set("Cache-Control", control)
				_, _ = io.WriteString(w, "body")
			})
			in := start(t, proxied("larder"), o)
			in.get("/", "If-Modified-Since", httpDate(since)).want(t, status, "", "")
			if control == "max-age=600" {
				in.get("/", "If-Modified-Since", httpDate(since)).want(t, status, "", "")
			}
			o.asked(t, 1)
		}
	}
}
