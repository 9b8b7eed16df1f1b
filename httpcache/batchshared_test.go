package httpcache

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/batch"
	"github.com/larder-cache/larder/rfc9111"
)

// manyWith has the shop answer for many with more fields, given as pairs.
func (s *shop) manyWith(header ...string) handlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", shopLifetime)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		_, err := io.WriteString(w, `{"products":[`+product("7")+`,`+product("8")+`,`+product("large")+`]}`)
		return err
	}
}

// TestBatchGivesNoClientAnothersFields: the answer for many goes to several clients, so each gets
// the fields that those get who wait for a response.
func TestBatchGivesNoClientAnothersFields(t *testing.T) {
	strip := func(p *rfc9111.Policy) { p.SetCookie = rfc9111.SetCookieStrip }
	ignore := func(p *rfc9111.Policy) { p.Ignore = []string{"Set-Cookie"} }
	none := func(*rfc9111.Policy) {}
	for name, test := range map[string]struct {
		rule   func(*rfc9111.Policy)
		field  string
		header []string
	}{
		"set_cookie strip":  {strip, "Set-Cookie", []string{"Set-Cookie", "s=1"}},
		"ignore Set-Cookie": {ignore, "Set-Cookie", []string{"Set-Cookie", "s=1"}},
		"private":           {none, "X-Who", []string{"Cache-Control", `max-age=60, private="X-Who"`, "X-Who", "1"}},
		"no-cache":          {none, "X-Who", []string{"Cache-Control", `max-age=60, no-cache="X-Who"`, "X-Who", "1"}},
		"with a Vary":       {strip, "Set-Cookie", []string{"Set-Cookie", "s=1", "Vary", "Accept-Language"}},
		"repeats":           {none, RepeatsField, []string{RepeatsField, "2"}},
		"hop by hop":        {none, "X-Hop", []string{"Connection", "X-Hop", "X-Hop", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h, s := newShop(t, func(c *batch.Config) { c.Missing = batch.Missing404 })
				test.rule(&h.Policy)
				h.MaxBody = int64(len(product("7")))
				s.many = s.manyWith(test.header...)
				for _, reply := range askFor(h, s, "7", "large", "9") {
					if given := reply.Header()[test.field]; len(given) > 0 || reply.err != nil {
						t.Errorf("%s has %s: %s", reply, test.field, given)
					}
				}
				if asked := s.take(); len(asked) != 1 {
					t.Errorf("the origin was asked %q", asked)
				}
			})
		})
	}
}

// TestBatchRemembersTheCookie: what came with a Set-Cookie is not used under rules that have become
// stricter.
func TestBatchRemembersTheCookie(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		h.Policy.SetCookie = rfc9111.SetCookieStrip
		s.many = s.manyWith("Set-Cookie", "s=1")
		askFor(h, s, "7", "8")
		s.take()
		if got := askFor(h.under(h.Policy), s, "7")[0].String(); !strings.HasSuffix(got, "[Larder; hit; ttl=60]") {
			t.Error(got)
		}
		if got := askFor(h.under(rfc9111.Policy{}), s, "7")[0].String(); strings.Contains(got, "hit") {
			t.Error(got)
		}
		expectAsked(t, s, "/products/7")
	})
}

// TestBatchForThoseWhoWaitOnly: an answer for many is of use where the items, which have no
// validator, may be given to several clients.
func TestBatchForThoseWhoWaitOnly(t *testing.T) {
	for name, test := range map[string]struct {
		takes    time.Duration
		header   []string
		together bool
	}{
		"no-cache with an ETag":          {0, []string{"Cache-Control", "no-cache", "Etag", `"all"`}, false},
		"no-cache with Last-Modified":    {0, []string{"Cache-Control", "no-cache", "Last-Modified", "Mon, 02 Jan 2023 03:04:05 GMT"}, false},
		"max-age=0 with an ETag":         {0, []string{"Cache-Control", "max-age=0", "Etag", `"all"`}, false},
		"stale by its Age":               {0, []string{"Age", "70", "Etag", `"all"`}, false},
		"slow, and fresh when it began":  {time.Second, []string{"Cache-Control", "max-age=1", "Etag", `"all"`}, true},
		"slow, and without a validator":  {time.Second, []string{"Cache-Control", "max-age=1"}, true},
		"slow, and begins a session":     {time.Second, []string{"Cache-Control", "max-age=1", rfc9111.SessionField, "1"}, false},
		"begins a session and is stored": {0, []string{rfc9111.SessionField, "1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h, s := newShop(t, nil)
				many := s.manyWith(test.header...)
				s.many = func(w http.ResponseWriter, r *http.Request) error {
					time.Sleep(test.takes)
					return many(w, r)
				}
				for _, reply := range askFor(h, s, "7", "8") {
					if got := reply.Header()[rfc9111.SessionField]; len(got) > 0 || reply.err != nil {
						t.Errorf("%s has the session %q", reply, got)
					}
				}
				if asked := s.take(); (len(asked) == 1) != test.together {
					t.Errorf("the origin was asked %q; together: %t", asked, test.together)
				}
			})
		})
	}
}
