package inspect

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

func TestReadQuery(t *testing.T) {
	for _, tc := range []struct {
		name, raw string
		want      Query
	}{
		{"nothing", "", Query{Limit: 100}},
		{"all", "tag=a&prefix=http%3A%2F%2FA%2Fb&host=A:80&limit=1000&cursor=x", Query{Tag: "a", Prefix: "http://a/b", Host: "a:80", Limit: 1000, Cursor: "x"}},
		{"empty cursor", "cursor=", Query{Limit: 100}},
		{"sorted", "sort=size", Query{Limit: 100, Sort: SortSize}},
		{"falling", "sort=-hits&headers=true", Query{Limit: 100, Sort: SortHits, Falling: true, Headers: true}},
		{"a URL", "url=HTTP://A/b?c%26d&headers=false&zone=shop", Query{Limit: 100, URL: "http://a/b?c&d", Zone: "shop"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readRaw(t, tc.raw)
			if err != nil || got != tc.want {
				t.Errorf("query %q: %+v, %v; want %+v", tc.raw, got, err, tc.want)
			}
		})
	}
}

// badQueries are listings that must be refused.
var badQueries = []struct{ name, raw, want string }{
	{"unknown", "tags=a", "unknown parameter \"tags\""},
	{"twice", "tag=a&tag=b", "parameter \"tag\" stands twice"},
	{"empty tag", "tag=", "tag: the value is empty"},
	{"bad tag", "tag=a+b", "is not a tag"},
	{"relative prefix", "prefix=/a", "is not an absolute URL"},
	{"host with path", "host=a/b", "is not an authority"},
	{"limit zero", "limit=0", "is not a page size"},
	{"limit negative", "limit=-1", "is not a page size"},
	{"limit too large", "limit=1001", "is not a page size"},
	{"limit a word", "limit=all", "is not a page size"},
	{"limit empty", "limit=", "is not a page size"},
	{"bad escape", "tag=%zz", "malformed"},
	{"sort by another word", "sort=tags", `sort: "tags" is none of them; send one of url, size, age, ttl, hits`},
	{"sort falling by nothing", "sort=-", "is none of them"},
	{"sort empty", "sort=", "is none of them"},
	{"headers a number", "headers=1", `headers: "1" is neither; send true or false`},
	{"relative URL", "url=/a", "is not an absolute URL"},
	{"zone empty", "zone=", "zone: the value is empty"},
}

func TestReadQueryRefuses(t *testing.T) {
	for _, tc := range badQueries {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readRaw(t, tc.raw)
			if err == nil {
				t.Fatalf("got %+v", got)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want one with %q", err, tc.want)
			}
		})
	}
}

// readRaw reads a query string as that of a listing.
func readRaw(t *testing.T, raw string) (Query, error) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/larder/entries?"+raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	return readQuery(r)
}

