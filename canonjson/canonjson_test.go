package canonjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/larder-cache/larder/rfc9111/worktest"
)

// TestAlike has texts that all readers read the same from.
func TestAlike(t *testing.T) {
	for form, texts := range map[string][]string{
		`{"a":1,"b":[true,null]}`:      {`{"b":[true,null],"a":1}`, " {\t\"a\" : 1 ,\r\n\"b\" : [ true , null ] } \n", `{"\u0061":1,"b":[true,null]}`},
		`{"":{"y":2,"z":1},"x":"é"}`:   {`{"x":"\u00e9","":{"z":1,"y":2}}`, `{"x":"\u00E9","":{"y":2,"z":1}}`},
		`"a/b\n\u0000😀"`:               {`"a\/b\u000a\u0000\ud83d\ude00"`, ` "a/b\n\u0000😀"`},
		`1.50`:                         {"1.50", " 1.50 "},
		`[]`:                           {"[ ]", "[]"},
		`{"\r":1,"1":2,"é":3,"😀":4}`:   {`{"😀":4,"é":3,"1":2,"\r":1}`},
		`{"key":1,"other":{"key":1}}`:  {`{"other":{"key":1},"key":1}`},
		`[{"id":1},{"id":1},{"ID":2}]`: {`[{"id":1}, {"id":1}, {"ID":2}]`},
		`{"model":"m","n":"model"}`:    {`{"n":"model","model":"m"}`},
		strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth): {strings.Repeat("[ ", MaxDepth) + strings.Repeat("]", MaxDepth)},
	} {
		for _, text := range texts {
			got, err := Canonical([]byte(text))
			if err != nil || string(got) != form {
				t.Errorf("%q: %q, %v; want %q", text, got, err, form)
			}
		}
	}
}

