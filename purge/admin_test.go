package purge

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

// The tests of this package speak to the admin listener of a real Caddy, in this process, with a
// fake cache behind it.
var current atomic.Pointer[fakeCache] // nil while no cache runs

func TestMain(m *testing.M) {
	adminapitest.Main(m, Feature(func() Cache {
		if cache := current.Load(); cache != nil {
			return cache
		}
		return nil // an interface that holds no pointer, not a nil pointer in one
	}))
}

// fakeCache answers what it is told to and remembers what it was asked.
type fakeCache struct {
	matched int
	reach   *Reach
	err     error

	purges []Selectors
	ctxErr error // of the last purge's context, after its caller may have left
}

func (f *fakeCache) Zones() []string { return []string{"default", "shop"} }

func (f *fakeCache) Purge(ctx context.Context, s Selectors) (Purged, error) {
	f.purges = append(f.purges, s)
	f.ctxErr = ctx.Err()
	return Purged{Matched: f.matched, Reach: f.reach}, f.err
}

// use makes the cache the running cache for the rest of the test.
func use(t *testing.T, cache *fakeCache) *fakeCache {
	t.Helper()
	current.Store(cache)
	t.Cleanup(func() { current.Store(nil) })
	return cache
}

func TestPurgeAnswers(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		asked      Selectors
		want       string
	}{
		{"tags", `{"tags":["a","b"]}`, Selectors{Tags: []string{"a", "b"}}, `{"matched":3,"soft":false,"dry_run":false}`},
		{"soft", `{"hosts":["Example.com"],"soft":true}`, Selectors{Hosts: []string{"example.com"}, Soft: true}, `{"matched":3,"soft":true,"dry_run":false}`},
		{"dry run", `{"all":true,"dry_run":true}`, Selectors{All: true, DryRun: true}, `{"matched":3,"soft":false,"dry_run":true}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cache := use(t, &fakeCache{matched: 3})
			response, body := adminapitest.Send(t, "POST", "/larder/purge", tc.body)
			if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/json" || body != tc.want+"\n" {
				t.Errorf("answer %d %q %q, want %q", response.StatusCode, response.Header.Get("Content-Type"), body, tc.want)
			}
			if !reflect.DeepEqual(cache.purges, []Selectors{tc.asked}) {
				t.Errorf("the cache was asked for %+v, want %+v", cache.purges, tc.asked)
			}
		})
	}
}

func TestPurgeRefuses(t *testing.T) {
	cache := use(t, &fakeCache{})
	for _, tc := range badBodies {
		t.Run(tc.name, func(t *testing.T) {
			response, body := adminapitest.Send(t, "POST", "/larder/purge", tc.body)
			adminapitest.ExpectFailure(t, response, body, 400, tc.want)
		})
	}
	t.Run("options in the query string", func(t *testing.T) {
		response, body := adminapitest.Send(t, "POST", "/larder/purge?soft=true", `{"all":true}`)
		adminapitest.ExpectFailure(t, response, body, 400, "JSON body")
	})
	t.Run("a zone that there is not", func(t *testing.T) {
		response, body := adminapitest.Send(t, "POST", "/larder/purge", `{"all":true,"zones":["default","blog"]}`)
		adminapitest.ExpectFailure(t, response, body, 400, `zones: there is no zone "blog"; send one of default, shop`)
	})
	t.Run("body over 1 MiB", func(t *testing.T) {
		response, body := adminapitest.Send(t, "POST", "/larder/purge", bodyOf(1<<20+1))
		adminapitest.ExpectFailure(t, response, body, 413, "larger than 1 MiB")
	})
	if len(cache.purges) > 0 {
		t.Errorf("a refused request purged %+v", cache.purges)
	}
}

// TestPurgeTakesThousandsOfSelectors sends a body of exactly the limit.
func TestPurgeTakesThousandsOfSelectors(t *testing.T) {
	cache := use(t, &fakeCache{})
	if response, body := adminapitest.Send(t, "POST", "/larder/purge", bodyOf(1<<20)); response.StatusCode != 200 {
		t.Fatalf("answer %d %q", response.StatusCode, body)
	}
	if got := len(cache.purges[0].Tags); got < 5000 {
		t.Errorf("%d tags arrived", got)
	}
}

// bodyOf returns a valid purge request of so many bytes, full of tags.
func bodyOf(size int) string {
	tag := `"` + strings.Repeat("x", 200) + `",`
	var b strings.Builder
	b.WriteString(`{"tags":[`)
	for b.Len() < size-len(tag)-len(`"x"]}`) {
		b.WriteString(tag)
	}
	b.WriteString(`"x"]`)
	b.WriteString(strings.Repeat(" ", size-b.Len()-1))
	b.WriteByte('}')
	return b.String()
}

func TestPurgeThatIsNotDurable(t *testing.T) {
	use(t, &fakeCache{err: errors.New("no space left on device")})
	response, body := adminapitest.Send(t, "POST", "/larder/purge", `{"all":true}`)
	adminapitest.ExpectFailure(t, response, body, 503, "could not be made durable; send it again: no space left on device")
	response, body = adminapitest.Send(t, "POST", "/larder/purge", `{"all":true,"dry_run":true}`)
	adminapitest.ExpectFailure(t, response, body, 503, "the dry run could not count what is stored; send it again: no space left on device")
}

// TestPurgeOutlivesItsCaller hands the handler a request whose caller has left.
func TestPurgeOutlivesItsCaller(t *testing.T) {
	cache := &fakeCache{}
	endpoint := Feature(func() Cache { return cache }).Endpoints[0]
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r, err := http.NewRequestWithContext(ctx, "POST", "/larder/purge", strings.NewReader(`{"all":true}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := endpoint.Answer(r); err != nil {
		t.Fatal(err)
	}
	if len(cache.purges) != 1 || cache.ctxErr != nil {
		t.Errorf("purges %+v, context %v", cache.purges, cache.ctxErr)
	}
}

