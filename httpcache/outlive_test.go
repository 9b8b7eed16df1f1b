package httpcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/store"
)

// leaving is a site with two stored pages, and an origin that answers an unsafe request after a
// while, unless the request is cancelled.
type leaving struct {
	t      *testing.T
	h      *testHandler
	after  time.Duration
	status int           // 0: the handlers write nothing
	ended  time.Duration // when the request was cancelled at the origin, or over
}

func newLeaving(t *testing.T, after time.Duration, status int) *leaving {
	l := &leaving{t: t, h: newTestHandler(t), after: after, status: status}
	l.h.Invalidate = []InvalidateRule{{
		Match: func(r *http.Request) (bool, error) { return true, nil }, URLs: []string{"/other"},
	}}
	for _, url := range l.urls() {
		l.do(t.Context(), http.MethodGet, url)
	}
	return l
}

func (l *leaving) urls() []string { return []string{"http://example.com/", "http://example.com/other"} }

func (l *leaving) do(ctx context.Context, method, url string) {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, method, url, strings.NewReader(""))
	if err := l.h.ServeHTTP(w, r, l.answer); err != nil && ctx.Err() == nil {
		l.t.Error(err)
	}
}

func (l *leaving) answer(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodGet {
		w.Header().Set("Cache-Control", "max-age=6000")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	began := time.Now()
	defer func() { l.ended = time.Since(began) }()
	select {
	case <-time.After(l.after):
	case <-r.Context().Done():
		if l.status == 0 {
			return nil
		}
		return fail(499, context.Cause(r.Context())) // as a proxy
	}
	if l.status == 0 {
		return nil
	}
	w.WriteHeader(l.status)
	_, _ = io.WriteString(w, "first")
	select { // a body that goes on
	case <-time.After(time.Hour):
	case <-r.Context().Done():
	}
	return nil
}

func (l *leaving) stored() int {
	items, _, err := l.h.cache.store.List(store.Filter{}, 10, "")
	if err != nil {
		l.t.Error(err)
	}
	return len(items)
}

// What has succeeded at the origin invalidates, although its client has left before the response.
// What has not been answered in time, or without success, invalidates nothing. From the header on
// the request ends with its client, as without a cache.
func TestClientOfAnUnsafeRequestLeaves(t *testing.T) {
	const leaves = time.Second
	for name, tc := range map[string]struct {
		method  string
		methods []string
		observe bool
		after   time.Duration
		status  int
		stored  int
		ended   time.Duration
	}{
		"before success":                     {http.MethodPost, nil, false, 5 * time.Second, 200, 0, 5 * time.Second},
		"before success, by PUT":             {http.MethodPut, nil, false, 5 * time.Second, 201, 0, 5 * time.Second},
		"before a redirect":                  {http.MethodPost, nil, false, 5 * time.Second, 303, 0, 5 * time.Second},
		"before a failure":                   {http.MethodPost, nil, false, 5 * time.Second, 500, 2, 5 * time.Second},
		"of an origin that does not answer":  {http.MethodPost, nil, false, time.Hour, 200, 2, leaves + outliveTime},
		"before nothing is written":          {http.MethodPost, nil, false, 5 * time.Second, 0, 0, 5 * time.Second},
		"of handlers that give up silently":  {http.MethodPost, nil, false, time.Hour, 0, 2, leaves + outliveTime},
		"after the header":                   {http.MethodPost, nil, false, 0, 200, 0, leaves},
		"before success, where POST is kept": {http.MethodPost, []string{"GET", "HEAD", "POST"}, false, 5 * time.Second, 200, 0, 5 * time.Second},
		"before failure, where POST is kept": {http.MethodPost, []string{"GET", "HEAD", "POST"}, false, 5 * time.Second, 404, 2, 5 * time.Second},
		"silently, where POST is observed":   {http.MethodPost, []string{"GET", "HEAD", "POST"}, true, time.Hour, 0, 2, leaves},
		"answered, where POST is observed":   {http.MethodPost, []string{"GET", "HEAD", "POST"}, true, leaves / 2, 0, 0, leaves / 2},
		"a safe method":                      {"PROPFIND", nil, false, 5 * time.Second, 200, 2, leaves},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeaving(t, tc.after, tc.status)
				if tc.methods != nil {
					l.h.Methods = tc.methods
				}
				l.h.Observe = tc.observe
				ctx, leave := context.WithCancel(t.Context())
				time.AfterFunc(leaves, leave)
				l.do(ctx, tc.method, l.urls()[0])
				time.Sleep(15 * time.Minute)
				if n := l.stored(); n != tc.stored {
					t.Errorf("%d are stored, want %d", n, tc.stored)
				}
				if l.ended != tc.ended {
					t.Errorf("ended at the origin after %v, want %v", l.ended, tc.ended)
				}
			})
		})
	}
}

