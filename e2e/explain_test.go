package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// explained is what POST /larder/explain answers.
type explained struct {
	Verdict string `json:"verdict"`
	Steps   []struct{ Question, Answer, Clause string }
	Key     *struct {
		Hash  string
		Parts []struct {
			Part   string
			Values []string
		}
	}
	Entry *struct {
		URL    string   `json:"url"`
		Status int      `json:"status"`
		Tags   []string `json:"tags"`
		Hits   *int     `json:"hits"`
	}
	Error string `json:"error"`
}

// String is for the messages of tests.
func (e *explained) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, e.Verdict+e.Error)
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "  %s %s [%s]\n", s.Question, s.Answer, s.Clause)
	}
	if e.Key != nil {
		for _, p := range e.Key.Parts {
			fmt.Fprintf(&b, "  key %s=%s\n", p.Part, strings.Join(p.Values, "|"))
		}
	}
	return b.String()
}

// explain asks how a request would be answered.
func (in *instance) explain(question map[string]any) *explained {
	in.t.Helper()
	body, err := json.Marshal(question)
	if err != nil {
		in.t.Fatal(err)
	}
	e := new(explained)
	if status := in.adminCall(http.MethodPost, "/larder/explain", string(body), e); status != http.StatusOK {
		in.t.Fatalf("explain %s: %d %s", body, status, e.Error)
	}
	return e
}

// explainRow is a row of testdata/explain: a configuration, what the origin answers, the requests
// before, the one that is explained, and what is to be said of it.
type explainRow struct {
	sections map[string]string
	origin   atomic.Pointer[string] // the section that it answers by
}

// readExplainRow reads "-- name --" sections.
func readExplainRow(t *testing.T, file string) *explainRow {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	row := &explainRow{sections: make(map[string]string)}
	row.answerBy("origin")
	name := "what"
	for line := range strings.Lines(string(text)) {
		if heading, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "-- "); ok {
			name = strings.TrimSuffix(heading, " --")
			continue
		}
		row.sections[name] += line
	}
	for _, needed := range []string{"site", "origin", "explain", "want"} {
		if row.sections[needed] == "" {
			t.Fatalf("%s has no section %s", file, needed)
		}
	}
	return row
}

// answerBy has the origin answer by a section from now on.
func (row *explainRow) answerBy(section string) { row.origin.Store(&section) }

// answer is the origin.
func (row *explainRow) answer(w http.ResponseWriter, r *http.Request) {
	lines := strings.Split(strings.TrimSpace(row.sections[*row.origin.Load()]), "\n")
	status, _ := strconv.Atoi(lines[0])
	size, breaks := 4, false
	for _, line := range lines[1:] {
		if n, ok := strings.CutPrefix(line, "size "); ok {
			size, _ = strconv.Atoi(n)
		} else if line == "break" {
			breaks = true
		} else if name, value, ok := strings.Cut(line, ": "); ok {
			w.Header().Add(name, value)
		}
	}
	declared := size
	if breaks {
		declared *= 2
	}
	w.Header().Set("Content-Length", strconv.Itoa(declared))
	w.WriteHeader(status)
	_, _ = w.Write(make([]byte, size))
	if breaks {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// setup is the row's configuration, with the site of a section.
func (row *explainRow) setup(in *instance, section string) setup {
	s := setup{
		site: row.sections[section], options: row.sections["options"], more: row.sections["more"], routes: row.sections["routes"],
	}
	s.more = strings.ReplaceAll(s.more, "{{port}}", strconv.Itoa(in.port))
	return s
}

// do makes the requests before.
func (row *explainRow) do(t *testing.T, in *instance, o *origin) {
	t.Helper()
	lines := strings.Split(row.sections["do"], "\n")
	for i := 0; i < len(lines); i++ {
		verb, rest, _ := strings.Cut(lines[i], " ")
		rest = row.filled(in, rest)
		switch verb {
		case "":
		case "origin":
			row.answerBy("origin" + rest)
		case "purge":
			in.purge(rest)
		case "reload":
			in.load(row.setup(in, rest), o)
		case "fill":
			row.fill(t, in)
		case "until": // a failure counts when the origin has answered nothing for a while
			eventually(t, rest, func() bool {
				in.get("/a")
				return strings.Contains(in.explain(row.question(in)).Verdict, rest)
			})
		case "wait":
			eventually(t, rest, func() bool { return strings.Contains(in.explain(row.question(in)).Verdict, rest) })
		default:
			var header []string
			body := ""
			for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "\t") {
				i++
				name, value, _ := strings.Cut(strings.TrimSpace(lines[i]), ": ")
				if name == "data" {
					body = value
					continue
				}
				header = append(header, name, value)
			}
			in.do(verb, rest, body, header...)
		}
	}
}

// fill has the origin asked for others until the request that is explained finds no room any more.
// Which goes first depends on the hashes of keys, and these on the port.
func (row *explainRow) fill(t *testing.T, in *instance) {
	t.Helper()
	for i := range 1000 {
		in.get("/fill/" + strconv.Itoa(i))
		if strings.Contains(in.explain(row.question(in)).Verdict, "evicted") {
			return
		}
	}
	t.Fatal("nothing is evicted")
}

// filled fills in where the instance is.
func (row *explainRow) filled(in *instance, text string) string {
	return strings.NewReplacer("{{url}}", in.url(""), "{{port}}", strconv.Itoa(in.port)).Replace(text)
}

// question is the request that is explained.
func (row *explainRow) question(in *instance) map[string]any {
	lines := strings.Split(strings.TrimSpace(row.sections["explain"]), "\n")
	method, url, _ := strings.Cut(lines[0], " ")
	if strings.HasPrefix(url, "/") {
		url = in.url(url)
	}
	headers := make(map[string]any)
	question := map[string]any{"method": method, "url": url, "headers": headers}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		if name == "data" {
			question["body"] = value
			continue
		}
		headers[name] = value
	}
	return question
}

