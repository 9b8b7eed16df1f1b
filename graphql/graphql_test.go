package graphql

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/rfc9111/worktest"
)

// body is a request with a document and further members, as `,"variables":{}`.
func body(document, more string) string {
	quoted, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	return `{"query":` + string(quoted) + more + "}"
}

func hashed(document string) string {
	sum := sha256.Sum256([]byte(document))
	return fmt.Sprintf(`,"extensions":{"persistedQuery":{"version":1,"sha256Hash":"%s"}}`, hex.EncodeToString(sum[:]))
}

func TestParseBody(t *testing.T) {
	const both = "query A { a } mutation B { b } subscription C { c }"
	for name, c := range map[string]struct {
		body string
		want Request // of which Query and Operation count
		err  error
	}{
		"shorthand":                 {body: body("{ a }", ""), want: Request{Query: true}},
		"query":                     {body: body("query { a }", ""), want: Request{Query: true}},
		"named":                     {body: body("query Products($n: Int = 1) { p(n: $n) { id } }", `,"variables":{"n":2}`), want: Request{Query: true, Operation: "Products"}},
		"a fragment in front":       {body: body("fragment F on T { a } query Q { ...F }", ""), want: Request{Query: true, Operation: "Q"}},
		"mutation":                  {body: body("mutation Buy { buy }", ""), want: Request{Operation: "Buy"}},
		"subscription":              {body: body("subscription { a }", ""), want: Request{}},
		"the first of three":        {body: body(both, `,"operationName":"A"`), want: Request{Query: true, Operation: "A"}},
		"the second of three":       {body: body(both, `,"operationName":"B"`), want: Request{Operation: "B"}},
		"one of three":              {body: body(both, ""), err: ErrUnread},
		"none of three":             {body: body(both, `,"operationName":"D"`), err: ErrUnread},
		"two of a name":             {body: body("query A { a } mutation A { b }", `,"operationName":"A"`), err: ErrUnread},
		"null and empty":            {body: body("{ a }", `,"operationName":null,"variables":null,"extensions":null`), want: Request{Query: true}},
		"a mutation in a comment":   {body: body("# mutation {\n{ a }", ""), want: Request{Query: true}},
		"a mutation in a string":    {body: body(`{ a(b: "} mutation { c") }`, ""), want: Request{Query: true}},
		"a mutation behind \\r":     {body: body("#\rmutation { a }", ""), want: Request{}},
		"escapes":                   {body: `{"\u0071uery":"\u006dutation { a }"}`, want: Request{}},
		"hash and document":         {body: body("{ a }", hashed("{ a }")), want: Request{Query: true}},
		"the hash of another":       {body: body("{ a }", hashed("mutation { a }")), err: ErrUnread},
		"a hash of another kind":    {body: body("{ a }", `,"extensions":{"persistedQuery":{"md5":"1"}}`), err: ErrUnread},
		"a hash alone":              {body: `{"operationName":"A"` + hashed("{ a }") + "}", err: ErrPersisted},
		"a hash beside null":        {body: `{"query":null` + hashed("{ a }") + "}", err: ErrPersisted},
		"other extensions":          {body: body("{ a }", `,"extensions":{"clientLibrary":{"name":"x"}}`), want: Request{Query: true}},
		"a document by another id":  {body: body("{ a }", `,"documentId":"1"`), err: ErrUnread},
		"another spelling":          {body: `{"Query":"{ a }"}`, err: ErrUnread},
		"two documents":             {body: `{"query":"{ a }","query":"mutation { a }"}`, err: ErrUnread},
		"two spellings":             {body: `{"query":"{ a }","Query":"mutation { a }"}`, err: ErrUnread},
		"two operationNames":        {body: body(both, `,"operationName":"A","operation_name":"B"`), err: ErrUnread},
		"no document":               {body: "{}", err: ErrUnread},
		"an empty document":         {body: body("", ""), err: ErrUnread},
		"a document without any":    {body: body("fragment F on T { a }", ""), err: ErrUnread},
		"a schema":                  {body: body("type T { a: Int }", ""), err: ErrUnread},
		"no GraphQL":                {body: body("shoes", ""), err: ErrUnread},
		"a number as document":      {body: `{"query":1}`, err: ErrUnread},
		"a list as name":            {body: body("{ a }", `,"operationName":["A"]`), err: ErrUnread},
		"no JSON":                   {body: "query { a }", err: ErrUnread},
		"a string":                  {body: `"query { a }"`, err: ErrUnread},
		"a batch of queries":        {body: "[" + body("{ a }", "") + "," + body("query B { b }", "") + "]", want: Request{Query: true}, err: ErrBatch},
		"a batch with a mutation":   {body: "[" + body("{ a }", "") + "," + body("mutation { b }", "") + "]", err: ErrBatch},
		"a batch with a hash":       {body: "[" + body("{ a }", "") + ",{" + hashed("{ a }")[1:] + "}]", err: ErrBatch},
		"a batch of something else": {body: "[" + body("{ a }", "") + ",1]", err: ErrBatch},
		"too many tokens":           {body: body("{"+strings.Repeat(" a", MaxTokens)+"}", ""), err: ErrUnread},
		"nested too deep":           {body: body(strings.Repeat("{a", 2000)+strings.Repeat("}", 2000), ""), err: ErrUnread},
		"a thousand aliases":        {body: body("{"+strings.Repeat(" x: a", 1000)+"}", ""), want: Request{Query: true}},
	} {
		got, err := ParseBody([]byte(c.body))
		if got.Query != c.want.Query || got.Operation != c.want.Operation || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, got, err, c.want, c.err)
		}
	}
}