// Handlers that do not look at their request's context go on when it has ended, and may have done
// its work. Where they write nothing none can tell, and nothing is invalidated. What they write
// is their answer.
func TestHandlersThatGoOnWithoutTheirClient(t *testing.T) {
	for _, tc := range []struct{ status, stored int }{{0, 2}, {http.StatusNoContent, 0}} {
		synctest.Test(t, func(t *testing.T) {
			l := newLeaving(t, 0, 0)
			ctx, leave := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, leave)
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, l.urls()[0], nil)
			if err := l.h.ServeHTTP(w, r, func(w http.ResponseWriter, _ *http.Request) error {
				time.Sleep(time.Second + outliveTime + time.Second)
				if tc.status != 0 {
					w.WriteHeader(tc.status)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			if n := l.stored(); n != tc.stored {
				t.Errorf("after a %d %d are stored, want %d", tc.status, n, tc.stored)
			}
			time.Sleep(15 * time.Minute)
		})
	}
}

// A client that has left by the header, but still reads, gets neither the origin's header nor a
// part of its body that it could take for all. One that leaves later gets what has come.
func TestClientOfAnUnsafeRequestReadsOn(t *testing.T) {
	for after, want := range map[time.Duration]string{
		5 * time.Second: `499 "" map[Cache-Status:[Larder; fwd=bypass; detail=method] Content-Length:[0]]`,
		0:               `201 "first" map[Cache-Status:[Larder; fwd=bypass; detail=method] X-Origin:[1]]`,
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLeaving(t, after, http.StatusCreated)
			ctx, leave := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, leave)
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, l.urls()[0], nil)
			if err := l.h.ServeHTTP(w, r, func(w http.ResponseWriter, r *http.Request) error {
				w.Header().Set("X-Origin", "1")
				return l.answer(w, r)
			}); err != nil {
				t.Error(err)
			}
			if got := fmt.Sprintf("%d %q %v", w.Code, w.Body, w.Result().Header); got != want {
				t.Errorf("header after %v: %s, want %s", after, got, want)
			}
			if n := l.stored(); n != 0 {
				t.Errorf("header after %v: %d are stored", after, n)
			}
		})
	}
}

// Clients that leave one after the other have so many requests go on, and no more. Those of one
// client leave places for others.
func TestOutlivingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandler(t)
		ctx, leave := context.WithCancel(t.Context())
		var mu sync.Mutex
		ended := map[time.Duration]int{}
		began := time.Now()
		next := handlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			mu.Lock()
			defer mu.Unlock()
			ended[time.Since(began)]++
			return r.Context().Err()
		})
		var clients sync.WaitGroup
		for i := range maxOutliving {
			clients.Go(func() {
				r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://example.com/", nil)
				if i%8 == 0 {
					r.RemoteAddr = fmt.Sprintf("198.51.100.%d:1", i/8)
				}
				if err := h.ServeHTTP(httptest.NewRecorder(), r, next); !errors.Is(err, context.Canceled) {
					t.Errorf("ServeHTTP: %v", err)
				}
			})
		}
		synctest.Wait()
		leave()
		clients.Wait()
		// By others than the one client, maxOutliving/8. Those may come when half are taken.
		if n := ended[outliveTime]; n < maxOutliving/2 || n > maxOutliving/2+maxOutliving/8 || ended[0] != maxOutliving-n {
			t.Errorf("ended after so long: %v", ended)
		}
		if n := h.cache.outliving.taken; n != 0 {
			t.Errorf("%d are counted in the end", n)
		}
	})
}

// When the handlers have returned the request has its client's context again, and theirs has ended.
// So nothing waits for the client any more, whose context the server ends when all is over. A
// context that handlers have given the request stays.
func TestRequestHasItsContextAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaving(t, 0, http.StatusOK)
		type own struct{}
		for _, replaces := range []bool{false, true} {
			ctx, end := context.WithCancel(t.Context())
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, l.urls()[0], nil)
			var theirs context.Context
			if err := l.h.ServeHTTP(httptest.NewRecorder(), r, func(w http.ResponseWriter, r *http.Request) error {
				theirs = r.Context()
				if replaces {
					*r = *r.WithContext(context.WithValue(theirs, own{}, true))
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			if _, kept := r.Context().Value(own{}).(bool); kept != replaces || !kept && r.Context() != ctx {
				t.Errorf("handlers replace it: %t; it has another than it should", replaces)
			}
			if ended := theirs.Err() != nil; ended == replaces {
				t.Errorf("handlers replace it: %t; theirs has ended before the client's: %t", replaces, ended)
			}
			end()
			synctest.Wait()
			if theirs.Err() == nil {
				t.Errorf("handlers replace it: %t; theirs does not end with the client's", replaces)
			}
		}
		time.Sleep(15 * time.Minute) // until no worker is left
	})
}