var moments, late = regexp.MustCompile(`\b[0-9]s\b`), regexp.MustCompile(`4[0-9]s\b`)

// steady writes what is said as if no time had passed since the requests before, which takes some.
func steady(text string) string {
	return late.ReplaceAllString(moments.ReplaceAllString(text, "0s"), "40s")
}

// wants reports whether the explanation says what a line of the row wants.
func (row *explainRow) wants(in *instance, e *explained, o *origin, line string) bool {
	kind, want, _ := strings.Cut(row.filled(in, line), ": ")
	switch kind {
	case "verdict":
		return strings.Contains(steady(e.Verdict), want)
	case "unsaid": // by the verdict
		return !strings.Contains(e.Verdict, want)
	case "clause":
		for _, s := range e.Steps {
			if s.Clause == want {
				return true
			}
		}
	case "step":
		question, answer, _ := strings.Cut(want, "|")
		for _, s := range e.Steps {
			if s.Question == question && strings.Contains(steady(s.Answer), answer) {
				return true
			}
		}
	case "key":
		name, value, _ := strings.Cut(want, "=")
		for _, p := range e.Key.Parts {
			if p.Part == name && strings.Join(p.Values, "|") == value {
				return true
			}
		}
	case "asked":
		return strconv.Itoa(o.count()) == want
	}
	return false
}

// told are the beginnings of verdicts, with what Cache-Status then says of a request that is made.
var told = []struct {
	verdict string
	status  *regexp.Regexp
}{
	{"Hit: ", regexp.MustCompile(`^Larder; hit; ttl=\d`)},
	{"Stale hit: ", regexp.MustCompile(`^Larder; hit; ttl=(-|0)`)},
	{"Revalidation: ", regexp.MustCompile(`^Larder; fwd=(stale|request)`)},
	{"Miss (hit-for-miss): ", regexp.MustCompile(`^Larder; fwd=miss|^$`)},
	{"Miss: ", regexp.MustCompile(`^Larder; fwd=(uri-miss|vary-miss|request)|^$`)},
	{"Bypass: ", regexp.MustCompile(`^Larder; fwd=bypass`)},
	{"Refused with 429: ", regexp.MustCompile(`^Larder; detail=repeats$`)},
	{"Refused ", regexp.MustCompile(`^$`)},
	{"Purge: ", regexp.MustCompile(`^$`)},
	{"Not Larder's: ", regexp.MustCompile(`^$`)},
	{"Not known: ", regexp.MustCompile(``)},
}

