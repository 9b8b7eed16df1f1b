package warm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fakeSite answers by a function, at once by the fake clock.
type fakeSite func(r *http.Request) *http.Response

func (f fakeSite) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := f(r)
	if resp == nil { // it hangs
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return resp, nil
}

func response(code int, header ...string) *http.Response {
	h := make(http.Header)
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader("12345"))}
}

func stored200() *http.Response { return response(200, "Cache-Status", "Larder; fwd=uri-miss; stored") }

// listOf is a list of n pages.
func listOf(n int) io.Reader {
	var list strings.Builder
	for i := range n {
		fmt.Fprintf(&list, "http://h/%d\n", i)
	}
	return strings.NewReader(list.String())
}

// TestRate: by a fake clock, requests go at the rate, whatever the number of workers.
func TestRate(t *testing.T) {
	for _, tc := range []struct {
		rate  string
		every time.Duration
	}{{"5/s", 200 * time.Millisecond}, {"30/m", 2 * time.Second}, {"7200/h", 500 * time.Millisecond}, {"0.5/s", 2 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			times := make(chan time.Duration, 10)
			j := newJob(source{fromList, "-"})
			j.stdin, j.rate, j.concurrency = listOf(10), tc.rate, 4
			j.transport = fakeSite(func(*http.Request) *http.Response {
				times <- time.Since(began)
				return stored200()
			})
			mustRun(t, j)
			for i := range 10 {
				if at, want := <-times, time.Duration(i)*tc.every; at < want-time.Millisecond || at > want+time.Millisecond {
					t.Errorf("%s: request %d goes at %v, want %v", tc.rate, i, at, want)
				}
			}
		})
	}
}

// TestRateAfterAPause: a worker that waits for the end of a pause keeps no place at the rate. The
// workers that had taken theirs before went all at once when it ended.
func TestRateAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(1)
		if err := p.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.pause(time.Minute)
		began := time.Now()
		times := make(chan time.Duration, 10)
		for range cap(times) {
			go func() {
				if err := p.wait(t.Context()); err != nil {
					t.Error(err)
				}
				times <- time.Since(began)
			}()
		}
		for i, last := 0, time.Minute-time.Second; i < cap(times); i++ {
			at := <-times
			if at < last+time.Second-time.Millisecond || at > last+2*time.Second {
				t.Errorf("request %d goes at %v, the one before at %v", i, at, last)
			}
			last = at
		}
	})
}

// TestRetryAfterPausesAll: a 503 or 429 that asks to wait stops all workers for so long, and its
// URL is asked for again.
func TestRetryAfterPausesAll(t *testing.T) {
	for _, tc := range []struct {
		name  string
		busy  func() *http.Response
		pause time.Duration
	}{
		{"503 in seconds", func() *http.Response { return response(503, "Retry-After", "30") }, 30 * time.Second},
		{"503 with a date", func() *http.Response {
			return response(503, "Retry-After", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
		}, time.Minute},
		{"429 without a time", func() *http.Response { return response(429) }, shortPause},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var at []time.Duration
				began, n := time.Now(), 0
				j := newJob(source{fromList, "-"})
				j.stdin = listOf(3)
				j.transport = fakeSite(func(*http.Request) *http.Response {
					at = append(at, time.Since(began))
					if n++; n == 2 {
						return tc.busy()
					}
					return stored200()
				})
				sum := mustRun(t, j)
				if want := []time.Duration{0, 0, tc.pause, tc.pause}; !slices.Equal(at, want) || sum.Stored != 3 || sum.Pauses != 1 {
					t.Errorf("requests at %v, want %v; %+v", at, want, sum)
				}
			})
		})
	}
}

// TestBusyForLong: what is busy three times has failed, and so has what asks for hours.
func TestBusyForLong(t *testing.T) {
	for retryAfter, want := range map[string]int{"10": 3, "86400": 1, "": 1} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			j := newJob(source{fromList, "-"})
			j.stdin = listOf(1)
			j.transport = fakeSite(func(*http.Request) *http.Response {
				n++
				return response(503, "Retry-After", retryAfter, "Cache-Status", "Larder; detail=origin-busy")
			})
			sum := mustRun(t, j)
			if n != want || sum.Failed != 1 || sum.Failures[0].Reason != "503 Service Unavailable, origin-busy" {
				t.Errorf("Retry-After %s: %d requests, %+v", retryAfter, n, sum.Failures)
			}
		})
	}
}

// TestASitemapWaits: a sitemap that is busy is asked for again, too.
func TestASitemapWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, n := time.Now(), 0
		j := newJob(source{fromSitemap, "http://h/sitemap.xml"})
		j.transport = fakeSite(func(*http.Request) *http.Response {
			if n++; n == 1 {
				return response(503, "Retry-After", "7")
			}
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("<urlset/>"))}
		})
		if sum := mustRun(t, j); sum.Failed != 0 || n != 2 || time.Since(began) != 7*time.Second {
			t.Errorf("%d requests in %v, %+v", n, time.Since(began), sum)
		}
	})
}

