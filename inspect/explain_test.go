package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

// fakeExplainer answers what it is told to and remembers what it was asked.
type fakeExplainer struct {
	answer Explained
	err    error
	asked  []Question
}

func (f *fakeExplainer) Explain(_ context.Context, q Question) (Explained, error) {
	f.asked = append(f.asked, q)
	return f.answer, f.err
}

// explainer is what the tests' features ask, nil while no cache runs.
var explainer *fakeExplainer

func withExplainer(t *testing.T, f *fakeExplainer) *fakeExplainer {
	explainer = f
	t.Cleanup(func() { explainer = nil })
	return f
}

var explainedHit = Explained{
	Verdict: "Hit: it is fresh.",
	Steps:   []ExplainedStep{{"may it be used?", "yes, it is fresh", "RFC 9111 4.2"}, {Question: "is something stored?", Answer: "yes\x1b[31m"}},
	Key:     &EntryKey{Hash: strings.Repeat("ab", 32), Parts: []EntryKeyPart{{"path", []string{"/a"}}, {"add", []string{"x", "y"}}}},
}

func TestExplainEndpoint(t *testing.T) {
	f := withExplainer(t, &fakeExplainer{answer: explainedHit})
	response, body := adminapitest.Send(t, http.MethodPost, "/larder/explain",
		`{"url":"http://h/","method":"POST","headers":{"a":"1","B":["2","3"]},"body":"x","client":"192.0.2.1","listen":":80","fetch":true}`)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", response.StatusCode, body)
	}
	want := Question{
		URL: "http://h/", Method: "POST", Headers: http.Header{"A": {"1"}, "B": {"2", "3"}},
		Body: "x", Client: "192.0.2.1", Listen: ":80", Fetch: true,
	}
	if len(f.asked) != 1 || !reflect.DeepEqual(f.asked[0], want) {
		t.Errorf("asked %+v, want %+v", f.asked, want)
	}
	var answer map[string]any
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	if entry, there := answer["entry"]; !there || entry != nil || answer["verdict"] != explainedHit.Verdict {
		t.Errorf("%s", body)
	}
	f.err = errors.New("the URL has no host")
	response, body = adminapitest.Send(t, http.MethodPost, "/larder/explain", `{"url":"/a"}`)
	adminapitest.ExpectFailure(t, response, body, http.StatusBadRequest, "the URL has no host")
	explainer = nil
	response, body = adminapitest.Send(t, http.MethodPost, "/larder/explain", `{"url":"http://h/"}`)
	adminapitest.ExpectFailure(t, response, body, http.StatusServiceUnavailable, "no cache is running")
	response, body = adminapitest.Send(t, http.MethodGet, "/larder/explain", "")
	adminapitest.ExpectFailure(t, response, body, http.StatusMethodNotAllowed, "send POST")
}

func TestExplainCommand(t *testing.T) {
	f := withExplainer(t, &fakeExplainer{answer: explainedHit})
	out, _, err := adminapitest.Larder(t, "explain", "http://h/a", "-H", "Accept: a, b", "-H", "accept:c", "--fetch", "-X", "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	want := `Hit: it is fresh.
  may it be used? yes, it is fresh [RFC 9111 4.2]
  is something stored? yes\x1b[31m
key abababababababab
  path: /a
  add: x | y
`
	if out != want {
		t.Errorf("printed\n%s\nwant\n%s", out, want)
	}
	asked := Question{URL: "http://h/a", Method: "HEAD", Headers: http.Header{"Accept": {"a, b", "c"}}, Fetch: true}
	if len(f.asked) != 1 || !reflect.DeepEqual(f.asked[0], asked) {
		t.Errorf("asked %+v, want %+v", f.asked, asked)
	}
	out, _, err = adminapitest.Larder(t, "explain", "http://h/a", "--json")
	var printed Explained
	if err := errors.Join(err, json.Unmarshal([]byte(out), &printed)); err != nil || !reflect.DeepEqual(printed, explainedHit) {
		t.Errorf("%v\n%s", err, out)
	}
	const nowhere = "Not Larder's: nothing listens at port 1; the configuration listens at :80."
	f.answer = Explained{Verdict: nowhere, Steps: []ExplainedStep{}}
	out, stderr, err := adminapitest.Larder(t, "explain", "http://h:1/", "--json")
	if err == nil || !strings.Contains(out, nowhere) || !strings.Contains(stderr, nowhere) {
		t.Errorf("printed %q and %q, %v", out, stderr, err)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"explain", "http://h:1/"}, nowhere},
		{[]string{"explain"}, "explain accepts 1 arg(s), received 0; write caddy larder explain <url>"},
		{[]string{"explain", "http://h/", "-H", "no colon"}, "is not a header field; give 'Name: value'"},
		{[]string{"explain", "http://h/", "-H", "A: b\nc"}, "is not a header field"},
		{[]string{"explain", "http://h/", "--method", "A B"}, "is not a method"},
	} {
		out, stderr, err := adminapitest.Larder(t, tc.args...)
		adminapitest.ExpectOneLine(t, out, stderr, err, tc.want)
	}
}

// FuzzQuestion: whatever is sent is refused with a sentence, or is a question with a URL.
func FuzzQuestion(f *testing.F) {
	f.Add(`{"url":"http://h/","headers":{"A":["b"]},"client":"::1"}`)
	f.Add(`{"url":"","method":"GET"}`)
	f.Add(`{"url":"http://h/","headers":{"A":"b\r\nC: d"}}`)
	f.Add(`{"url":null,"headers":null,"body":[]}`)
	f.Fuzz(func(t *testing.T, body string) {
		q, err := decodeQuestion([]byte(body))
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a sentence")
			}
			return
		}
		if q.URL == "" || q.Method == "" {
			t.Errorf("%+v", q)
		}
		for name, lines := range q.Headers {
			for _, line := range lines {
				if strings.ContainsAny(name+line, "\r\n\x00") {
					t.Errorf("%q: %q", name, line)
				}
			}
		}
	})
}
