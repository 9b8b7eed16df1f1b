package purge

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/larder-cache/larder/adminapi"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/urlform"
)

// What a PURGE names stands in its fields, else in its URL. The senders' words are of three kinds:
//
//   - tags, one by one, or as a regular expression that software makes of tags. It is read where it
//     is known what it was made of, and taken for these tags and no others;
//   - a URL, or the beginning of one: /blog/*, and /blog/.* where a field says that it is a regular
//     expression;
//   - everything that the sender's site has stored.
//
// What has one of these words and cannot be read is an error. A PURGE that was taken for less than
// it says would leave old pages, and the sender would not know.

// The fields that say how a PURGE is meant.
var manners = []string{"Purge-Method", "X-Purge-Method"}

// The fields that carry tags, whatever the configuration says. Those of a pattern have tags between
// bars, those of xkey's have the manner in their name.
const (
	hardField       = "Xkey-Purge"
	softField       = "Xkey-Softpurge"
	tagPattern      = "X-Cache-Tags-Pattern"   // a|b
	magentoPattern  = "X-Magento-Tags-Pattern" // ((^|,)a(,|$))|((^|,)b(,|$)), or .* for everything
	magentoEach     = ".*"
	magentoTagBegin = "((^|,)"
	magentoTagEnd   = "(,|$))"
)

// everythingFields mean everything of the sender's site, unless their value is 0 or false.
var everythingFields = []string{"Clear-Cache", "Varnish-Ban-All", "X-Varnish-Purge-All"}

// unread are fields that say what is meant, and that Larder does not read, with what to do instead.
// One that the configuration has among those with tags is read.
var unread = [...]struct{ field, instead string }{
	{"Xkey", behindTags},
	{"Surrogate-Key", behindTags},
	{"Cache-Tag", behindTags},
	{"Cache-Tags", behindTags},
	{"X-Cache-Tags", behindTags},
	{"Purge-Cache-Tags", behindTags},
	{"X-Magento-Tags", behindTags},
	{"Varnish-Ban-TYPO3-Pid", behindTags + ", and TYPO3-Pid behind `from` in tags"},
	{"Varnish-Ban-TYPO3-Tag", behindTags},
	{"ApiPlatform-Ban-Regex", "it is a regular expression; use API Platform's xkey purger"},
	{"X-Ban-Regex", "it is a regular expression; send tags, or PURGE the URL"},
	{"X-Ban-Url", "PURGE the URL"},
	{"X-Url", "PURGE the URL"},
}

const behindTags = "write it behind `tags` in purge_method"

// manner is how a PURGE is meant.
type manner struct{ soft, regex, tags bool }

// selectors returns what the request names. An error is a sentence that says what to send.
func (m *Method) selectors(call *Call) (s Selectors, err error) {
	h := call.Header
	if call.ContentLength != 0 || len(call.TransferEncoding) > 0 { // HTTP/2 may tell no length
		return s, errors.New("a PURGE has no body; send the tags in a field, or the URL alone")
	}
	if err := m.checkUnread(h); err != nil {
		return s, err
	}
	how, err := mannerOf(h)
	if err != nil {
		return s, err
	}
	s.Soft = how.soft
	if isEverything(h) {
		s.Tags, err = m.everything()
		return s, err
	}
	s.Tags, err = m.tags(h)
	switch {
	case err != nil:
		return Selectors{}, err
	case len(s.Tags) > 0 && how.regex:
		return Selectors{}, errors.New("tags are not compared with regular expressions; send them without Purge-Method: regex")
	case len(s.Tags) > 0:
		return s, nil
	case how.tags:
		return Selectors{}, errors.New("Purge-Method is tags, and no field has one; send them in one of " + strings.Join(m.Fields, ", "))
	}
	s.URLs, s.Prefixes, err = urlsOf(call, how.regex)
	return s, err
}

// checkUnread refuses what would be taken for a PURGE of its URL, and means something else.
func (m *Method) checkUnread(h http.Header) error {
	for _, u := range unread {
		field := http.CanonicalHeaderKey(u.field)
		if len(h[field]) > 0 && !slices.Contains(m.Fields, field) {
			return fmt.Errorf("%s is not read: %s", u.field, u.instead)
		}
	}
	return nil
}

