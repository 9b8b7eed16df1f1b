package httpcache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/larder-cache/larder/rfc9111"
)

// TestSliceThatSaysMoreThanItsHead: an origin gave a member another content under the validator of
// the public file, and said so by Vary, or that it has to be validated. It was stored as a slice of
// the public file, and a hit for all.
func TestSliceThatSaysMoreThanItsHead(t *testing.T) {
	for name, header := range map[string][]string{
		"Vary":            {"Vary", "Cookie, X-Odd"},
		"no-cache":        {"Cache-Control", "no-cache"},
		"no lifetime":     {"Cache-Control", "max-age=0"},
		"must-revalidate": {"Cache-Control", "max-age=60, must-revalidate"},
	} {
		for _, field := range []string{"Cookie", "X-Odd"} {
			t.Run(name+" "+field, func(t *testing.T) {
				h, f := newSlicing(t), newFilm(120, 1000)
				own := filmBytes(121, 1000)
				f.want(t, f.get(t, h, "Range", "bytes=10-19"), 206, 10, 20, cold)
				f.alter = func(w http.ResponseWriter, r *http.Request) bool {
					if r.Header.Get(field) == "" {
						return false
					}
					setFields(w, header)
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(own))
					return true
				}
				w := f.get(t, h, "Range", "bytes=210-219", field, "x")
				if got := w.Header().Get("Cache-Status"); got != "Larder; fwd=partial" || !bytes.Equal(w.Body.Bytes(), own[210:220]) {
					t.Errorf("the member's own answer: %q", got)
				}
				f.want(t, f.get(t, h, "Range", "bytes=210-219"), 206, 210, 220, partly)
				f.wantHit(t, h, 210, 220, "Range", "bytes=210-219")
			})
		}
	}
}

// What selects by another field does not go on in an answer that has begun. A file that its origin
// has validated from now on goes on.
func TestFileTurnsStricter(t *testing.T) {
	for _, c := range []struct {
		name, field, value string
		breaks             bool
	}{
		{"Vary", "Vary", "X-Odd", true},
		{"no-cache", "Cache-Control", "no-cache", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(122, 1000)
			f.want(t, f.get(t, h, "Range", "bytes=10-19"), 206, 10, 20, cold)
			f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set(c.field, c.value)
				return false
			}
			for attempt := range 2 {
				w := httptest.NewRecorder()
				broke := f.read(h, w, newTestRequest(w))
				if broke != (c.breaks && attempt == 0) || !broke && !bytes.Equal(w.Body.Bytes(), f.content) {
					t.Errorf("attempt %d: broken off %t after %d bytes", attempt, broke, w.Body.Len())
				}
			}
			f.alter = nil
			f.want(t, f.get(t, h, "Range", "bytes=510-519"), 206, 510, 520, partly)
		})
	}
}

// A validation that brings a part under another Vary begins another file.
func TestValidationUnderAnotherVary(t *testing.T) {
	h, f := newSlicing(t), newFilm(123, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.alter = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Vary", "X-Odd")
		r.Header.Del("If-None-Match")
		return false
	}
	f.want(t, f.get(t, h, "Range", "bytes=210-219", "Cache-Control", "no-cache"), 206, 210, 220, "Larder; fwd=request; stored")
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, partly)
}

// TestRenewalUnderAnotherVary: a 304 kept the object of before, so that clients whom the Vary of
// today tells apart stored slices for each other.
func TestRenewalUnderAnotherVary(t *testing.T) {
	h, f := newSlicing(t), newFilm(127, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Vary", "X-Odd")
		return false
	}
	f.want(t, f.get(t, h, "Range", "bytes=110-119", "Cache-Control", "no-cache"), 206, 110, 120, "Larder; fwd=request; fwd-status=304; stored")
	f.want(t, f.get(t, h, "Range", "bytes=210-219"), 206, 210, 220, partly)
	f.wantHit(t, h, 210, 220, "Range", "bytes=210-219")
	f.want(t, f.get(t, h, "Range", "bytes=210-219", "X-Odd", "x"), 206, 210, 220, "Larder; fwd=vary-miss; stored")
}

// TestSliceOfAValidationThatComesLate: two requests validate a head at once, and the 304s say a
// Vary by which they differ. The later one went on with the object of the earlier, and stored its
// slice in that.
func TestSliceOfAValidationThatComesLate(t *testing.T) {
	h, f := newSlicing(t), newFilm(128, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=10-19"), 206, 10, 20, cold)
	validated, goOn := make(chan struct{}), make(chan struct{})
	member := bytes.Repeat([]byte("M"), 1000)
	f.alter = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Cache-Control", "public, max-age=60")
		w.Header().Set("Vary", "Authorization")
		if r.Header.Get("Authorization") == "" {
			return false
		}
		if r.Header.Get("If-None-Match") != "" {
			close(validated)
			<-goOn
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(member))
		return true
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w := httptest.NewRecorder()
		f.read(h, w, newTestRequest(w, "Range", "bytes=210-219", "Cache-Control", "no-cache", "Authorization", "m"))
		if got := w.Body.String(); got != string(member[210:220]) {
			t.Errorf("the member gets %q", got)
		}
	}()
	<-validated
	w := httptest.NewRecorder()
	f.read(h, w, newTestRequest(w, "Range", "bytes=10-19", "Cache-Control", "no-cache"))
	close(goOn)
	<-ended
	f.want(t, f.get(t, h, "Range", "bytes=210-219"), 206, 210, 220, partly)
	f.wantHit(t, h, 210, 220, "Range", "bytes=210-219")
}