func TestEntriesAnswers(t *testing.T) {
	cache := use(t, &fakeCache{pages: map[string]Listing{
		"":   {Entries: []Entry{{URL: "http://a/?b&c", Status: 200, Size: 5, Age: 6, TTL: -7, Tags: []string{"t"}, Tier: "memory"}}, Next: "p2"},
		"p2": {Entries: []Entry{{URL: "http://a/2", Status: 404, Tier: "disk", Variant: "gzip", Slices: &Slices{Size: 4, Count: 3, Looked: 3, Stored: 1, Bytes: 4}, FetchMS: 212.4}}},
		"p3": {},
	}})
	for _, tc := range []struct {
		name, query string
		asked       Query
		want        string
	}{
		{"first page", "", Query{Limit: 100}, `{"entries":[{"id":"","url":"http://a/?b&c","status":200,"size":5,"age":6,"ttl":-7,"tags":["t"],"tier":"memory","hits":0}],"next":"p2"}`},
		{
			"second page, filtered", "?cursor=p2&tag=t&host=A&prefix=http://A&limit=2",
			Query{Limit: 2, Cursor: "p2", Tag: "t", Host: "a", Prefix: "http://a/"},
			`{"entries":[{"id":"","url":"http://a/2","status":404,"size":0,"age":0,"ttl":0,"tags":[],"tier":"disk","variant":"gzip","fetch_ms":212.4,"slices":{"size":4,"count":3,"looked":3,"stored":1,"bytes":4},"hits":0}],"next":""}`,
		},
		{"empty page", "?cursor=p3", Query{Limit: 100, Cursor: "p3"}, `{"entries":[],"next":""}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			response, body := adminapitest.Send(t, "GET", "/larder/entries"+tc.query, "")
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
			response, body := adminapitest.Send(t, "GET", "/larder/entries?"+tc.raw, "")
			adminapitest.ExpectFailure(t, response, body, 400, tc.want)
		})
	}
	if len(cache.queries) > 0 {
		t.Errorf("a refused request was passed on: %+v", cache.queries)
	}
	t.Run("unknown cursor", func(t *testing.T) {
		response, body := adminapitest.Send(t, "GET", "/larder/entries?cursor=made-up", "")
		adminapitest.ExpectFailure(t, response, body, 400, "cursor")
	})
	t.Run("unreadable", func(t *testing.T) {
		use(t, &fakeCache{err: errors.New("the file is gone")})
		response, body := adminapitest.Send(t, "GET", "/larder/entries", "")
		adminapitest.ExpectFailure(t, response, body, 503, "the file is gone")
	})
}

func TestListCommand(t *testing.T) {
	cache := use(t, &fakeCache{pages: map[string]Listing{
		"":   {Entries: []Entry{{ID: testID, URL: "http://a/1", Status: 200, Size: 5, Age: 6, TTL: 7, Tags: []string{"t", "u"}, Tier: "memory"}}, Next: "p2"},
		"p2": {Next: "p3"}, // a page may be empty before the last
		"p3": {Entries: []Entry{{URL: "http://a/2", Status: 404, TTL: -1, Tier: "disk", Variant: "Accept-Encoding=gzip"}}},
	}})
	stdout, stderr, err := adminapitest.Larder(t, "ls", "--tag", "t", "--prefix", "http://a", "--host", "A:80")
	want := "http://a/1\t200\t5\t6\t7\tmemory\tt u\t\t" + testID[16:] + "\n" + "http://a/2\t404\t0\t0\t-1\tdisk\t\tAccept-Encoding=gzip\t\n"
	if err != nil || stdout != want || stderr != "" {
		t.Errorf("printed %q and %q, %v", stdout, stderr, err)
	}
	asked := []Query{
		{Tag: "t", Prefix: "http://a/", Host: "a:80", Limit: 1000},
		{Tag: "t", Prefix: "http://a/", Host: "a:80", Limit: 1000, Cursor: "p2"},
		{Tag: "t", Prefix: "http://a/", Host: "a:80", Limit: 1000, Cursor: "p3"},
	}
	if !reflect.DeepEqual(cache.queries, asked) {
		t.Errorf("the cache was asked for %+v, want %+v", cache.queries, asked)
	}
}

// TestListCommandAsJSON prints what the API has, and no more lines than are asked for.
func TestListCommandAsJSON(t *testing.T) {
	cache := use(t, &fakeCache{pages: map[string]Listing{
		"":  {Entries: []Entry{{ID: testID, URL: "http://a/1?b&c", Header: http.Header{"A": {"b"}}}}, Next: "p"},
		"p": {Entries: []Entry{{URL: "http://a/2"}}, Next: "q"},
	}})
	stdout, stderr, err := adminapitest.Larder(t, "ls", "--json", "--headers", "--url", "http://a/1", "--sort=-ttl", "--limit", "2", "--zone", "shop")
	const want = `{"id":"` + testID + `","url":"http://a/1?b&c","status":0,"size":0,"age":0,"ttl":0,"tags":[],"tier":"","hits":0,"header":{"A":["b"]}}` + "\n" +
		`{"id":"","url":"http://a/2","status":0,"size":0,"age":0,"ttl":0,"tags":[],"tier":"","hits":0}` + "\n"
	if err != nil || stdout != want || stderr != "" {
		t.Errorf("printed %q and %q, %v; want %q", stdout, stderr, err, want)
	}
	asked := []Query{
		{URL: "http://a/1", Limit: 2, Sort: SortTTL, Falling: true, Headers: true, Zone: "shop"},
		{URL: "http://a/1", Limit: 1, Sort: SortTTL, Falling: true, Headers: true, Cursor: "p", Zone: "shop"},
	}
	if !reflect.DeepEqual(cache.queries, asked) {
		t.Errorf("the cache was asked for %+v, want %+v", cache.queries, asked)
	}
	cache.queries = nil
	if _, _, err := adminapitest.Larder(t, "ls", "--sort", "size", "--limit", "1"); err != nil || cache.queries[0].Limit != 1 {
		t.Errorf("asked for %+v, %v", cache.queries, err)
	}
}

func TestListCommandEndsWhenCursorsDoNot(t *testing.T) {
	use(t, &fakeCache{pages: map[string]Listing{"": {Next: "p"}, "p": {Next: "p"}}})
	stdout, stderr, err := adminapitest.Larder(t, "ls")
	adminapitest.ExpectOneLine(t, stdout, stderr, err, "does not advance")
}