// TestApart has texts from which some reader reads something else.
func TestApart(t *testing.T) {
	forms := make(map[string]string)
	for _, text := range []string{
		"1", "1.0", "1e0", "1E0", "10e-1", "-0", "0", "-0.0", "0.1", "0.10",
		"9007199254740992", "9007199254740993", "123456789012345678901", "123456789012345678902",
		"1e400", "1e401", "0.1000000000000000055511151231257827", "0.1000000000000000055511151231257828",
		`"1"`, `"1.0"`, "true", "null", `""`, "[]", "{}", "[[]]", "[1,2]", "[2,1]", `{"a":null}`, `{"A":null}`,
		`"é"`, `"e\u0301"`, `" a"`, `"a"`, `"a "`, `"\ufeff"`,
	} {
		form, err := Canonical([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if other, there := forms[string(form)]; there {
			t.Errorf("%q and %q are both %q", text, other, form)
		}
		forms[string(form)] = text
	}
}

// TestNoForm has what readers read in different ways, or not at all.
func TestNoForm(t *testing.T) {
	for _, text := range []string{
		"", " ", "nul", "a=1&b=2", `{"a":1`, `{"a":1}}`, `{"a":1,}`, "[1 2]", "01", "+1", ".5", "1.", "NaN", "'a'", "{a:1}", "/**/1", "1 2", "{}\n{}",
		"\ufeff{}", "\"\xff\"", "\"\xed\xa0\x80\"", "\"\xc0\x80\"", `"\ud800"`, `"\udc00\ud800"`, `"\ud800a"`, "\"\t\"", "\"\x00\"", "1\x00", "\x0c1",
		`{"a":1,"a":2}`, `{"a":1,"a":1}`, `{"a":1,"\u0061":2}`, `{"x":{"a":1,"b":2,"a":3}}`, `[{"a":1},{"a":1,"a":2}]`,
		`{"a":1,"A":2}`, `{"k":1,"\u212a":2}`, `{"s":1,"ſ":2}`, `{"é":1,"É":2}`, `{"max_tokens":1,"maxTokens":2}`, `{"a-b":1,"a_b":2}`, `{"":1,"_":2}`, `{"a":1,"b":{},"A":2}`,
		strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
		strings.Repeat(`{"a":`, MaxDepth+1) + "1" + strings.Repeat("}", MaxDepth+1),
	} {
		if form, err := Canonical([]byte(text)); err == nil {
			t.Errorf("%q has the form %q", text, form)
		}
	}
}

// FuzzJSONWork holds that reading a text costs as much as it is long.
func FuzzJSONWork(f *testing.F) {
	if worktest.Raced {
		f.Skip("the race detector has nothing to find here, and makes it ten times slower")
	}
	for _, text := range [][3]string{
		{"[", "1,", "1]"},
		{"[", `"\u0061",`, "1]"},
		{"{", `"z#":1,`, `"a":1}`},
		{`{"a":[`, `{"b":1,"a":2},`, "1]}"},
		{"", "[", ""},
		{"", `{"b":1,"a":`, ""},
		{"[", `{"b":{"b":{"b":1,"a":2},"a":2},"a":2},`, "1]"},
		{`{"`, "a", `":1}`},
		{`"`, "é", `"`},
		{"", " ", "1"},
		{"[", "1e9,", "1]"},
		{strings.Repeat(`{"b":1,"a":`, MaxDepth-1) + "{", `"z#":1,`, `"a":1` + strings.Repeat("}", MaxDepth)},
	} {
		f.Add(text[0], text[1], text[2])
	}
	f.Fuzz(func(t *testing.T, head, unit, tail string) {
		if len(head) > 1024 || len(unit) > 64 || len(tail) > 256 {
			t.Skip("more of the same")
		}
		worktest.Check(t, "a JSON text", func(lines []string) { _, _ = Canonical([]byte(strings.Join(lines, ""))) }, head, unit, tail)
	})
}

// FuzzCanonical holds that a form is a form of itself, and that encoding/json reads the same from
// it as from the text.
func FuzzCanonical(f *testing.F) {
	for _, text := range []string{`{"b":[1,2.0],"a":{"d":"\u00e9","c":null}}`, `{"a":1,"a":2}`, `"\ud800"`, "1e400", "[[[]]]", "\ufeff1", `{"a":1} `} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sent := bytes.Clone(text)
		form, err := Canonical(text)
		if !bytes.Equal(sent, text) {
			t.Fatal("the text has been changed")
		}
		if err != nil {
			return
		}
		again, err := Canonical(form)
		if err != nil || !bytes.Equal(form, again) {
			t.Fatalf("the form of %q is %q, whose form is %q, %v", text, form, again, err)
		}
		if got, want := read(t, form), read(t, text); got != want {
			t.Fatalf("%q is read from %q, %q from its form", want, text, got)
		}
		if len(form) > 6*len(text) {
			t.Fatalf("%d bytes have a form of %d", len(text), len(form))
		}
	})
}

// read returns what encoding/json reads from a text, numbers as they are written, with the members
// in order.
func read(t *testing.T, text []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return written(value)
}

func written(value any) string {
	switch value := value.(type) {
	case map[string]any:
		var members []string
		for name, member := range value {
			members = append(members, fmt.Sprintf("%q:%s", name, written(member)))
		}
		slices.Sort(members)
		return "{" + strings.Join(members, ",") + "}"
	case []any:
		var elements []string
		for _, element := range value {
			elements = append(elements, written(element))
		}
		return "[" + strings.Join(elements, ",") + "]"
	case string:
		return fmt.Sprintf("%q", value)
	case json.Number:
		return string(value)
	}
	return fmt.Sprint(value)
}

// BenchmarkCanonical is what a chat of two messages costs.
func BenchmarkCanonical(b *testing.B) {
	text := []byte(`{"model":"small","temperature":0.2,"messages":[{"role":"system","content":"Answer briefly."},{"role":"user","content":"` + strings.Repeat("What is a larder? ", 50) + `"}],"max_tokens":` + fmt.Sprint(math.MaxInt16) + `}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Canonical(text); err != nil {
			b.Fatal(err)
		}
	}
}
