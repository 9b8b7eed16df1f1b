package httpcache

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/larder-cache/larder/rfc9111"
)

// contentRoute is a route whose keys have the body in a form, and a ttl.
func contentRoute(t *testing.T, form BodyForm, change ...func(*Rules)) *testHandler {
	t.Helper()
	h := newTestHandler(t)
	rules := Rules{
		Key: KeyRules{Body: form}, Methods: []string{"GET", "HEAD", "POST", "QUERY"},
		Policy: rfc9111.Policy{TTL: []rfc9111.StatusTTL{{Duration: time.Hour}}},
	}
	for _, f := range change {
		f(&rules)
	}
	h.Route = h.cache.NewRoute(rules, nil)
	return h
}

func safePost(r *Rules) { r.Policy.SafePost = true }

// numbered answers with the number of the call, and type JSON.
func numbered(body string) (handlerFunc, *int) {
	n := new(int)
	return func(w http.ResponseWriter, r *http.Request) error {
		*n++
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, err := fmt.Fprintf(w, body, *n)
		return err
	}, n
}

// exchange asks and returns Cache-Status.
func (h *testHandler) exchange(t *testing.T, next handlerFunc, method, target, body string, header ...string) string {
	t.Helper()
	r := httptest.NewRequest(method, "http://example.com"+target, strings.NewReader(body))
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		if r.Header.Set(header[i], header[i+1]); header[i+1] == "" {
			r.Header.Del(header[i])
		}
	}
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, r, next); err != nil {
		t.Fatal(err)
	}
	h.awaitIdle()
	return w.Header().Get("Cache-Status")
}

// TestJSONBodies: JSON that all readers take for the same is the same request, and nothing else is.
func TestJSONBodies(t *testing.T) {
	const first = `{"model":"m","messages":[{"role":"user","content":"hé"}],"n":1}`
	again := ` {"n": 1, "messages": [{"content": "h\u00e9", "role": "user"}], "model": "m"} `
	for name, c := range map[string]struct {
		body   string
		hit    bool
		header []string
	}{
		"itself":               {body: first, hit: true},
		"another order":        {body: again, hit: true},
		"by QUERY, not stored": {body: again},
		"another value":        {body: strings.Replace(first, `"n":1`, `"n":2`, 1)},
		"another number":       {body: strings.Replace(first, `"n":1`, `"n":1.0`, 1)},
		"a name twice":         {body: strings.Replace(first, `"n":1`, `"n":1,"n":1`, 1)},
		"a list in order":      {body: strings.Replace(first, `[{`, `[{},{`, 1)},
		"no Content-Type":      {body: again, header: []string{"Content-Type", ""}}, // which is in the key
		"a form":               {body: again, header: []string{"Content-Type", "application/x-www-form-urlencoded"}},
	} {
		h := contentRoute(t, BodyJSON, safePost)
		next, calls := numbered("%d")
		if got := h.exchange(t, next, "POST", "/a", first); got != "Larder; fwd=uri-miss; stored" {
			t.Fatalf("%s: the first: %q", name, got)
		}
		method := "POST"
		if strings.Contains(name, "QUERY") {
			method = "QUERY"
		}
		if got := h.exchange(t, next, method, "/a", c.body, c.header...); strings.Contains(got, "hit") != c.hit || (*calls == 1) != c.hit {
			t.Errorf("%s: %q after %d calls", name, got, *calls)
		}
	}
}

// TestBodiesThatAreNoJSON count byte by byte, by whatever they say that they are.
func TestBodiesThatAreNoJSON(t *testing.T) {
	const one, other = `{"a":1,"b":2}`, `{"b":2,"a":1}`
	for _, c := range []struct{ field, value string }{
		{"Content-Type", "text/plain"},
		{"Content-Type", "application/x-www-form-urlencoded"},
		{"Content-Type", "application/json; charset=iso-8859-1"},
		{"Content-Type", "application/json; charset=utf-16"},
		{"Content-Type", "json"},
		{"Content-Type", "application/json; ="},
		{"Content-Encoding", "gzip"},
	} {
		h := contentRoute(t, BodyJSON, safePost)
		next, calls := numbered("%d")
		for _, body := range []string{one, other, one, other} {
			h.exchange(t, next, "POST", "/a", body, c.field, c.value)
		}
		if *calls != 2 {
			t.Errorf("%s: %s: %d fetches, want 2", c.field, c.value, *calls)
		}
	}
	for _, mediaType := range []string{"application/json", "Application/JSON; charset=UTF-8", "text/json", "application/vnd.x+json", ""} {
		h := contentRoute(t, BodyJSON, safePost)
		next, calls := numbered("%d")
		for _, body := range []string{one, other} {
			h.exchange(t, next, "POST", "/a", body, "Content-Type", mediaType)
		}
		if *calls != 1 {
			t.Errorf("%s: %d fetches, want 1", mediaType, *calls)
		}
	}
}

