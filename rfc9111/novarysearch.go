package rfc9111

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unsafe"

	"github.com/dunglas/httpsfv"
)

// SearchVariance says which parameters of a query make a different resource: a response's
// No-Vary-Search (draft-ietf-httpbis-no-vary-search 4). The zero value is the default, under which
// queries are compared as they are written.
type SearchVariance struct {
	// names are those without effect, sorted; with allBut every name is, except them.
	names       []string
	ignoreOrder bool
	allBut      bool
	custom      bool
}

// ParseNoVarySearch reads No-Vary-Search, a structured-field Dictionary. What is not valid or
// longer than 8 KiB is the default, unknown members are ignored.
//
// Drafts differ in how "all but these" is written: except=("a") alone is the newest form; params,
// except=("a") and params alone are what browsers implemented, and read as meant. They also differ
// on key-order alone, which their introduction uses and is honoured here. params=("a") and except
// together contradict each other: the default.
func ParseNoVarySearch(h http.Header) SearchVariance {
	lines := h["No-Vary-Search"]
	if len(lines) == 0 || longer(lines, maxField) {
		return SearchVariance{}
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return SearchVariance{}
	}
	keyOrder, ok := flagMember(dict, "key-order")
	if !ok {
		return SearchVariance{}
	}
	v := SearchVariance{ignoreOrder: keyOrder}
	if !v.parseNames(dict) {
		return SearchVariance{}
	}
	v.custom = v.ignoreOrder || v.allBut || len(v.names) > 0
	return v
}

// parseNames reads params and except.
func (v *SearchVariance) parseNames(dict *httpsfv.Dictionary) (ok bool) {
	params, hasParams := dict.Get("params")
	except, hasExcept := dict.Get("except")
	if list, isList := params.(httpsfv.InnerList); isList {
		v.names, ok = stringMembers(list)
		return ok && !hasExcept
	}
	all := false
	if hasParams {
		if all, ok = flagMember(dict, "params"); !ok {
			return false
		}
	}
	if !hasExcept {
		v.allBut = all
		return true
	}
	list, isList := except.(httpsfv.InnerList)
	if !isList || hasParams && !all {
		return false
	}
	v.names, ok = stringMembers(list)
	v.allBut = ok
	return ok
}

// flagMember returns a Boolean member, false if it is missing. ok is false if it is of another
// type.
func flagMember(dict *httpsfv.Dictionary, name string) (value, ok bool) {
	member, found := dict.Get(name)
	if !found {
		return false, true
	}
	item, isItem := member.(httpsfv.Item)
	if !isItem {
		return false, false
	}
	value, ok = item.Value.(bool)
	return value, ok
}

// stringMembers returns the names in an inner list, decoded like a query, sorted: each parameter of
// each query is looked for among them.
func stringMembers(list httpsfv.InnerList) (names []string, ok bool) {
	for _, item := range list.Items {
		name, isString := item.Value.(string)
		if !isString {
			return nil, false
		}
		names = append(names, decodeQuery(name))
	}
	slices.Sort(names)
	return slices.Compact(names), true
}

// IsDefault reports that queries are compared as they are written.
func (v SearchVariance) IsDefault() bool { return !v.custom }

// Equal reports whether both say the same of every query.
func (v SearchVariance) Equal(o SearchVariance) bool {
	return v.custom == o.custom && v.ignoreOrder == o.ignoreOrder && v.allBut == o.allBut && slices.Equal(v.names, o.names)
}

// Size is how many bytes the names take.
func (v SearchVariance) Size() (size int) {
	for _, name := range v.names {
		size += len(name) + int(unsafe.Sizeof(name))
	}
	return size
}

// maxParameters is how many parameters a query may have that is compared otherwise than as it is
// written. Origins read no more than a number of their own, PHP and Node a thousand, and leave out
// the rest without a word: `id=5` behind a thousand others is not read, and would be all that
// counts. What is compared is also sorted, for which each request pays.
const maxParameters = 100

// Normalize returns a form of a raw query that is equal for two queries only if they are equivalent
// under v (section 6): without the parameters that have no effect and, if their order has none,
// sorted by name, equal names keeping theirs. Equivalent queries have one form, except for those of
// more than 100 parameters: such a query is its own form, and no other query's. Under the default
// it is the raw query.
func (v SearchVariance) Normalize(rawQuery string) string {
	// A form has fewer ampersands.
	if !v.custom || strings.Count(rawQuery, "&") >= maxParameters {
		return rawQuery
	}
	type pair struct{ name, value string }
	var pairs []pair
	for part := range strings.SplitSeq(rawQuery, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		p := pair{decodeQuery(name), decodeQuery(value)}
		if _, named := slices.BinarySearch(v.names, p.name); named == v.allBut {
			pairs = append(pairs, p)
		}
	}
	if v.ignoreOrder {
		slices.SortStableFunc(pairs, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	}
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.name))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(p.value))
	}
	return b.String()
}

// decodeQuery decodes one name or value of application/x-www-form-urlencoded. A percent sign that
// begins no escape stands for itself.
func decodeQuery(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
