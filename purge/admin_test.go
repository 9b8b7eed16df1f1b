package purge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// The tests of this file and of command_test.go speak to the admin listener of a real Caddy, in
// this process, with a fake cache behind it.
var (
	adminAddress string
	current      atomic.Pointer[fakeCache] // nil while no cache runs
)

func TestMain(m *testing.M) {
	Register(func() Cache {
		if cache := current.Load(); cache != nil {
			return cache
		}
		return nil // an interface that holds no pointer, not a nil pointer in one
	})
	if err := startCaddy(); err != nil {
		fmt.Fprintln(os.Stderr, "starting caddy:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func startCaddy() error {
	// Caddy cannot tell which port it was given for :0, so a free one is found first. Another
	// process may take it in between: then the start fails.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	adminAddress = listener.Addr().String()
	if err := listener.Close(); err != nil {
		return err
	}
	persist := false
	return caddy.Run(&caddy.Config{
		Admin:   &caddy.AdminConfig{Listen: adminAddress, Config: &caddy.ConfigSettings{Persist: &persist}},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}}}},
	})
}

// fakeCache answers what it is told to and remembers what it was asked.
type fakeCache struct {
	matched int
	reach   *Reach
	fleet   Fleet
	err     error
	pages   map[string]Listing // by cursor

	purges  []Selectors
	queries []Query
	ctxErr  error // of the last purge's context, after its caller may have left
}

func (f *fakeCache) Purge(ctx context.Context, s Selectors) (Purged, error) {
	f.purges = append(f.purges, s)
	f.ctxErr = ctx.Err()
	return Purged{Matched: f.matched, Reach: f.reach}, f.err
}

func (f *fakeCache) Fleet(context.Context) (Fleet, error) { return f.fleet, f.err }

func (f *fakeCache) Stats() any {
	return map[string]any{"memory": map[string]int{"entries": 1, "bytes": 2, "budget": 3}, "in_flight": 0}
}

func (f *fakeCache) Entries(q Query) (Listing, error) {
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

// send makes one request to the admin listener.
func send(t *testing.T, method, uri, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+adminAddress+uri, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(answer)
}

// expectFailure holds an answer to the form of errors: the status, JSON, one member "error" with
// one sentence that contains want.
func expectFailure(t *testing.T, response *http.Response, body string, status int, want string) {
	t.Helper()
	if response.StatusCode != status {
		t.Errorf("status %d, want %d", response.StatusCode, status)
	}
	if got := response.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	var members map[string]string
	if err := json.Unmarshal([]byte(body), &members); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	if len(members) != 1 || !strings.Contains(members["error"], want) || strings.Contains(members["error"], "\n") {
		t.Errorf("body %q, want one error with %q", body, want)
	}
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
			response, body := send(t, "POST", "/larder/purge", tc.body)
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
			response, body := send(t, "POST", "/larder/purge", tc.body)
			expectFailure(t, response, body, 400, tc.want)
		})
	}
	t.Run("options in the query string", func(t *testing.T) {
		response, body := send(t, "POST", "/larder/purge?soft=true", `{"all":true}`)
		expectFailure(t, response, body, 400, "JSON body")
	})
	t.Run("body over 1 MiB", func(t *testing.T) {
		response, body := send(t, "POST", "/larder/purge", bodyOf(1<<20+1))
		expectFailure(t, response, body, 413, "larger than 1 MiB")
	})
	if len(cache.purges) > 0 {
		t.Errorf("a refused request purged %+v", cache.purges)
	}
}