// TestSliceWithTheOperatorsLifetime: it was a hit for members, under a head whose lifetime is the
// origin's.
func TestSliceWithTheOperatorsLifetime(t *testing.T) {
	h, f := newSlicing(t), newFilm(129, 1000)
	h.Policy.TTL = []rfc9111.StatusTTL{{Duration: time.Hour}}
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Del("Cache-Control")
		return false
	}
	f.want(t, f.get(t, h, "Range", "bytes=210-219"), 206, 210, 220, partly)
	f.wantHit(t, h, 210, 220, "Range", "bytes=210-219")
	for _, field := range []string{"Cookie", "Authorization"} {
		if w := f.get(t, h, "Range", "bytes=210-219", field, "m"); f.status(w) == hit {
			t.Errorf("%s: %s", field, f.status(w))
		}
	}
}

// TestRulesOfTodayHoldForSlices: a slice that laxer rules had let in was a hit by stricter ones, of
// a reload or of another handler of the URL.
func TestRulesOfTodayHoldForSlices(t *testing.T) {
	for _, c := range []struct {
		name, field, value string
		laxer              rfc9111.Policy
		request            string // Cache-Control of the request
	}{
		{"set_cookie strip", "Set-Cookie", "a=b", rfc9111.Policy{SetCookie: rfc9111.SetCookieStrip}, ""},
		{"ignore Set-Cookie", "Set-Cookie", "a=b", rfc9111.Policy{Ignore: []string{"Set-Cookie"}}, ""},
		{"ignore Vary", "Vary", "X-Odd", rfc9111.Policy{Ignore: []string{"Vary"}}, ""},
		{"ignore Cache-Control", "Cache-Control", "private", rfc9111.Policy{
			Ignore: []string{"Cache-Control"}, TTL: []rfc9111.StatusTTL{{Duration: time.Minute}},
		}, ""},
		{"client_directives ignore", "", "", rfc9111.Policy{IgnoreClientDirectives: true}, "no-store"},
	} {
		t.Run(c.name, func(t *testing.T) {
			laxer, f := newSlicing(t), newFilm(124, 1000)
			today := &testHandler{laxer.cache.NewRoute(laxer.Rules, nil)}
			laxer.Policy = c.laxer
			f.want(t, f.get(t, laxer, "Range", "bytes=110-119"), 206, 110, 120, cold)
			f.alter = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("X-Odd") != "" && c.field != "" {
					w.Header().Set(c.field, c.value)
				}
				return false
			}
			odd := []string{"Range", "bytes=210-219", "X-Odd", "x"}
			if c.request != "" {
				odd = append(odd, "Cache-Control", c.request)
			}
			f.want(t, f.get(t, laxer, odd...), 206, 210, 220, partly)
			f.wantHit(t, laxer, 210, 220, "Range", "bytes=210-219")
			f.wantHit(t, today, 110, 120, "Range", "bytes=110-119")
			f.want(t, f.get(t, today, "Range", "bytes=210-219"), 206, 210, 220, partly)
			f.wantHit(t, today, 210, 220, "Range", "bytes=210-219")
		})
	}
}

// TestStricterRulesJoinNoSliceOfLaxerOnes: what laxer rules had let in went out to those who joined
// it on its way, at another handler or after a reload.
func TestStricterRulesJoinNoSliceOfLaxerOnes(t *testing.T) {
	today, f := newSlicing(t), newFilm(126, 1000)
	rules := today.Rules
	rules.Policy.SetCookie = rfc9111.SetCookieStrip
	laxer := &testHandler{today.cache.NewRoute(rules, nil)}
	f.want(t, f.get(t, today, "Range", "bytes=110-119"), 206, 110, 120, cold)
	asked, goOn := make(chan struct{}), make(chan struct{})
	f.alter = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Odd") == "" {
			return false
		}
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("Content-Range", "bytes 200-299/1000")
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(bytes.Repeat([]byte("M"), 50))
		close(asked)
		<-goOn
		_, _ = w.Write(bytes.Repeat([]byte("M"), 50))
		return true
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.get(t, laxer, "Range", "bytes=210-219", "X-Odd", "x")
	}()
	<-asked
	w := httptest.NewRecorder()
	f.read(today, w, newTestRequest(w, "Range", "bytes=210-219"))
	f.want(t, w, 206, 210, 220, partly)
	close(goOn)
	<-ended
}

// What another machine's rules have let in has to be allowed by those here.
func TestRulesHereHoldForSlicesFromElsewhere(t *testing.T) {
	one, two, _ := slicingMachines(t)
	f := newFilm(125, 1000)
	one.Policy.SetCookie = rfc9111.SetCookieStrip
	f.want(t, f.get(t, one, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.alter = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Odd") != "" {
			w.Header().Set("Set-Cookie", "a=b")
		}
		return false
	}
	f.want(t, f.get(t, one, "Range", "bytes=210-219", "X-Odd", "x"), 206, 210, 220, partly)
	f.take()
	f.want(t, f.get(t, two, "Range", "bytes=210-219"), 206, 210, 220, partly)
	f.wantAsked(t, "bytes=200-299")
}
