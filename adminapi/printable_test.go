package adminapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// hostile has what terminals act on: a sequence for the cursor, line breaks, a C1 control, what
// turns the direction of text, what has no width, a tag beyond 16 bits.
const hostile = "a\x1b[2J\r\n\t\x7f\u009b31m\u202eb\u200b\u2028\U000e0041é\\\""

const hostilePrinted = `a\x1b[2J\x0d\x0a\x09\x7f\x9b31m\u202eb\u200b\u2028\U000e0041é\"`

func TestPrintable(t *testing.T) {
	if got := Printable(hostile); got != hostilePrinted {
		t.Errorf("%s, want %s", got, hostilePrinted)
	}
}

func TestDecodeIsPrintable(t *testing.T) {
	type answer struct {
		Text   string
		Fields map[string][]string
	}
	for name, text := range map[string]string{
		"as Go encodes it": marshal(t, answer{hostile, map[string][]string{hostile: {hostile}}}),
		"all escaped":      `{"Text":` + escaped(hostile) + `,"Fields":{` + escaped(hostile) + `:[` + escaped(hostile) + `]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode[answer](json.RawMessage(text))
			if err != nil {
				t.Fatal(err)
			}
			if want := (&answer{hostilePrinted, map[string][]string{hostilePrinted: {hostilePrinted}}}); !reflect.DeepEqual(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// FuzzPrintable: whatever a text is, nothing that a terminal acts on is printed of it, and the JSON
// that is printed has the same text.
func FuzzPrintable(f *testing.F) {
	f.Add(hostile)
	f.Add("\xff\x9b\U0010ffff\\u001b\\")
	f.Fuzz(func(t *testing.T, text string) {
		answer := json.RawMessage(marshal(t, map[string]string{"text": text}))
		for name, answer := range map[string]json.RawMessage{"as it is": answer, "all escaped": json.RawMessage(`{"text":` + escaped(text) + `}`)} {
			got, err := Decode[map[string]string](answer)
			if err != nil || strings.ContainsFunc((*got)["text"], isUnsafe) {
				t.Errorf("%s: %q is printed as %q, %v", name, text, got, err)
			}
			var out bytes.Buffer
			var again, once map[string]string
			if err := PrintJSONLine(&out, answer); err != nil {
				t.Fatal(err)
			}
			if line := strings.TrimSuffix(out.String(), "\n"); strings.ContainsFunc(line, isUnsafe) {
				t.Errorf("%s: %q is printed as %q", name, text, line)
			}
			if json.Unmarshal(out.Bytes(), &again) != nil || json.Unmarshal(answer, &once) != nil || again["text"] != once["text"] {
				t.Errorf("%s: %q is %q", name, text, again["text"])
			}
		}
		if strings.ContainsFunc(Printable(text), isUnsafe) {
			t.Errorf("%q is printed as %q", text, Printable(text))
		}
	})
}

func marshal(t *testing.T, value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// escaped is a JSON string of escapes alone, of UTF-16.
func escaped(text string) string {
	var units []byte
	for _, r := range text {
		units = appendEscape(units, r)
	}
	return `"` + string(units) + `"`
}