// TestPurgeTakesThousandsOfSelectors sends a body of exactly the limit.
func TestPurgeTakesThousandsOfSelectors(t *testing.T) {
	cache := use(t, &fakeCache{})
	if response, body := send(t, "POST", "/larder/purge", bodyOf(1<<20)); response.StatusCode != 200 {
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
	response, body := send(t, "POST", "/larder/purge", `{"all":true}`)
	expectFailure(t, response, body, 503, "could not be made durable; send it again: no space left on device")
	response, body = send(t, "POST", "/larder/purge", `{"all":true,"dry_run":true}`)
	expectFailure(t, response, body, 503, "the dry run could not count what is stored; send it again: no space left on device")
}

// TestPurgeOutlivesItsCaller hands the handler a request whose caller has left.
func TestPurgeOutlivesItsCaller(t *testing.T) {
	cache := &fakeCache{}
	api := &adminAPI{cache: func() Cache { return cache }}
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r, err := http.NewRequestWithContext(ctx, "POST", "/larder/purge", strings.NewReader(`{"all":true}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := api.servePurge(discardWriter{}, r); err != nil {
		t.Fatal(err)
	}
	if len(cache.purges) != 1 || cache.ctxErr != nil {
		t.Errorf("purges %+v, context %v", cache.purges, cache.ctxErr)
	}
}

type discardWriter struct{}

func (discardWriter) Header() http.Header         { return http.Header{} }
func (discardWriter) Write(b []byte) (int, error) { return 0, net.ErrClosed }
func (discardWriter) WriteHeader(int)             {}

func TestStatsAnswer(t *testing.T) {
	use(t, &fakeCache{})
	response, body := send(t, "GET", "/larder/stats", "")
	const want = `{"in_flight":0,"memory":{"budget":3,"bytes":2,"entries":1}}` + "\n"
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/json" || body != want {
		t.Errorf("answer %d %q", response.StatusCode, body)
	}
}

func TestEntriesAnswers(t *testing.T) {
	cache := use(t, &fakeCache{pages: map[string]Listing{
		"":   {Entries: []Entry{{URL: "http://a/?b&c", Status: 200, Size: 5, Age: 6, TTL: -7, Tags: []string{"t"}, Tier: "memory"}}, Next: "p2"},
		"p2": {Entries: []Entry{{URL: "http://a/2", Status: 404, Tier: "disk", Variant: "gzip", FetchMS: 212.4}}},
		"p3": {},
	}})
	for _, tc := range []struct {
		name, query string
		asked       Query
		want        string
	}{
		{"first page", "", Query{Limit: 100}, `{"entries":[{"url":"http://a/?b&c","status":200,"size":5,"age":6,"ttl":-7,"tags":["t"],"tier":"memory"}],"next":"p2"}`},
		{
			"second page, filtered", "?cursor=p2&tag=t&host=A&prefix=http://A&limit=2",
			Query{Limit: 2, Cursor: "p2", Tag: "t", Host: "a", Prefix: "http://a/"},
			`{"entries":[{"url":"http://a/2","status":404,"size":0,"age":0,"ttl":0,"tags":[],"tier":"disk","variant":"gzip","fetch_ms":212.4}],"next":""}`,
		},
		{"empty page", "?cursor=p3", Query{Limit: 100, Cursor: "p3"}, `{"entries":[],"next":""}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			response, body := send(t, "GET", "/larder/entries"+tc.query, "")
			if response.StatusCode != 200 || body != tc.want+"\n" {
				t.Errorf("answer %d %q, want %q", response.StatusCode, body, tc.want)
			}
			if got := cache.queries[len(cache.queries)-1]; got != tc.asked {
				t.Errorf("the cache was asked for %+v, want %+v", got, tc.asked)
			}
		})
	}
}

func TestEntriesRefuses(t *testing.T) {
	cache := use(t, &fakeCache{})
	for _, tc := range badQueries {
		t.Run(tc.name, func(t *testing.T) {
			response, body := send(t, "GET", "/larder/entries?"+tc.raw, "")
			expectFailure(t, response, body, 400, tc.want)
		})
	}
	if len(cache.queries) > 0 {
		t.Errorf("a refused request was passed on: %+v", cache.queries)
	}
	t.Run("unknown cursor", func(t *testing.T) {
		response, body := send(t, "GET", "/larder/entries?cursor=made-up", "")
		expectFailure(t, response, body, 400, "cursor")
	})
	t.Run("unreadable", func(t *testing.T) {
		use(t, &fakeCache{err: errors.New("the file is gone")})
		response, body := send(t, "GET", "/larder/entries", "")
		expectFailure(t, response, body, 503, "the file is gone")
	})
}

func TestWrongMethod(t *testing.T) {
	cache := use(t, &fakeCache{})
	for _, tc := range []struct{ method, path, allow string }{
		{"GET", "/larder/purge", "POST"},
		{"PUT", "/larder/purge", "POST"},
		{"DELETE", "/larder/purge", "POST"},
		{"PURGE", "/larder/purge", "POST"},
		{"OPTIONS", "/larder/purge", "POST"},
		{"POST", "/larder/stats", "GET, HEAD"},
		{"POST", "/larder/entries", "GET, HEAD"},
		{"DELETE", "/larder/entries", "GET, HEAD"},
	} {
		t.Run(tc.method+tc.path, func(t *testing.T) {
			response, body := send(t, tc.method, tc.path, `{"all":true}`)
			expectFailure(t, response, body, 405, "is not allowed here; send ")
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
		response, body := send(t, "POST", path, `{"all":true}`)
		expectFailure(t, response, body, 404, "no such path")
	}
}

func TestNoCacheRuns(t *testing.T) {
	for _, tc := range []struct{ method, path, body string }{
		{"POST", "/larder/purge", `{"all":true}`},
		{"GET", "/larder/stats", ""},
		{"GET", "/larder/entries", ""},
	} {
		t.Run(tc.path, func(t *testing.T) {
			response, body := send(t, tc.method, tc.path, tc.body)
			expectFailure(t, response, body, 503, "no cache is running")
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
			r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+adminAddress+"/larder/purge", strings.NewReader(`{"all":true}`))
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