// TestForms: requests share a form exactly if nothing is different that an origin may see.
func TestForms(t *testing.T) {
	form := func(text string) string {
		r, err := ParseBody([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return fmt.Sprintf("%q %q", r.Document, r.Rest)
	}
	for _, same := range [][]string{
		{body("{ a(b: 1, c: \"x\") { d } }", ""), body("{a(b:1 c:\"x\"){d}}", ""), body("# all\n{\r\n\ta(b: 1,,, c: \"x\")\n{ d } # é\n}\n", "")},
		{body("query Q($a:Int){a(a:$a)}", `,"variables":{"a":1,"b":2},"operationName":"Q"`), `{"variables":{"b":2,"a":1},"operationName":"Q","query":"query Q ( $a : Int ) { a ( a : $a ) }"}`},
	} {
		for _, other := range same[1:] {
			if form(same[0]) != form(other) {
				t.Errorf("%s has the form %s, %s has %s", same[0], form(same[0]), other, form(other))
			}
		}
	}
	forms := make(map[string]string)
	for _, text := range []string{
		body("{a}", ""), body("query{a}", ""), body("query A{a}", ""), body("{a b}", ""), body("{b a}", ""), body("{ab}", ""), body("{x:a}", ""), body("{...a}", ""),
		body("{a}", `,"variables":{}`), body("{a}", `,"variables":{"a":1}`), body("{a}", `,"variables":{"a":1.0}`), body("{a}", `,"variables":{"a":"1"}`),
		body("{a}", `,"operationName":null`), body("{a}", `,"operationName":""`), body("{a}", `,"extensions":{"x":1}`),
		body("{a(b:1)}", ""), body("{a(b:1.0)}", ""), body(`{a(b:"1")}`, ""), body("{a(b:[1 2])}", ""), body("{a(b:[12])}", ""), body("{a(b:-1)}", ""), body("{a(b:A)}", ""), body(`{a(b:"A")}`, ""), body("{a(b:$A)}", ""),
		body(`{a(b:"""A""")}`, ""), body(`{a(b:"""A """)}`, ""), body("{a(b:\"\"\"\n  A\n\"\"\")}", ""), body(`{a(b:"\u0041")}`, ""), body(`{a(b:"\u{41}")}`, ""), body(`{a(b:"\ud800")}`, ""), body(`{a(b:"\udfff")}`, ""),
		body(`{a(b:" A")}`, ""), body(`{a(b:"#A")}`, ""), body(`{a(b:"A,")}`, ""), body("{a(b:1 c:2)}", ""), body("{a(b:1c:2)}", ""), body("{a(b:0x:1)}", ""), body("{a(b:0 x:1)}", ""),
		body("{a #\u2028b\n}", ""), body("\ufeff{a}", ""), body("{a @b}", ""), body("{a @b(c:1)}", ""), body("{... on a{b}}", ""), body("{...{b}}", ""),
	} {
		if other, there := forms[form(text)]; there {
			t.Errorf("%s and %s have one form", text, other)
		}
		forms[form(text)] = text
	}
}

func TestParseURL(t *testing.T) {
	const hash = `{"persistedQuery":{"version":1,"sha256Hash":"ab"}}`
	q := func(pairs ...string) string {
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Add(pairs[i], pairs[i+1])
		}
		return v.Encode()
	}
	for raw, c := range map[string]struct {
		asked bool
		want  Request
		err   error
	}{
		"":                            {},
		q("id", "5"):                  {want: Request{Query: true}},
		q("operationName", "A"):       {want: Request{Query: true}},
		q("extensions", hash):         {asked: true, want: Request{Query: true}},
		q("query", "{a}"):             {asked: true, want: Request{Query: true}},
		q("query", "mutation M{a}"):   {asked: true, want: Request{Operation: "M"}},
		q("query", "shoes"):           {asked: true, err: ErrUnread},
		q("query", ""):                {asked: true, err: ErrUnread},
		"query={a}&query=mutation{a}": {asked: true, err: ErrUnread},
		"query={a};query=mutation{a}": {asked: true, err: ErrUnread},
		"%71uery=mutation{a}":         {asked: true},
		"a=%zz":                       {},
		"query={a}&a=%zz":             {asked: true, err: ErrUnread},
		"query={a(b:\"%ff\")}":        {asked: true, err: ErrUnread},
		q("query", "query A{a}query B{b}", "operationName", "B"):        {asked: true, want: Request{Query: true, Operation: "B"}},
		q("operationName", "A", "extensions", hash, "variables", "{}"):  {asked: true, want: Request{Query: true, Operation: "A"}},
		q("operationName", "A b", "extensions", hash, "variables", "1"): {asked: true, want: Request{Query: true}},
		q("query", "{"+strings.Repeat("a ", MaxLength)+"}"):             {asked: true, err: ErrUnread},
	} {
		got, asked, err := ParseURL(raw)
		if asked != c.asked || got.Query != c.want.Query || got.Operation != c.want.Operation || !errors.Is(err, c.err) {
			t.Errorf("%.80s: %v %+v, %v; want %+v", raw, asked, got, err, c)
		}
	}
}

func TestAgrees(t *testing.T) {
	for raw, want := range map[string]bool{
		"": true, "a=1": true, "q=query": true, "variables={}": true, "queryy=1": true, "operationName=A": true, "a=1&operationName=A&b": true, "%6fperationName=%41": true,
		"query": false, "a=1&query={a}": false, "a=1;query={a}": false, "Query=1": false, "%71uery=1": false, "documentId=1": false, "extensions={}": false,
		"operationName=B": false, "operationName": false, "operationName=A;operationName=B": false, "operationName=%zz": false,
	} {
		if got := Agrees(raw, "A"); got != want {
			t.Errorf("%q: %v", raw, got)
		}
	}
}

func TestCheckAnswer(t *testing.T) {
	for text, storable := range map[string]bool{
		`{"data":{"a":1}}`: true, ` { "data" : null , "extensions" : {"errors":[1]} } `: true, `{"data":{"errors":[]}}`: true, `{"errors":null,"data":{}}`: true, `{"data":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`: true,
		`{"errors":[{"message":"PersistedQueryNotFound"}]}`: false, `{"data":{"a":null},"errors":[{}]}`: false, `{"\u0065rrors":[1]}`: false, `{"errors":[]}`: false, `{"errors":1}`: false,
		``: false, `[]`: false, `[{"data":1}]`: false, `"data"`: false, `{"data":{"a":1}`: false, `<html>`: false, `data: {"data":{}}`: false, "--x\r\n\r\n{\"data\":1}": false,
	} {
		if err := CheckAnswer(strings.NewReader(text)); (err == nil) != storable {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}

// answerOfReads is an answer that is given out piece by piece.
type answerOfReads struct {
	before, piece, after string
	n                    int
}

// Read implements io.Reader.
func (a *answerOfReads) Read(p []byte) (n int, err error) {
	if a.before == "" && a.n > 0 {
		a.before, a.n = a.piece, a.n-1
	} else if a.before == "" {
		a.before, a.after = a.after, ""
	}
	if a.before == "" {
		return 0, io.EOF
	}
	n = copy(p, a.before)
	a.before = a.before[n:]
	return n, nil
}

// TestCheckAnswerKeepsNothing: an answer with one long string was kept whole, and a second time
// while its buffer grew.
func TestCheckAnswerKeepsNothing(t *testing.T) {
	long := strings.Repeat(" ", 64<<10)
	for name, answer := range map[string]*answerOfReads{
		"a string":    {before: `{"data":{"a":"`, piece: long, after: `"}}`},
		"escapes":     {before: `{"data":{"a":"`, piece: strings.Repeat(`\u0020`, 10<<10), after: `"}}`},
		"a name":      {before: `{"data":{"`, piece: long, after: `":1}}`},
		"a member":    {before: `{"`, piece: long, after: `":1}`},
		"white space": {before: `{"data":`, piece: long, after: `1}`},
		"a number":    {before: `{"data":1`, piece: strings.Repeat("0", 64<<10), after: `}`},
		"numbers":     {before: `{"data":[0`, piece: strings.Repeat(",0", 32<<10), after: `]}`},
	} {
		answer.n = 512
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := CheckAnswer(answer); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
			t.Errorf("%s of 32 MiB: %d bytes were allocated", name, took)
		}
	}
}

// TestCheckAnswerDepth: what is kept of an answer grows with its depth, which is bounded.
func TestCheckAnswerDepth(t *testing.T) {
	for depth, storable := range map[int]bool{maxAnswerDepth - 1: true, maxAnswerDepth: false, 1 << 20: false} {
		answer := `{"data":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + "}"
		if err := CheckAnswer(strings.NewReader(answer)); (err == nil) != storable {
			t.Errorf("%d: %v", depth, err)
		}
	}
}

// TestCheckAnswerReadsOn: a reader that fails is what is wrong, and one that gives nothing is left.
func TestCheckAnswerReadsOn(t *testing.T) {
	broken := errors.New("broken")
	whole := iotest.OneByteReader(strings.NewReader(`{"data":{"a":"\u00e9"},"\u0065rror":-0.5e+7}`))
	if err := CheckAnswer(whole); err != nil {
		t.Error(err)
	}
	if err := CheckAnswer(io.MultiReader(strings.NewReader(`{"data":"`), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := CheckAnswer(iotest.ErrReader(nil)); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

// checkAnswerByTokens is CheckAnswer by jsontext, which keeps whole strings.
func checkAnswerByTokens(answer string) bool {
	d := jsontext.NewDecoder(strings.NewReader(answer), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if token, err := d.ReadToken(); err != nil || token.Kind() != jsontext.KindBeginObject {
		return false
	}
	for {
		token, err := d.ReadToken()
		switch {
		case err != nil:
			return false
		case token.Kind() == jsontext.KindEndObject:
			return true
		case token.String() == "errors" && d.PeekKind() != jsontext.KindNull, d.SkipValue() != nil:
			return false
		}
	}
}

// FuzzCheckAnswer holds that what is JSON, and reports errors, is what jsontext says.
func FuzzCheckAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"data":{"a":1}}`, ` { "data" : null , "extensions" : {"errors":[1]} } `, `{"errors":null,"data":{}}`, `{"\u0065rrors":[1]}`, `{"error\u0053":1}`,
		`{}`, `{,}`, `{"a":1,}`, "{\"a\":1,\x00", `{"a":[1,]}`, `{"a":{"b":1,}}`, `{"a":[}]}`, `{"a":[[],{},[{"b":[]}]]}`, `{"a":01}`, `{"a":-}`, `{"a":1.}`, `{"a":1e}`,
		`{"a":-0.10e-07}`, `{"a":tru}`, `{"a":nul}`, `{"errors":nul}`, "{\"a\":\"\x1f\"}", "{\"a\":\"\xff\"}", `{"a":"\u12"}`, `{"a":"\ud800"}`, `{"a":"\x"}`, `{"a":1}x`,
		`{"errors":[`, `{"error":1,"errorss":2,"":3}`, `{"a" 1}`, `{1:1}`, `{"a":1 "b":2}`, `[{}]`, "\xef\xbb\xbf{}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		for name, in := range map[string]io.Reader{"at once": strings.NewReader(answer), "byte by byte": iotest.OneByteReader(strings.NewReader(answer))} {
			if err := CheckAnswer(in); (err == nil) != checkAnswerByTokens(answer) {
				t.Errorf("%q %s: %v", answer, name, err)
			}
		}
	})
}

// workReaders read what worktest makes, each at another place of a request.
var workReaders = map[string]worktest.Reader{
	"a document": func(lines []string) { _, _ = ParseBody([]byte(body(strings.Join(lines, ""), ""))) },
	"a body":     func(lines []string) { _, _ = ParseBody([]byte(strings.Join(lines, ""))) },
	"a query":    func(lines []string) { _, _, _ = ParseURL("query=" + strings.Join(lines, "")) },
	"a URL":      func(lines []string) { Agrees(strings.Join(lines, ""), "A") },
	"an answer":  func(lines []string) { _ = CheckAnswer(strings.NewReader(strings.Join(lines, ""))) },
}

// FuzzGraphQLWork holds that reading a request or an answer costs as much as it is long.
func FuzzGraphQLWork(f *testing.F) {
	if worktest.Raced {
		f.Skip("the race detector has nothing to find here, and makes it ten times slower")
	}
	for _, seed := range [][3]string{
		{"{", "a", "}"},
		{"{", " a", "}"},
		{"{", " a#: b", "}"}, // aliases
		{"", "{a", ""},
		{"", "{a(b:[{c:", ""},
		{"{a(b:\"", `\"`, "\")}"},
		{"{a(b:\"", `\u0041`, "\")}"},
		{`{a(b:"""`, " x\n", `""")}`},
		{`{a(b:"""`, `\"""`, `""")}`},
		{"{a(b:", "[", ")}"},
		{"{a(b:[", "1 ", "])}"},
		{"#", "#", "\n{a}"},
		{"", "# é\n", "{a}"},
		{"", ",", "{a}"},
		{"", "query A#{a}", ""},
		{"query Q(", "$a#:Int=1,", "){a}"},
		{"", "fragment F# on T{...F#}", "{a}"},
		{"{a", "@b(c:1)", "}"},
		{"[", body("{a}", "") + ",", body("{a}", "") + "]"},
		{`{"query":"{a}","extensions":{"persistedQuery":{`, `"z#":1,`, `"sha256Hash":"a"}}}`},
		{`{"data":{`, `"a#":{},`, `"b":1}}`},
		{"", "a&b#=%41&", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, head, unit, tail string) {
		if len(head) > 256 || len(unit) > 64 || len(tail) > 256 {
			t.Skip("more of the same")
		}
		for name, read := range workReaders {
			worktest.Check(t, name, read, head, unit, tail)
		}
	})
}

// FuzzParseBody holds that white space, commas and comments between tokens change no form, that the
// parser of one form is that of the other, and that a text that is no query is never taken for one.
func FuzzParseBody(f *testing.F) {
	for _, document := range []string{"{a}", "query Q($a:[Int!]=[1]){b(c:$a)@d{...E}}fragment E on F{g}", "mutation{a}", `{a(b:"\u0041" c:"""x""")}`, "#\rmutation{a}", "{a(b:1c:2)}", "{a}#\u2028"} {
		f.Add(document)
	}
	f.Fuzz(func(t *testing.T, document string) {
		r, err := ParseBody([]byte(body(document, "")))
		if err != nil {
			return
		}
		if r.Query && !strings.Contains(document, "{") || !r.Query && !strings.Contains(document, "mutation") && !strings.Contains(document, "subscription") {
			t.Fatalf("%q: query %v", document, r.Query)
		}
		spaced := body("#c\n,"+document+"\n#d", "")
		other, err := ParseBody([]byte(spaced))
		if err != nil || other.Query != r.Query || other.Operation != r.Operation {
			t.Fatalf("%q: %+v; with white space around: %+v, %v", document, r, other, err)
		}
		if unusual := r.Document[0] == asWritten; !unusual && !bytes.Equal(r.Document, other.Document) {
			t.Fatalf("%q has the form %q; with white space around %q", document, r.Document, other.Document)
		}
	})
}
