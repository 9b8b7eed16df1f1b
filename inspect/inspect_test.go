package inspect

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/adminapi/adminapitest"
	"github.com/larder-cache/larder/stats"
)

// The tests of this package speak to the admin listener of a real Caddy, in this process, with a
// fake cache behind it.
var current atomic.Pointer[fakeCache] // nil while no cache runs

func TestMain(m *testing.M) {
	explaining := ExplainFeature(func() Explainer {
		if explainer != nil {
			return explainer
		}
		return nil
	})
	adminapitest.Main(m, append(Features(func() Cache {
		if cache := current.Load(); cache != nil {
			return cache
		}
		return nil // an interface that holds no pointer, not a nil pointer in one
	}), explaining)...)
}

// fakeCache answers what it is told to and remembers what it was asked.
type fakeCache struct {
	fleet Fleet
	err   error
	pages map[string]Listing // by cursor

	queries []Query

	rows   []TopRow
	tops   []TopQuery
	window stats.Window
	seen   ObservedReport
	steps  []time.Duration

	details map[string]*Detail // by id
}

func (f *fakeCache) Entry(_, id string) (*Detail, error) { return f.details[id], f.err }

func (f *fakeCache) Zones() []string { return []string{"default", "shop"} }

func (f *fakeCache) Top(q TopQuery) ([]TopRow, error) {
	f.tops = append(f.tops, q)
	return f.rows, f.err
}

func (f *fakeCache) Observed(string) ObservedReport { return f.seen }

func (f *fakeCache) History(_ string, step time.Duration) (stats.Window, error) {
	f.steps = append(f.steps, step)
	return f.window, f.err
}

func (f *fakeCache) Compact(_ context.Context, zone string) (Compactions, error) {
	if f.err != nil {
		return Compactions{}, f.err
	}
	sizes := map[string]Compaction{"default": {1 << 30, 100 << 20}, "shop": {10 << 20, 10 << 20}}
	if zone != "" {
		sizes = map[string]Compaction{zone: sizes[zone]}
	}
	return Compactions{sizes}, nil
}

func (f *fakeCache) Fleet(context.Context) (Fleet, error) { return f.fleet, f.err }

func (f *fakeCache) Stats(string) any {
	return map[string]any{"memory": map[string]int{"entries": 1, "bytes": 2, "budget": 3}, "in_flight": 0}
}

func (f *fakeCache) Entries(_ context.Context, q Query) (Listing, error) {
	f.queries = append(f.queries, q)
	if f.err != nil {
		return Listing{}, f.err
	}
	page, known := f.pages[q.Cursor]
	if !known {
		return Listing{}, fmt.Errorf("looking up %q: %w", q.Cursor, ErrCursor)
	}
	return page, nil
}

// use makes the cache the running cache for the rest of the test.
func use(t *testing.T, cache *fakeCache) *fakeCache {
	t.Helper()
	current.Store(cache)
	t.Cleanup(func() { current.Store(nil) })
	return cache
}

func TestNoCacheRuns(t *testing.T) {
	for _, path := range []string{"/larder/stats", "/larder/entries", "/larder/fleet", "/larder/top", "/larder/history", "/larder/entries/" + testID} {
		t.Run(path, func(t *testing.T) {
			response, body := adminapitest.Send(t, "GET", path, "")
			adminapitest.ExpectFailure(t, response, body, 503, "no cache is running")
		})
	}
}

func TestWrongMethod(t *testing.T) {
	for _, tc := range []struct{ method, path string }{
		{"POST", "/larder/stats"},
		{"POST", "/larder/entries"},
		{"DELETE", "/larder/entries"},
		{"PUT", "/larder/fleet"},
		{"DELETE", "/larder/entries/" + testID},
		{"POST", "/larder/top"},
		{"POST", "/larder/history"},
	} {
		t.Run(tc.method+tc.path, func(t *testing.T) {
			response, body := adminapitest.Send(t, tc.method, tc.path, "")
			adminapitest.ExpectFailure(t, response, body, 405, "is not allowed here; send GET")
			if got := response.Header.Get("Allow"); got != "GET, HEAD" {
				t.Errorf("Allow %q", got)
			}
		})
	}
}

// TestCommandFails holds every failure to an error (which makes Caddy exit with status 1), one line
// on standard error, and nothing on standard output.
func TestCommandFails(t *testing.T) {
	use(t, &fakeCache{})
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"ls with a bad prefix", []string{"ls", "--prefix", "blog"}, "not an absolute URL"},
		{"ls with an empty tag", []string{"ls", "--tag", ""}, "the value is empty"},
		{"ls with a URL as its host", []string{"ls", "--host", "http://a"}, "a scheme or a path is no part of one"},
		{"ls of an unknown cursor", []string{"ls"}, "cursor"}, // the fake knows no page
		{"ls sorted by a word it has not", []string{"ls", "--sort", "tags"}, "send one of url, size, age, ttl, hits, with - in front for the highest first"},
		{"ls of no rows", []string{"ls", "--limit", "0"}, "--limit is a number from 1 on"},
		{"ls with headers alone", []string{"ls", "--headers"}, "--headers goes with --json"},
		{"ls of a zone that there is not", []string{"ls", "--zone", "blog"}, "send one of default, shop"},
		{"ls of a relative URL", []string{"ls", "--url", "/a"}, "not an absolute URL"},
		{"get of nothing", []string{"get"}, "give one absolute URL, or one id"},
		{"get of two", []string{"get", testID, testID}, "give one absolute URL, or one id"},
		{"get of what is neither", []string{"get", "a"}, `"a" is neither an absolute URL nor an id; give one such as https://example.com/path, or an id, which ls --json has`},
		{"get of nothing given", []string{"get", ""}, "give one absolute URL, or one id"},
		{"get of a path", []string{"get", "/vary"}, `"/vary" is neither an absolute URL nor an id; give one such as https://example.com/vary`},
		{"get of a host and path", []string{"get", "example.com:80/a"}, "is neither an absolute URL nor an id"},
		{"get of an unknown id", []string{"get", testID}, "no entry has this id any more"},
		{"get of a URL that is not one", []string{"get", "mailto:a"}, "is neither an absolute URL nor an id"},
		{"get of a URL without a host", []string{"get", "http:///a"}, "is not an absolute URL"},
		{"stats of a zone that there is not", []string{"stats", "--zone", "blog"}, "send one of default, shop"},
		{"stats with an argument", []string{"stats", "all"}, `stats takes no "all"; write caddy larder stats`},
		{"top by a word it has not", []string{"top", "--by", "age"}, "send one of hits, misses, not_stored, bytes, fetch_time, disagree"},
		{"top of no rows", []string{"top", "--limit", "0"}, `limit: "0" is not a page size`},
		{"top of a zone that there is not", []string{"top", "--zone", "blog"}, "send one of default, shop"},
		{"top with an argument", []string{"top", "misses"}, `top takes no "misses"; write caddy larder top`},
		{"history of another step", []string{"history", "--step", "5m"}, "send one of 10s, 1m, 15m"},
		{"history of a zone that there is not", []string{"history", "--zone", ""}, "zone: the value is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stdout, stderr, err := adminapitest.Larder(t, tc.args...)
			adminapitest.ExpectOneLine(t, stdout, stderr, err, tc.want)
		})
	}
}