// compare makes the request that was explained, and holds that it is answered as was said.
func (row *explainRow) compare(t *testing.T, in *instance, e *explained) {
	t.Helper()
	q := row.question(in)
	path, here := strings.CutPrefix(q["url"].(string), in.url(""))
	waits := strings.Contains(e.Verdict, "waits for a place") // for as long as the queue lets it
	if !here || waits || strings.Contains(e.Verdict, "has observe") {
		return
	}
	var header []string
	for name, value := range q["headers"].(map[string]any) {
		header = append(header, name, value.(string))
	}
	body, _ := q["body"].(string)
	if length, given := q["headers"].(map[string]any)["Content-Length"]; given {
		n, _ := strconv.Atoi(length.(string))
		body = strings.Repeat("x", n)
	}
	answer := in.do(q["method"].(string), path, body, header...)
	for _, rule := range told {
		if !strings.HasPrefix(e.Verdict, rule.verdict) {
			continue
		}
		// An error that Caddy answers has no Cache-Status.
		status, failed := answer.cacheStatus(), answer.StatusCode >= http.StatusInternalServerError || strings.Contains(e.Verdict, "returned an error")
		if !rule.status.MatchString(status) || status == "" && strings.HasPrefix(rule.verdict, "Miss") && !failed {
			t.Errorf("the request is answered with %d and Cache-Status %q, and explained as\n%s", answer.StatusCode, status, e)
		}
		if strings.Contains(e.Verdict, "will not be stored") && strings.Contains(status, "stored") {
			t.Errorf("the answer has Cache-Status %q, and was explained as\n%s", status, e)
		}
		return
	}
	t.Errorf("an unknown verdict: %s", e.Verdict)
}

// TestExplain runs the table of testdata/explain on real routes. Each row is a way not to be a hit,
// and what is said of it. To say it changes nothing: no count, and nothing is asked of the origin.
// The request is made after that, and is answered as was said.
func TestExplain(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(treeRoot, "testdata", "explain", "*.txt"))
	if err != nil || len(files) < 40 {
		t.Fatalf("%d rows, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			row := readExplainRow(t, file)
			o := newOrigin(t, row.answer)
			in := start(t, setup{site: "respond unused"}, o)
			in.load(row.setup(in, "site"), o)
			row.do(t, in, o)
			// A request counts when its handler returns, which is after its client has the answer.
			eventually(t, "all requests are over", func() bool { return goroutinesIn(serving) == 0 })
			before, asked := in.stats(), o.count()
			e := in.explain(row.question(in))
			for line := range strings.Lines(strings.TrimSpace(row.sections["want"])) {
				if line = strings.TrimSpace(line); !row.wants(in, e, o, line) {
					t.Errorf("want %s in\n%s", line, e)
				}
			}
			if after := in.stats(); !reflect.DeepEqual(before.Requests, after.Requests) {
				t.Errorf("counts before %v, after %v", before.Requests, after.Requests)
			}
			if n := o.count(); n != asked && !strings.Contains(row.sections["want"], "asked: ") {
				t.Errorf("the origin has been asked %d times", n-asked)
			}
			row.compare(t, in, e)
		})
	}
}

// TestExplainedKeysDiffer: two requests that differ in one forwarded field are seen to.
func TestExplainedKeysDiffer(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, numbered("Cache-Control", "max-age=60")))
	one := in.explain(map[string]any{"url": in.url("/a"), "headers": map[string]any{"X-Forwarded-Host": "a.example"}})
	two := in.explain(map[string]any{"url": in.url("/a"), "headers": map[string]any{"X-Forwarded-Host": []string{"b.example"}}})
	if one.Key.Hash == two.Key.Hash || reflect.DeepEqual(one.Key.Parts, two.Key.Parts) {
		t.Errorf("one\n%s\ntwo\n%s", one, two)
	}
	if len(one.Key.Parts) != len(two.Key.Parts) {
		t.Errorf("other parts: one\n%s\ntwo\n%s", one, two)
	}
	differ := 0
	for i := range one.Key.Parts {
		if !reflect.DeepEqual(one.Key.Parts[i], two.Key.Parts[i]) {
			differ++
		}
	}
	if differ != 1 {
		t.Errorf("%d parts differ: one\n%s\ntwo\n%s", differ, one, two)
	}
}