// mannerOf reads the fields that say how the PURGE is meant. default and exact are what it means
// without them.
func mannerOf(h http.Header) (how manner, err error) {
	for _, field := range manners {
		for _, line := range h[field] {
			switch rfc9111.ToLower(rfc9111.TrimOWS(line)) {
			case "", "default", "exact", "hard", "purge":
			case "soft":
				how.soft = true
			case "regex":
				how.regex = true
			case "tags":
				how.tags = true
			default:
				return manner{}, fmt.Errorf("%s: %s is not known; send soft, or leave the field out", field, adminapi.Quote(line))
			}
		}
	}
	how.soft = how.soft || len(h[softField]) > 0
	return how, nil
}

func isEverything(h http.Header) bool {
	return slices.ContainsFunc(everythingFields, func(field string) bool {
		value := rfc9111.ToLower(strings.Join(h[field], ""))
		return value != "" && value != "0" && value != "false"
	}) || slices.Equal(h[magentoPattern], []string{magentoEach})
}

// everything is what the directive has stored. Which that is only its own tags say: another
// directive may store pages of the same host, and a sender such as Magento names no host of its
// site.
func (m *Method) everything() ([]string, error) {
	if len(m.Own) == 0 {
		return nil, errors.New("it asks for everything, which Larder knows by a tag; write one without placeholders into `tags` of the directive: `add shop`")
	}
	return slices.Clone(m.Own), nil
}

// tags returns the tags in the request's fields, each once. It returns none without an error only
// where no such field stands.
func (m *Method) tags(h http.Header) (tags []string, err error) {
	known := make(map[string]bool)
	var named []string
	for _, field := range slices.Concat(m.Fields, []string{hardField, softField, tagPattern, magentoPattern}) {
		if len(h[field]) == 0 {
			continue
		}
		named = append(named, field)
		for _, line := range h[field] {
			split, err := splitTags(field, line)
			if err != nil {
				return nil, err
			}
			for _, tag := range split {
				if _, err := adminapi.Tag(tag); err != nil {
					return nil, fmt.Errorf("%s: %w", field, err)
				}
				if !known[tag] {
					known[tag] = true
					tags = append(tags, tag)
				}
			}
		}
	}
	switch {
	case len(named) > 0 && len(tags) == 0:
		return nil, fmt.Errorf("%s has no tag; send one, or PURGE the URL without the field", named[0])
	case len(named) > 1 && slices.Contains(named, softField):
		return nil, errors.New("it has xkey-softpurge beside another field with tags; send two requests")
	}
	return tags, nil
}

// ofExpressions stand in regular expressions that software makes of tags, and in no tag.
var ofExpressions = []string{"(^|,)", "(,|$)", "(,.+)?", `($|\,)`, ".*"}

// alternatives are what software writes around tags with bars between, each quoted, to have one of
// them matched in a list with commas: mkvarnish, FOSHttpCache and API Platform.
var alternatives = [...]struct{ begin, end string }{
	{"(", ")(,.+)?$"},
	{"(^|,)(", ")(,|$)"},
	{"(", `)($|\,)`},
}

func splitTags(field, line string) ([]string, error) {
	switch field {
	case magentoPattern:
		return splitMagento(line)
	case tagPattern:
		return splitQuoted(field, line)
	}
	for _, a := range alternatives {
		if inner, begins := strings.CutPrefix(line, a.begin); begins {
			if inner, ends := strings.CutSuffix(inner, a.end); ends {
				return splitQuoted(field, inner)
			}
		}
	}
	for _, part := range ofExpressions {
		if strings.Contains(line, part) {
			return nil, fmt.Errorf("%s: %s is a regular expression; send the tags themselves", field, adminapi.Quote(line))
		}
	}
	return rfc9111.SplitTags(field, line), nil
}

