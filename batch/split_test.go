package batch

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// rule returns a rule for the items at a path, with ids at another.
func rule(t testing.TB, items, id string) *Rule {
	t.Helper()
	r, err := New(Config{Path: "/products/{id}", URL: "/products?ids={ids}", Items: items, ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSplit(t *testing.T) {
	for _, test := range []struct {
		name, items, id, answer string
		want                    map[string]string // an item's bytes, or the word of its Presence
		err                     error
	}{
		{
			name: "an array", id: "id", answer: ` [ {"id": 7, "name": "a"} ,{"id":8}]`,
			want: map[string]string{"7": `{"id": 7, "name": "a"}`, "8": `{"id":8}`, "9": "absent"},
		},
		{
			name: "an object", answer: `{"7": {"a":1} , "8":[ ]}`,
			want: map[string]string{"7": `{"a":1}`, "8": `[ ]`, "9": "absent"},
		},
		{
			name: "items that are no objects", answer: `{"7":1.50,"8":"x","9":null,"10":false}`,
			want: map[string]string{"7": `1.50`, "8": `"x"`, "9": "absent", "10": `false`},
		},
		{
			name: "within the answer", items: "data.products", id: "id",
			answer: `{"total":2,"data":{"more":{"id":9},"products":[{"id":7}]},"products":[{"id":8}]}`,
			want:   map[string]string{"7": `{"id":7}`, "8": "absent", "9": "absent"},
		},
		{
			name: "an object whose items have ids", items: "items", id: "key.id",
			answer: `{"items":{"a":{"key":{"id":"x"}},"b":{"key":{}},"x":{"key":{"id":"y"}}}}`,
			want:   map[string]string{"x": `{"key":{"id":"x"}}`, "y": `{"key":{"id":"y"}}`, "a": "absent"},
		},
		{
			name: "numbers, spaces and escapes as they are", id: "id",
			answer: "[{\"id\":\"\\u0061\", \"n\":1.0e+02 ,\n\t\"s\":\"\\u00e9\\/\"}]",
			want:   map[string]string{"a": "{\"id\":\"\\u0061\", \"n\":1.0e+02 ,\n\t\"s\":\"\\u00e9\\/\"}"},
		},
		{
			name: "a number by its literal", id: "id", answer: `[{"id":7.0},{"id":1e1},{"id":12345678901234567890}]`,
			want: map[string]string{"7": "absent", "7.0": `{"id":7.0}`, "10": "absent", "12345678901234567890": `{"id":12345678901234567890}`},
		},
		{
			name: "ids that are none", id: "id", answer: `[{"id":null},{"id":true},{"id":[7]},{"id":{"id":7}},{},7,"7",null]`,
			want: map[string]string{"7": "absent", "null": "absent", "true": "absent", "": "absent"},
		},
		{
			name: "an id twice", id: "id", answer: `[{"id":7,"v":1},{"id":8},{"id":"7","v":2}]`,
			want: map[string]string{"7": "ambiguous", "8": `{"id":8}`},
		},
		{
			name: "an id three times", id: "id", answer: `[{"id":7},{"id":7},{"id":7}]`,
			want: map[string]string{"7": "ambiguous"},
		},
		{name: "a name twice", answer: `{"7":1,"7":2}`, want: map[string]string{"7": "ambiguous"}},
		{
			name: "an item that has its id twice", id: "id", answer: `[{"id":7,"id":8},{"id":9}]`,
			want: map[string]string{"7": "absent", "8": "absent", "9": `{"id":9}`},
		},
		{name: "the way twice", items: "a", answer: `{"a":{},"a":{"7":1}}`, err: ErrAmbiguous},
		{name: "no way", items: "a.b", answer: `{"a":{"c":{}}}`, err: ErrNoItems},
		{name: "a way through an array", items: "a.b", answer: `{"a":[{"b":{}}]}`, err: ErrNoItems},
		{name: "a number in place of items", items: "a", answer: `{"a":7}`, err: ErrNoItems},
		{name: "an array of items without ids", answer: `[{"id":7}]`, err: ErrNoItems},
		{name: "an empty array of items without ids", answer: `[]`, want: map[string]string{"7": "absent"}},
		{name: "nothing", answer: ``, err: ErrNotJSON},
		{name: "what breaks off", id: "id", answer: `[{"id":7},{"id":8}`, err: ErrNotJSON},
		{name: "two texts", id: "id", answer: `[{"id":7}][{"id":8}]`, err: ErrNotJSON},
		{name: "HTML", id: "id", answer: `<p>Sorry</p>`, err: ErrNotJSON},
		{name: "a byte order mark", answer: "\ufeff{}", err: ErrNotJSON},
		{name: "what is no UTF-8", answer: "{\"7\":\"\xff\"}", err: ErrNotJSON},
		{name: "deep", answer: strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001), err: ErrNotJSON},
		{
			name: "deep in an item", answer: `{"7":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + `}`,
			want: map[string]string{"7": strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000)},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			ids := make([]string, 0, len(test.want))
			for id := range test.want {
				ids = append(ids, id)
			}
			items, err := rule(t, test.items, test.id).Split([]byte(test.answer), ids)
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			for id, want := range test.want {
				got, presence := items.Find(id)
				if presence == Present && string(got) != want || presence != Present && presence.String() != want {
					t.Errorf("item %q: %s %.80q, want %.80q", id, presence, got, want)
				}
			}
		})
	}
}

// TestSplitKeepsWhatWasAskedFor: an answer with many more items costs nothing for them.
func TestSplitKeepsWhatWasAskedFor(t *testing.T) {
	var b strings.Builder
	for n := range 1000 {
		fmt.Fprintf(&b, ",{\"id\":%d}", n)
	}
	items, err := rule(t, "", "id").Split([]byte("["+b.String()[1:]+"]"), []string{"5", "x"})
	if err != nil {
		t.Fatal(err)
	}
	if len(items.found) != 2 {
		t.Errorf("%d items are kept, want the 2 that were asked for", len(items.found))
	}
	if _, presence := items.Find("6"); presence != Absent {
		t.Error("an item is there that was not asked for")
	}
}

// TestSplitCopiesNothing: an answer that is one long item was there three times while it was split,
// and counts twice.
func TestSplitCopiesNothing(t *testing.T) {
	long := strings.Repeat("x", 4<<20)
	for name, answer := range map[string]string{
		"an item":         `[{"text":"` + long + `","id":7}]`,
		"another item":    `[{"text":"` + long + `","id":8},{"id":7}]`,
		"no item":         `{"text":"` + long + `","7":1}`,
		"items, by names": `{"7":{"text":"` + long + `"}}`,
	} {
		id := ""
		if answer[0] == '[' {
			id = "id"
		}
		whole, r := []byte(answer), rule(t, "", id)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		items, err := r.Split(whole, []string{"7"})
		runtime.ReadMemStats(&after)
		if _, presence := items.Find("7"); err != nil || presence != Present {
			t.Errorf("%s: %s, %v", name, presence, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
			t.Errorf("%s of 4 MiB: %d bytes were allocated", name, took)
		}
	}
}