// TestExplainListen: a request that a proxy in front has taken by TLS.
func TestExplainListen(t *testing.T) {
	s := proxied("larder")
	s.global = "servers {\n\ttrusted_proxies static 192.0.2.0/24\n}"
	in := start(t, s, newOrigin(t, numbered("Cache-Control", "max-age=60")))
	question := map[string]any{
		"url": "https://localhost/a", "listen": fmt.Sprintf(":%d", in.port), "client": "192.0.2.7",
		"headers": map[string]any{"X-Forwarded-Proto": "https"},
	}
	e := in.explain(question)
	if want := "yes: GET https://localhost/a"; !strings.Contains(e.String(), want) {
		t.Errorf("no %q in\n%s", want, e)
	}
	question["client"] = "198.51.100.7" // which is trusted with nothing
	if e, want := in.explain(question), "yes: GET http://localhost/a"; !strings.Contains(e.String(), want) {
		t.Errorf("no %q in\n%s", want, e)
	}
	for _, listen := range []string{":1", "no address", "unix/"} {
		question["listen"] = listen
		body, _ := json.Marshal(question)
		e, want := new(explained), fmt.Sprintf("no server has the listener %q; the configuration listens at :%d, so send \"listen\" (--listen) with", listen, in.port)
		if status := in.adminCall(http.MethodPost, "/larder/explain", string(body), e); status != http.StatusBadRequest || !strings.HasPrefix(e.Error, want) {
			t.Errorf("%d %q, want %q", status, e.Error, want)
		}
	}
}

// TestExplainOfWhatIsNotStoredBehindTLS: nothing was remembered of the URL without what the proxy
// in front says, so that the verdict had not why the clients' answers are not stored. Before there
// are clients it says by which fields to ask.
func TestExplainOfWhatIsNotStoredBehindTLS(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, numbered("Cache-Control", "max-age=60", "Set-Cookie", "a=b")))
	question := map[string]any{"url": "https://localhost:31443/a", "listen": fmt.Sprintf(":%d", in.port)}
	const before, behind = "such as -H 'X-Forwarded-Proto: https'.", ". With -H 'X-Forwarded-Proto: https': Miss (hit-for-miss): the last response (status 200, "
	if e := in.explain(question); !strings.HasSuffix(e.Verdict, before) {
		t.Errorf("no %q in\n%s", before, e)
	}
	in.explain(map[string]any{
		"url": "http://localhost:31443/a", "listen": question["listen"], "fetch": true, "headers": map[string]any{"X-Forwarded-Proto": "https"},
	})
	if e := in.explain(question); !strings.Contains(e.Verdict, behind) || !strings.Contains(e.Verdict, "sets a cookie") {
		t.Errorf("no %q in\n%s", behind, e)
	}
}

// TestExplainOfTheClientsURLBehindTLS: a proxy in front speaks TLS, at a port of its own, and says
// so in fields that are in the key. The verdict is on what clients get, and says by which fields.
func TestExplainOfTheClientsURLBehindTLS(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, numbered("Cache-Control", "max-age=60")))
	question := map[string]any{"url": "https://localhost:31443/a", "listen": fmt.Sprintf(":%d", in.port)}
	if e, want := in.explain(question), "does it have what the proxy in front says of scheme and host?"; !strings.HasPrefix(e.Verdict, "Miss: ") || !strings.Contains(e.String(), want) {
		t.Errorf("no %q in\n%s", want, e)
	}
	fetch := map[string]any{"url": "http://localhost:31443/a", "listen": question["listen"], "fetch": true}
	for _, tc := range []struct {
		headers map[string]any
		want    string
	}{
		{map[string]any{"X-Forwarded-Proto": "https"}, ". With -H 'X-Forwarded-Proto: https': Hit: "},
		{
			map[string]any{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost:31443"},
			". With -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-Host: localhost:31443': Hit: ",
		},
		{
			map[string]any{"Host": "localhost", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "31443"},
			". With -H 'Host: localhost' -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-Port: 31443': Hit: ",
		},
	} {
		fetch["headers"] = tc.headers
		in.explain(fetch)
		if e := in.explain(question); !strings.Contains(e.Verdict, tc.want) || e.Entry == nil {
			t.Errorf("no %q in\n%s", tc.want, e)
		}
		in.purge(`{"all":true}`)
	}
}