// TestStalled: an answer that does not come, or stops, fails after --timeout; one that comes slowly
// does not.
func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJob(source{fromList, "-"})
		j.stdin, j.timeout = listOf(2), 30*time.Second
		j.transport = fakeSite(func(r *http.Request) *http.Response {
			if r.URL.Path == "/0" {
				return nil
			}
			resp := stored200()
			resp.Body = &slowBody{ctx: r.Context(), every: 20 * time.Second, left: 5}
			return resp
		})
		began := time.Now()
		sum := mustRun(t, j)
		if sum.Stored != 1 || sum.Failed != 1 || sum.Failures[0].Reason != "nothing came for too long (30s)" || time.Since(began) != 130*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), sum)
		}
	})
}

// TestBodyThatNeverEnds: a page with a body that never ends must not keep a run from its end. One
// that is not stored is not read, and one that is said to be stored is given up.
func TestBodyThatNeverEnds(t *testing.T) {
	for _, tt := range []struct {
		status, reason string
		after          time.Duration
	}{
		{"Larder; fwd=uri-miss; detail=no-store", "", 0},
		{"Larder; fwd=uri-miss; stored", "the answer did not end in time (10m0s)", 10 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			j := newJob(source{fromList, "-"})
			j.stdin, j.timeout, j.maxTime = listOf(1), time.Second, 10*time.Minute
			j.transport = fakeSite(func(r *http.Request) *http.Response {
				resp := response(200, "Cache-Status", tt.status)
				resp.Body, resp.ContentLength = &slowBody{ctx: r.Context(), every: time.Second / 2, left: -1}, -1
				return resp
			})
			began := time.Now()
			sum := mustRun(t, j)
			reason := ""
			if len(sum.Failures) > 0 {
				reason = sum.Failures[0].Reason
			}
			if sum.Done != 1 || reason != tt.reason || time.Since(began) != tt.after {
				t.Errorf("%s: after %v: %+v", tt.status, time.Since(began), sum)
			}
		})
	}
}

// TestFileOfWhichPartsAreStored: what a visitor has read of a file in slices is no reason to leave
// the rest of it, nor is a hit, which is told by some of many slices.
func TestFileOfWhichPartsAreStored(t *testing.T) {
	for status, want := range map[string]int64{
		"Larder; hit; ttl=60":                                  1 << 20,
		"Larder; fwd=partial; fwd-status=206":                  1 << 20,
		"Larder; fwd=partial":                                  0, // passed on
		"Larder; fwd=partial; fwd-status=206; detail=no-store": 0,
	} {
		body := &countedBody{Reader: io.LimitReader(zeros{}, 1<<20)}
		j := newJob(source{fromList, "-"})
		j.stdin = listOf(1)
		j.transport = fakeSite(func(*http.Request) *http.Response {
			resp := response(200, "Cache-Status", status)
			resp.Body, resp.ContentLength = body, 1<<20
			return resp
		})
		sum := mustRun(t, j)
		if body.n != want || sum.Stored+sum.Hits != int(min(want, 1)) {
			t.Errorf("%s: %d bytes were read: %+v", status, body.n, sum)
		}
	}
}

// countedBody counts what is read of it.
type countedBody struct {
	io.Reader
	n int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.n += int64(n)
	return n, err
}

func (b *countedBody) Close() error { return nil }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// slowBody sends a byte now and then, without end if left is negative.
type slowBody struct {
	ctx   context.Context
	every time.Duration
	left  int
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(b.every):
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
	b.left--
	p[0] = 'x'
	return 1, nil
}

func (b *slowBody) Close() error { return nil }

// TestInterruptedPause: Ctrl-C ends a run that waits.
func TestInterruptedPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		j := newJob(source{fromList, "-"})
		j.stdin, j.concurrency = listOf(5), 3
		j.transport = fakeSite(func(*http.Request) *http.Response { return response(503, "Retry-After", "60") })
		began := time.Now()
		time.AfterFunc(time.Second, interrupt)
		sum, err := j.run(ctx)
		if err != nil || !sum.Interrupted || sum.Done != 0 || time.Since(began) != time.Second {
			t.Errorf("after %v: %+v, %v", time.Since(began), sum, err)
		}
		if err := sum.Err(); err == nil || !strings.Contains(err.Error(), "with --resume FILE it could go on there") {
			t.Errorf("%v", err)
		}
	})
}

// TestProgress: a line every few seconds, and on a terminal a bar that draws over itself.
func TestProgress(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			j := newJob(source{fromList, "-"})
			j.stdin, j.rate, j.show = listOf(13), "1/s", progress{&out, terminal}
			j.transport = fakeSite(func(r *http.Request) *http.Response {
				time.Sleep(100 * time.Millisecond) // by the fake clock: no answer comes with a tick
				if r.URL.Path == "/3" {
					return response(404)
				}
				return stored200()
			})
			mustRun(t, j)
			got := out.String()
			if terminal {
				if !strings.Contains(got, "/13") || !strings.Contains(got, "1 failed") || !strings.Contains(got, "\r") || strings.Contains(got, "\n") {
					t.Errorf("on a terminal: %q", got)
				}
				return
			}
			want := "5 of 13 requests: 4 stored, 0 stored before, 1 failed; 25 B in 5s\n10 of 13 requests: 9 stored, 0 stored before, 1 failed; 50 B in 10s\n"
			if got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestPacerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, p := range []*pacer{newPacer(0), newPacer(1)} {
		if err := p.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}