// TestFormsShareNoKey: a body counts as JSON under one rule and as bytes under another.
func TestFormsShareNoKey(t *testing.T) {
	seen := make(map[string]string)
	for _, c := range []struct {
		name string
		c    *content
	}{
		{"bytes", &content{body: []byte(`{"query":"{a}"}`)}},
		{"JSON", &content{body: []byte(`{"query":"{a}"}`), form: BodyJSON, json: []byte(`{"query":"{a}"}`)}},
		{"GraphQL", &content{form: BodyGraphQL, json: []byte(`{"query":"{a}"}`)}},
		{"GraphQL, the other way round", &content{form: BodyGraphQL, document: []byte(`{"query":"{a}"}`)}},
		{"nothing", nil},
		{"the longest", &content{body: make([]byte, maxKeyedBody)}},
	} {
		var b keyBytes
		c.c.write(&b)
		if other, there := seen[string(b.bytes)]; there {
			t.Errorf("%s and %s have one key", c.name, other)
		}
		seen[string(b.bytes)] = c.name
	}
}

// TestGraphQL has what becomes of each kind of request.
func TestGraphQL(t *testing.T) {
	const stored, hit = "Larder; fwd=uri-miss; stored", "hit"
	const mutation, unread = "Larder; fwd=bypass; detail=mutation", "Larder; fwd=bypass; detail=graphql"
	query := func(text string) string { return "/graphql?query=" + text }
	h := contentRoute(t, BodyGraphQL)
	for _, c := range []struct {
		name, method, target, body, want string
		header                           []string
	}{
		{name: "a query", method: "POST", body: `{"query":"query P($n:Int){p(n:$n){id}}","variables":{"n":1}}`, want: stored},
		{name: "the same", method: "POST", body: `{"variables":{"n":1},"query":"query P ( $n: Int ) { p(n: $n) { id } } # c"}`, want: hit},
		{name: "other variables", method: "POST", body: `{"query":"query P($n:Int){p(n:$n){id}}","variables":{"n":2}}`, want: stored},
		{name: "by QUERY", method: "QUERY", body: `{"query":"{a}"}`, want: stored},
		{name: "the same by QUERY", method: "QUERY", body: `{"query":"{ a }"}`, want: hit},
		{name: "a query in a URL", method: "GET", target: query("{a}"), want: stored},
		{name: "the same in a URL", method: "GET", target: query("{a}"), want: hit},
		{name: "its header", method: "HEAD", target: query("{a}"), want: hit},
		{name: "persisted, in a URL", method: "GET", target: `/graphql?extensions={"persistedQuery":{"version":1,"sha256Hash":"ab"}}`, want: stored},
		{name: "a page", method: "GET", target: "/graphql", want: stored},
		{name: "a mutation in a URL", method: "GET", target: query("mutation{a}"), want: mutation},
		{name: "what is no GraphQL in a URL", method: "GET", target: query("shoes"), want: unread},
		{name: "a subscription in a URL", method: "GET", target: query("subscription{a}"), want: mutation},
		{name: "a mutation by QUERY", method: "QUERY", body: `{"query":"mutation{a}"}`, want: mutation},
		{name: "a batch of queries", method: "POST", body: `[{"query":"{a}"},{"query":"{b}"}]`, want: unread},
		{name: "and all is still there", method: "POST", body: `{"query":"query P($n:Int){p(n:$n){id}}","variables":{"n":1}}`, want: hit},
		{name: "a mutation", method: "POST", body: `{"query":"mutation M{a}"}`, want: mutation},
		{name: "which drops what its URL has", method: "POST", body: `{"query":"query P($n:Int){p(n:$n){id}}","variables":{"n":1}}`, want: stored},
		{name: "a subscription", method: "POST", body: `{"query":"subscription{a}"}`, want: mutation},
		{name: "which does so too", method: "POST", body: `{"query":"query P($n:Int){p(n:$n){id}}","variables":{"n":1}}`, want: stored},
		{name: "persisted, in a body", method: "POST", body: `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ab"}}}`, want: unread},
		{name: "which may be a mutation", method: "POST", body: `{"query":"query P($n:Int){p(n:$n){id}}","variables":{"n":1}}`, want: stored},
		{name: "a batch with a mutation", method: "POST", body: `[{"query":"{a}"},{"query":"mutation{b}"}]`, want: unread},
		{name: "which does as it says", method: "POST", body: `{"query":"query P($n:Int){p(n:$n){id}}","variables":{"n":1}}`, want: stored},
		{name: "no JSON", method: "POST", body: `query{a}`, want: unread},
		{name: "no body", method: "POST", want: unread},
		{name: "a form", method: "POST", body: `{"query":"{a}"}`, header: []string{"Content-Type", "application/x-www-form-urlencoded"}, want: unread},
		{name: "the operation in the URL too", method: "POST", target: "/graphql?operationName=A", body: `{"query":"query A{a}"}`, want: stored},
		{name: "another in the URL", method: "POST", target: "/graphql?operationName=B", body: `{"query":"query A{a}"}`, want: unread},
		{name: "a batch, and a document in the URL", method: "POST", target: query("mutation{a}"), body: `[{"query":"{a}"}]`, want: unread},
		{name: "a document in the URL too", method: "POST", target: query("mutation{a}"), body: `{"query":"{a}"}`, want: unread},
		{name: "too long", method: "POST", body: `{"query":"{` + strings.Repeat("a ", maxKeyedBody/2) + `}"}`, want: "Larder; fwd=bypass; detail=body"},
		{name: "which may be anything", method: "POST", body: `{"query":"query P($n:Int){p(n:$n){id}}","variables":{"n":1}}`, want: stored},
	} {
		if c.target == "" {
			c.target = "/graphql"
		}
		next, _ := numbered(`{"data":{"n":%d}}`)
		if got := h.exchange(t, next, c.method, c.target, c.body, c.header...); got != c.want && (c.want != hit || !strings.Contains(got, "; hit; ")) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestGraphQLWithoutPOST: a route that caches no POST has each invalidate.
func TestGraphQLWithoutPOST(t *testing.T) {
	h := contentRoute(t, BodyGraphQL, func(r *Rules) { r.Methods = nil })
	next, _ := numbered(`{"data":%d}`)
	for _, c := range [][3]string{
		{"GET", "", "Larder; fwd=uri-miss; stored"}, {"POST", `{"query":"{a}"}`, "Larder; fwd=bypass; detail=method"}, {"GET", "", "Larder; fwd=uri-miss; stored"},
	} {
		if got := h.exchange(t, next, c[0], "/graphql", c[1]); got != c[2] {
			t.Errorf("%s: %q, want %q", c[0], got, c[2])
		}
	}
}

// TestGraphQLAnswers: what reports errors is a 200, and is not stored.
func TestGraphQLAnswers(t *testing.T) {
	gzipped := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.String()
	}
	zstded := func(text string) string {
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(w.EncodeAll([]byte(text), nil))
	}
	const fine, failed = `{"data":{"a":1}}`, `{"data":null,"errors":[{"message":"PersistedQueryNotFound"}]}`
	long := `{"data":{"a":"` + strings.Repeat("x", 200<<10) + `"}`
	for name, c := range map[string]struct {
		body, coding string
		stored       bool
	}{
		"an answer":          {body: fine, stored: true},
		"errors":             {body: failed},
		"long":               {body: long + "}", stored: true},
		"long, with errors":  {body: long + `,"errors":[{}]}`},
		"gzip":               {body: gzipped(fine), coding: "gzip", stored: true},
		"gzip with errors":   {body: gzipped(failed), coding: "gzip"},
		"zstd":               {body: zstded(fine), coding: "zstd", stored: true},
		"zstd with errors":   {body: zstded(failed), coding: "ZSTD"},
		"no gzip":            {body: fine, coding: "gzip"},
		"an unknown coding":  {body: fine, coding: "br"},
		"parts":              {body: "--a\r\n\r\n" + fine + "\r\n--a--"},
		"a page":             {body: "<html>"},
		"nothing":            {},
		"identity as coding": {body: fine, coding: "identity", stored: true},
	} {
		h := contentRoute(t, BodyGraphQL)
		next, calls := counting(func(w http.ResponseWriter, _ *http.Request) error {
			if c.coding != "" {
				w.Header().Set("Content-Encoding", c.coding)
			}
			_, err := io.WriteString(w, c.body)
			return err
		})
		for range 2 {
			h.exchange(t, next, "POST", "/graphql", `{"query":"{a}"}`)
		}
		if (*calls == 1) != c.stored {
			t.Errorf("%s: %d fetches", name, *calls)
		}
	}
}

// TestGraphQLTag: an operation's answers are purged by its name.
func TestGraphQLTag(t *testing.T) {
	h := contentRoute(t, BodyGraphQL)
	next, _ := numbered(`{"data":%d}`)
	for _, c := range []struct{ method, target, body, tag string }{
		{"POST", "/graphql", `{"query":"query Products{a}"}`, "graphql-Products"},
		{"POST", "/graphql", `{"query":"query A{a} query B{b}","operationName":"B"}`, "graphql-B"},
		{"GET", "/graphql?query=query+Products{a}", "", "graphql-Products"},
		{"GET", `/graphql?operationName=Products&extensions={"persistedQuery":{"sha256Hash":"a"}}`, "", "graphql-Products"},
		{"POST", "/graphql", `{"query":"{a}"}`, ""},
		{"POST", "/graphql", `{"query":"query ` + strings.Repeat("A", rfc9111.MaxTagBytes) + `{a}"}`, ""},
	} {
		h.exchange(t, next, c.method, c.target, c.body)
		q := h.newRequest(nil, httptest.NewRequest(c.method, "http://example.com"+c.target, strings.NewReader(c.body)), next)
		q.r.Header.Set("Content-Type", "application/json")
		if c.body == "" {
			q.r.Body, q.r.ContentLength = http.NoBody, 0
		}
		if why := q.classify(); why != NotBypassed {
			t.Fatal(why)
		}
		q.readKey()
		found := h.cache.store.Peek(q.key, q.selects)
		if found.Entry == nil {
			t.Errorf("%s %s: nothing is stored", c.target, c.body)
			continue
		}
		if tags := strings.Join(found.Entry.Tags, " "); tags != c.tag {
			t.Errorf("%s %s: tags %q, want %q", c.target, c.body, tags, c.tag)
		}
		found.Release()
	}
}

// TestExplainedContent: how a body counts is explained.
func TestExplainedContent(t *testing.T) {
	for _, c := range []struct {
		form BodyForm
		body string
		want string
	}{
		{BodyJSON, `{"a":1}`, "as JSON"},
		{BodyJSON, `{"a":1,"a":2}`, "byte by byte, as it has no canonical form"},
		{BodyGraphQL, `{"query":"query A{a}"}`, "a query, named A, tag graphql-A"},
		{BodyGraphQL, `{"query":"{a}"}`, "a query, without a name"},
		{BodyGraphQL, `{"query":"mutation{a}"}`, "a mutation or subscription"},
		{BodyGraphQL, `[]`, "not known: it is a batch"},
		{BodyGraphQL, `{"query":"{"}`, "not known: it cannot be read as a GraphQL request"},
	} {
		h := contentRoute(t, c.form)
		r := httptest.NewRequest("POST", "http://example.com/a", strings.NewReader(c.body))
		r.Header.Set("Content-Type", "application/json")
		if e := h.explain(t, r); !strings.Contains(e.Line(), c.want) {
			t.Errorf("%s: %s\nwant %q", c.body, e.Line(), c.want)
		}
	}
}