// TestExplainKeepsTheFieldsOfTheQuestion: what the question says of host and port was replaced by
// what proxies commonly say, so that the verdict was on another request.
func TestExplainKeepsTheFieldsOfTheQuestion(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, numbered("Cache-Control", "max-age=60")))
	listen := fmt.Sprintf(":%d", in.port)
	for field, values := range map[string][2]string{
		"X-Forwarded-Host": {"localhost:31443", "www.localhost"}, "X-Forwarded-Port": {"31443", "443"}, "Host": {"localhost", "localhost:31443"},
	} {
		question := map[string]any{"url": "https://localhost:31443/" + field, "listen": listen, "headers": map[string]any{field: values[1]}}
		for i, want := range []string{"does it have what the proxy in front says of scheme and host?", ". With -H 'X-Forwarded-Proto: https': Hit: "} {
			in.explain(map[string]any{
				"url": "http://localhost:31443/" + field, "listen": listen, "fetch": true, "headers": map[string]any{"X-Forwarded-Proto": "https", field: values[i]},
			})
			if e := in.explain(question); !strings.Contains(e.String(), want) || (e.Entry != nil) != (i == 1) {
				t.Errorf("%s: no %q in\n%s", field, want, e)
			}
		}
	}
}

// TestExplainOfAMissThatNoProxyChanges: a request that is passed on for what it says was tried with
// the fields of a proxy, and the answer told to give them.
func TestExplainOfAMissThatNoProxyChanges(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, numbered("Cache-Control", "private")))
	question := map[string]any{"url": "https://localhost:31443/a", "listen": fmt.Sprintf(":%d", in.port)}
	fetch := map[string]any{"url": "http://localhost:31443/a", "listen": question["listen"], "fetch": true}
	in.explain(fetch) // from here on it is hit-for-miss
	for _, headers := range []map[string]any{{}, {"Cache-Control": "no-store"}, {"Accept": "text/event-stream"}} {
		question["headers"] = headers
		if e := in.explain(question); !strings.HasPrefix(e.Verdict, "Miss") || strings.Contains(e.String(), "the proxy in front") {
			t.Errorf("%v:\n%s", headers, e)
		}
	}
}

// TestExplainLeavesNoLine in the access log.
func TestExplainLeavesNoLine(t *testing.T) {
	log := newAccessLog(t)
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in := start(t, setup{site: log.directive() + "\nlarder\nreverse_proxy {{origin}}"}, o)
	in.explain(map[string]any{"url": in.url("/explained"), "fetch": true})
	in.get("/asked")
	log.entry(t, http.MethodGet, "/asked")
	text, err := os.ReadFile(log.file)
	if err != nil || strings.Contains(string(text), "/explained") {
		t.Errorf("%v %s", err, text)
	}
}

// TestExplainBadInput: what cannot be asked is answered with one sentence.
func TestExplainBadInput(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, numbered()))
	for body, want := range map[string]string{
		`{"url":"/a"}`:                                  "the URL has no scheme",
		`{"url":"localhost:8080/a"}`:                    "the URL has no scheme",
		`{"url":"127.0.0.1:8080/a"}`:                    "the URL has no scheme",
		`{"url":"http:///a"}`:                           "the URL has no host",
		`{"url":"http://:80/a"}`:                        "the URL has no host",
		`{"url":"ftp://h/a"}`:                           `the URL has the scheme "ftp", which no site serves`,
		`{"url":"http://h/%"}`:                          "the URL cannot be read",
		`{}`:                                            "no URL is given",
		`{"uri":"http://h/"}`:                           "unknown field",
		`{"url":"http://h/","method":"A B"}`:            "is not a method",
		`{"url":"http://h/","client":"me"}`:             "is not an address",
		`{"url":"http://h/","headers":{"A":1}}`:         "send a text or a list of texts",
		`{"url":"http://h/","headers":{"A":"b\nc"}}`:    "is not a header field",
		`{"url":"http://h/","headers":{"A B":["c"]}}`:   "is not a header field",
		fmt.Sprintf(`{"url":"https://h:%d/"}`, in.port): "does not speak https",
	} {
		e := new(explained)
		if status := in.adminCall(http.MethodPost, "/larder/explain", body, e); status != http.StatusBadRequest || !strings.Contains(e.Error, want) {
			t.Errorf("%s: %d %q, want %q", body, status, e.Error, want)
		}
	}
}