func TestWrongMethod(t *testing.T) {
	cache := use(t, &fakeCache{})
	for _, tc := range []struct{ method, path, allow string }{
		{"GET", "/larder/purge", "POST"},
		{"PUT", "/larder/purge", "POST"},
		{"DELETE", "/larder/purge", "POST"},
		{"PURGE", "/larder/purge", "POST"},
		{"OPTIONS", "/larder/purge", "POST"},
	} {
		t.Run(tc.method+tc.path, func(t *testing.T) {
			response, body := adminapitest.Send(t, tc.method, tc.path, `{"all":true}`)
			adminapitest.ExpectFailure(t, response, body, 405, "is not allowed here; send ")
			if got := response.Header.Get("Allow"); got != tc.allow {
				t.Errorf("Allow %q, want %q", got, tc.allow)
			}
		})
	}
	if len(cache.purges) > 0 {
		t.Errorf("a wrong method purged %+v", cache.purges)
	}
}

func TestUnknownPath(t *testing.T) {
	for _, path := range []string{"/larder/", "/larder/purges", "/larder/purge/all"} {
		response, body := adminapitest.Send(t, "POST", path, `{"all":true}`)
		adminapitest.ExpectFailure(t, response, body, 404, "no such path")
	}
}

func TestNoCacheRuns(t *testing.T) {
	for _, tc := range []struct{ method, path, body string }{
		{"POST", "/larder/purge", `{"all":true}`},
	} {
		t.Run(tc.path, func(t *testing.T) {
			response, body := adminapitest.Send(t, tc.method, tc.path, tc.body)
			adminapitest.ExpectFailure(t, response, body, 503, "no cache is running")
		})
	}
}

// TestForeignOriginIsRefused shows that Caddy's own protection stands before the API: a page of
// another site cannot purge through a browser.
func TestForeignOriginIsRefused(t *testing.T) {
	cache := use(t, &fakeCache{})
	for _, tc := range []struct{ name, header, value string }{
		{"origin", "Origin", "https://evil.test"},
		{"rebound host", "Host", "evil.test"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+adminapitest.Address+"/larder/purge", strings.NewReader(`{"all":true}`))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set(tc.header, tc.value)
			if tc.header == "Host" {
				r.Host = tc.value
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusForbidden {
				t.Errorf("status %d", response.StatusCode)
			}
		})
	}
	if len(cache.purges) > 0 {
		t.Errorf("purged %+v", cache.purges)
	}
}
