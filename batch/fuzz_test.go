package batch

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"unicode/utf8"
)

// FuzzSplit compares what is cut out with what encoding/json makes of the whole. Where a name
// stands twice in an object, encoding/json takes the last and Split none, so these are left out.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		`[{"id":7,"name":"a"},{"id":"8"}]`, `{"7":{"a":1},"8":[ ]}`, `{"data":{"items":[{"id":7}]}}`, `{"data":{"items":{"7":1}}}`,
		`[ {"id" : 1.0e+02 } , null, 7 ]`, `[{"id":"\u0061\ud83d\ude00\/"}]`, `{"\u0037":1}`, `[{"id":7},{"id":7}]`, `{"7":1,"7":2}`,
		`[`, `{"7"`, `[]{}`, "\xef\xbb\xbf[]", "[\"\xff\"]", `"7"`, `null`, ` `, `[[[[[[{"id":7}]]]]]]`, `{"data":{"data":{"items":[]}}}`,
	} {
		for form := range uint8(4) {
			f.Add([]byte(seed), form)
		}
	}
	f.Fuzz(func(t *testing.T, answer []byte, form uint8) {
		itemsPath, idPath := [2]string{"", "data.items"}[form&1], [2]string{"", "id"}[form>>1&1]
		r := rule(t, itemsPath, idPath)
		want, ids, valid := reference(answer, itemsPath, idPath)
		before := bytes.Clone(answer)
		items, err := r.Split(answer, append(ids, "another"))
		if !bytes.Equal(before, answer) {
			t.Fatal("the answer was changed")
		}
		if err != nil {
			if valid && len(want) > 0 && !hasTwice(answer) {
				t.Fatalf("%v, but there are items: %q", err, slices.Collect(maps.Keys(want)))
			}
			return
		}
		if !json.Valid(answer) || !utf8.Valid(answer) {
			t.Fatal("items of what is no JSON")
		}
		if hasTwice(answer) {
			return
		}
		for _, id := range ids {
			got, presence := items.Find(id)
			values := want[id]
			switch {
			case len(values) == 0 && presence != Absent, len(values) > 1 && presence != Ambiguous,
				len(values) == 1 && (presence != Present || !bytes.Equal(got, values[0])):
				t.Fatalf("item %q: %s %q, want one of %q", id, presence, got, values)
			}
		}
		if _, presence := items.Find("another"); presence == Present && want["another"] == nil {
			t.Fatal("an item with an id that the answer lacks")
		}
	})
}

// reference returns the items of an answer by encoding/json alone, and all ids that are tried.
func reference(answer []byte, itemsPath, idPath string) (items map[string][][]byte, ids []string, valid bool) {
	if !utf8.Valid(answer) || !json.Valid(answer) {
		return nil, []string{"7"}, false
	}
	container := json.RawMessage(answer)
	if itemsPath != "" {
		var data struct {
			Data map[string]json.RawMessage `json:"data"`
		}
		var top map[string]json.RawMessage
		if json.Unmarshal(answer, &top) != nil || json.Unmarshal(top["data"], &data.Data) != nil {
			return nil, []string{"7"}, true
		}
		container = data.Data["items"]
	}
	items = make(map[string][][]byte)
	add := func(id string, value []byte) {
		ids = append(ids, id)
		if value = bytes.TrimSpace(value); string(value) != "null" {
			items[id] = append(items[id], value)
		}
	}
	var named map[string]json.RawMessage
	var list []json.RawMessage
	switch {
	case json.Unmarshal(container, &named) == nil && idPath == "":
		for name, value := range named {
			add(name, value)
		}
		return items, ids, true
	case json.Unmarshal(container, &named) == nil:
		list = slices.Collect(maps.Values(named))
	case json.Unmarshal(container, &list) != nil, idPath == "":
		return nil, []string{"7"}, true
	}
	for _, value := range list {
		var members map[string]json.RawMessage
		if json.Unmarshal(value, &members) != nil {
			continue
		}
		id := members["id"]
		var text string
		var number json.Number
		switch {
		case len(id) > 0 && id[0] == '"' && json.Unmarshal(id, &text) == nil:
			add(text, value)
		case len(id) > 0 && (id[0] == '-' || id[0] >= '0' && id[0] <= '9') && json.Unmarshal(id, &number) == nil:
			add(number.String(), value)
		}
	}
	return items, ids, true
}

// hasTwice reports whether an object of the text has a name twice.
func hasTwice(text []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(text))
	type level struct {
		names map[string]bool // nil for an array
		value bool            // the next token is a value, not a name
	}
	var levels []level
	for {
		token, err := decoder.Token()
		if err != nil {
			return false
		}
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			levels = levels[:len(levels)-1]
			continue
		}
		if n := len(levels); n > 0 && levels[n-1].names != nil {
			top := &levels[n-1]
			if !top.value {
				name := token.(string)
				if top.names[name] {
					return true
				}
				top.names[name], top.value = true, true
				continue
			}
			top.value = false
		}
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{names: make(map[string]bool)})
		case json.Delim('['):
			levels = append(levels, level{})
		}
	}
}
