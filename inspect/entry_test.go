package inspect

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

const testID = "0006123456789abcfedcba9876543210"

func testDetail(id string) *Detail {
	at := time.Unix(1_000_000_000, 0).UTC()
	return &Detail{
		Entry: Entry{
			ID: id, URL: "http://a/?b&c", Status: 200, Size: 5, Age: 6, TTL: -7, Tier: "disk", Hits: 3,
			Header: http.Header{"B": {"1", "2"}, "A": {"x"}},
		},
		Vary: map[string]string{"Accept": "b", "A": "c"}, Coding: "gzip", Purged: "soft",
		Key:   EntryKey{Hash: "00ff", Parts: []EntryKeyPart{{"method", []string{"GET"}}}},
		Times: DetailTimes{at, at.Add(time.Second), at.Add(time.Minute), at.Add(time.Hour)},
	}
}

func TestEntryAnswers(t *testing.T) {
	use(t, &fakeCache{details: map[string]*Detail{testID: testDetail(testID)}})
	response, body := adminapitest.Send(t, "GET", "/larder/entries/"+testID+"?zone=default", "")
	const want = `{"id":"` + testID + `","url":"http://a/?b&c","status":200,"size":5,"age":6,"ttl":-7,"tags":[],"tier":"disk","hits":3,` +
		`"header":{"A":["x"],"B":["1","2"]},"vary":{"A":"c","Accept":"b"},"coding":"gzip","purged":"soft",` +
		`"key":{"hash":"00ff","parts":[{"part":"method","values":["GET"]}]},` +
		`"times":{"requested":"2001-09-09T01:46:40Z","stored":"2001-09-09T01:46:41Z","fresh_until":"2001-09-09T01:47:40Z","keep_until":"2001-09-09T02:46:40Z"}}` + "\n"
	if response.StatusCode != 200 || body != want {
		t.Errorf("answer %d %s, want %s", response.StatusCode, body, want)
	}
}

func TestEntryRefuses(t *testing.T) {
	use(t, &fakeCache{})
	for path, want := range map[string]string{
		testID[1:]:                      "is not an id; send the 32 hexadecimal digits",
		strings.ToUpper(testID):         "is not an id",
		"..%2f" + testID[:27]:           "is not an id",
		testID + "?zone=blog":           "there is no zone",
		testID + "?headers=true":        "unknown parameter",
		"http%3A%2F%2Fexample.com%2F":   "is not an id",
		testID + "?zone=shop&zone=shop": "stands twice",
	} {
		t.Run(path, func(t *testing.T) {
			response, body := adminapitest.Send(t, "GET", "/larder/entries/"+path, "")
			adminapitest.ExpectFailure(t, response, body, 400, want)
		})
	}
	response, body := adminapitest.Send(t, "GET", "/larder/entries/"+testID, "")
	adminapitest.ExpectFailure(t, response, body, 404, "no entry has this id any more; look in GET /larder/entries")
	use(t, &fakeCache{err: errors.New("no")})
	response, body = adminapitest.Send(t, "GET", "/larder/entries/"+testID, "")
	adminapitest.ExpectFailure(t, response, body, 503, "the entry could not be read: no")
}

func TestGetCommand(t *testing.T) {
	const second = "0006123456789abdfedcba9876543210"
	use(t, &fakeCache{
		pages: map[string]Listing{"": {Entries: []Entry{{ID: testID}, {ID: second}}}},
		details: map[string]*Detail{
			testID: testDetail(testID),
			second: {Entry: Entry{ID: second, URL: "http://a/", Tags: []string{"t", "u"}, Tier: "memory"}, Key: EntryKey{Hash: "01"}},
		},
	})
	const first = `url          http://a/?b&c
id           ` + testID + `
status       200
size         5 bytes
age          6s
ttl          -7s
purged       soft
tier         disk
selected by  A: c
selected by  Accept: b
coding       gzip
key          method GET
key          hash 00ff
requested    2001-09-09T01:46:40Z
stored       2001-09-09T01:46:41Z
fresh until  2001-09-09T01:47:40Z
keep until   2001-09-09T02:46:40Z
header       A: x
header       B: 1
header       B: 2
`
	stdout, stderr, err := adminapitest.Larder(t, "get", testID)
	if err != nil || stdout != first || stderr != "" {
		t.Errorf("printed %q and %q, %v; want %q", stdout, stderr, err, first)
	}
	stdout, _, err = adminapitest.Larder(t, "get", "http://A/?b&c")
	if err != nil || !strings.HasPrefix(stdout, first+"\nurl          http://a/\n") || !strings.Contains(stdout, "\ntags         t u\n") {
		t.Errorf("of a URL it printed %q, %v", stdout, err)
	}
	stdout, _, err = adminapitest.Larder(t, "get", "--json", testID)
	if err != nil || !strings.HasPrefix(stdout, "{\n  \"id\": \""+testID+"\",\n") {
		t.Errorf("printed %q, %v", stdout, err)
	}
	current.Load().details[testID] = nil // it leaves after it was listed
	stdout, stderr, err = adminapitest.Larder(t, "get", "http://A/?b&c")
	if err != nil || !strings.HasPrefix(stdout, "url          http://a/\n") || stderr != "" {
		t.Errorf("printed %q and %q, %v", stdout, stderr, err)
	}
	current.Load().details[second] = nil
	stdout, stderr, err = adminapitest.Larder(t, "get", "http://A/?b&c")
	adminapitest.ExpectOneLine(t, stdout, stderr, err, "nothing is stored for this URL")
	use(t, &fakeCache{pages: map[string]Listing{"": {}}})
	stdout, stderr, err = adminapitest.Larder(t, "get", "http://a/")
	adminapitest.ExpectOneLine(t, stdout, stderr, err, "nothing is stored for this URL")
}
