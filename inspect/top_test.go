package inspect

import (
	"errors"
	"reflect"
	"testing"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

func TestTopAnswers(t *testing.T) {
	cache := use(t, &fakeCache{rows: []TopRow{{"http://a/?b&c", 30, 0.75, "no-store"}, {"http://a/<i>", 10, 0.25, ""}}})
	for _, tc := range []struct {
		query string
		asked TopQuery
		want  string
	}{
		{
			"",
			TopQuery{By: ByMisses, Limit: 20},
			`{"by":"misses","rows":[{"url":"http://a/?b&c","count":30,"share":0.75,"reason":"no-store"},{"url":"http://a/<i>","count":10,"share":0.25,"reason":""}]}`,
		},
		{
			"?by=fetch_time&limit=1000&zone=shop",
			TopQuery{By: ByFetchTime, Limit: 1000, Zone: "shop"},
			`{"by":"fetch_time","rows":[{"url":"http://a/?b&c","count":30,"share":0.75,"reason":"no-store"},{"url":"http://a/<i>","count":10,"share":0.25,"reason":""}]}`,
		},
	} {
		t.Run(tc.query, func(t *testing.T) {
			response, body := adminapitest.Send(t, "GET", "/larder/top"+tc.query, "")
			if response.StatusCode != 200 || body != tc.want+"\n" {
				t.Errorf("answer %d %s, want %s", response.StatusCode, body, tc.want)
			}
			if got := cache.tops[len(cache.tops)-1]; !reflect.DeepEqual(got, tc.asked) {
				t.Errorf("the cache was asked for %+v, want %+v", got, tc.asked)
			}
		})
	}
	use(t, &fakeCache{})
	if _, body := adminapitest.Send(t, "GET", "/larder/top?by=disagree", ""); body != `{"by":"disagree","rows":[]}`+"\n" {
		t.Errorf("without rows: %s", body)
	}
}

func TestTopRefuses(t *testing.T) {
	cache := use(t, &fakeCache{})
	for query, want := range map[string]string{
		"by=age":          `by: "age" is none of them; send one of hits, misses, not_stored, bytes, fetch_time, disagree`,
		"by=":             "by: the value is empty",
		"by=hits&by=hits": `parameter "by" stands twice`,
		"limit=1001":      "limit: \"1001\" is not a page size; send a number from 1 to 1000",
		"limit=-1":        "is not a page size",
		"zone=blog":       `zone: there is no zone "blog"; send one of default, shop`,
		"sort=hits":       `unknown parameter "sort"; send by, limit or zone`,
	} {
		t.Run(query, func(t *testing.T) {
			response, body := adminapitest.Send(t, "GET", "/larder/top?"+query, "")
			adminapitest.ExpectFailure(t, response, body, 400, want)
		})
	}
	if len(cache.tops) > 0 {
		t.Errorf("a refused request was passed on: %+v", cache.tops)
	}
	use(t, &fakeCache{err: errors.New("no")})
	response, body := adminapitest.Send(t, "GET", "/larder/top", "")
	adminapitest.ExpectFailure(t, response, body, 503, "the ranking could not be read: no")
}

func TestTopCommand(t *testing.T) {
	use(t, &fakeCache{rows: []TopRow{{"http://a/long", 3000, 0.75, "no-store"}, {"http://a/", 10, 0.0025, ""}}})
	stdout, stderr, err := adminapitest.Larder(t, "top", "--by", "not_stored", "--limit", "2", "--zone", "default")
	const want = "COUNT  SHARE  REASON    URL\n" +
		"3000   75.0%  no-store  http://a/long\n" +
		"10     0.2%   -         http://a/\n"
	if err != nil || stdout != want || stderr != "" {
		t.Errorf("printed %q and %q, %v", stdout, stderr, err)
	}
	stdout, _, err = adminapitest.Larder(t, "top", "--json")
	if want := "{\n  \"by\": \"misses\",\n  \"rows\": [\n"; err != nil || len(stdout) < len(want) || stdout[:len(want)] != want {
		t.Errorf("printed %q, %v", stdout, err)
	}
}