// splitQuoted reads tags with bars between. A backslash quotes what is behind it, as PHP's
// preg_quote writes it.
func splitQuoted(field, line string) (tags []string, err error) {
	var tag []byte
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '|':
			tags, tag = append(tags, string(tag)), nil
		case c == '\\' && i+1 < len(line) && !isAlphanumeric(line[i+1]):
			i++
			tag = append(tag, line[i])
		case strings.IndexByte(special, c) >= 0:
			return nil, fmt.Errorf("%s: %s is a regular expression; send tags with bars between", field, adminapi.Quote(line))
		default:
			tag = append(tag, c)
		}
	}
	if tags = append(tags, string(tag)); slices.Contains(tags, "") {
		return nil, fmt.Errorf("%s: %s names a tag that is empty; send tags with bars between", field, adminapi.Quote(line))
	}
	return tags, nil
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// special are the characters that mean something else in a regular expression, but for the point,
// which is in many tags and URLs that were not quoted.
const special = `\^$*+?()[]{}|`

// splitMagento reads the expression that Magento makes of tags. Each stands between what matches
// the beginning, the end or a comma, so it says nothing but these tags.
func splitMagento(line string) (tags []string, err error) {
	for rest := line; ; rest = rest[1:] {
		tag, begins := strings.CutPrefix(rest, magentoTagBegin)
		tag, after, ends := strings.Cut(tag, magentoTagEnd)
		if !begins || !ends || tag == "" || strings.ContainsAny(tag, special) || after != "" && after[0] != '|' {
			return nil, fmt.Errorf("%s: %s is not what Magento makes of tags; send the tags in xkey", magentoPattern, adminapi.Quote(line))
		}
		tags = append(tags, tag)
		if rest = after; rest == "" {
			return tags, nil
		}
	}
}

// urlsOf returns what the request's URL names, at each of its sites: the URL, or all that begins
// so. An escaped asterisk stands for one in the path too, which as it is would be a wildcard.
func urlsOf(call *Call, regex bool) (urls, prefixes []string, err error) {
	path := urlform.PathAsSent(call.Target)
	named, isPrefix, err := cutWildcard(path, regex)
	switch {
	case len(call.Sites) == 0:
		return nil, nil, errors.New("it asks for no URL that a response can be stored under; send a path, to a host that a URL can have")
	case err != nil:
		return nil, nil, err
	case isPrefix && (call.Target.RawQuery != "" || call.Target.ForceQuery):
		return nil, nil, errors.New("a query stands behind the wildcard; send the path alone")
	}
	for _, site := range call.Sites {
		for _, target := range spelled(call.Target, path) {
			text, err := adminapi.URL(urlform.Absolute(site.Scheme, site.Authority, target))
			if err != nil {
				return nil, nil, err
			}
			if isPrefix {
				prefixes = append(prefixes, strings.TrimSuffix(text, path[len(named):]))
			} else {
				urls = append(urls, text)
			}
		}
	}
	return urls, prefixes, nil
}

var asterisks = strings.NewReplacer("%2A", "*", "%2a", "*")

// spelled are a target with this path, and the one with asterisks in place of escaped ones.
func spelled(target *url.URL, path string) []*url.URL {
	plain := asterisks.Replace(path)
	if plain == path {
		return []*url.URL{target}
	}
	other := *target
	other.RawPath = plain
	return []*url.URL{target, &other}
}

// cutWildcard returns what stands before the wildcard at the end of a path: an asterisk, or in a
// regular expression .* behind what is none.
func cutWildcard(path string, regex bool) (before string, found bool, err error) {
	if regex {
		before, found = strings.CutSuffix(path, ".*")
		if !found || strings.ContainsAny(before, special) {
			return "", false, fmt.Errorf("%s is a regular expression; send a path with .* behind it, or PURGE each URL", adminapi.Quote(path))
		}
		return before, true, nil
	}
	before, found = strings.CutSuffix(path, "*")
	if strings.Contains(before, "*") {
		return "", false, fmt.Errorf("%s has an asterisk within; it stands at the end of a path, for all that begins so. For one that is in the path send %%2A", adminapi.Quote(path))
	}
	return before, found, nil
}
