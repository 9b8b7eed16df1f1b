package caddyfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http/httpguts"

	"github.com/larder-cache/larder/rfc9111"
)

// Check returns an error that names the field if the configuration says something that cannot be
// meant or contradicts itself. A Caddyfile has passed it when it is adapted; JSON has not.
func (c *HandlerConfig) Check() error {
	return firstError(c.checkLines(), c.checkWhole())
}

// checkLines finds what no further line can put right. The parser calls it after every line, which
// gives its errors their position.
func (c *HandlerConfig) checkLines() error {
	return firstError(
		c.TTL.check("ttl"),
		c.ForceTTL.check("force_ttl"),
		checkWindow("max_ttl", c.MaxTTL),
		c.checkIgnore(),
		checkChoice("client_directives", c.ClientDirectives, clientDirectivesObey, clientDirectivesIgnore),
		checkWindow("stale_while_revalidate", c.StaleWhileRevalidate),
		c.StaleIfError.check(),
		checkKeep(c.Keep),
		c.checkRefreshEarly(),
		c.checkSlice(),
		c.Key.check(),
		c.checkMethods(),
		c.Tags.check(),
		c.checkInvalidate(),
		checkChoice("set_cookie", c.SetCookie, setCookieRefuse, setCookieStrip, setCookieStore),
		checkBudget("max_body", c.MaxBody, 1),
		c.checkMaxVariants(),
		c.Coalesce.check(),
		c.checkTargeted(),
		checkChoice("status", c.Status, statusShort, statusFull, statusOff),
		c.Origin.check(),
		c.Repeats.check(),
		c.PurgeMethod.check(),
		checkBatches(c.Batch),
	)
}

// checkWhole finds what is wrong only if nothing more follows.
func (c *HandlerConfig) checkWhole() error {
	if len(c.Methods) > 0 && !slices.Contains(c.Methods, http.MethodGet) {
		return errors.New("methods: GET is missing; write methods GET HEAD and those to add, and narrow the directive with a matcher")
	}
	if slices.Contains(c.Methods, http.MethodPost) && (c.Key == nil || !c.Key.Body && !c.Key.JSON && !c.Key.GraphQL) {
		return errors.New("methods: POST needs its body in the key, or every form would get the answer to the first; write body, json or graphql into key, on a line of its own")
	}
	if c.SafePost && !slices.Contains(c.Methods, http.MethodPost) {
		return errors.New("safe_post: methods lacks POST, so no POST is cached; write methods GET HEAD POST, or leave safe_post out")
	}
	if len(c.Batch) > 0 && c.Coalesce != nil && c.Coalesce.Off {
		return errors.New("batch has requests wait for others, and coalesce off has them wait for none; keep one of the two")
	}
	for _, rule := range c.Invalidate {
		if err := rule.checkNotEmpty(); err != nil {
			return err
		}
	}
	return firstError(c.Origin.checkWhole(), c.PurgeMethod.checkWhole())
}

// check looks at each rule, and that no status has two rules of equal rank.
func (rules TTLRules) check(field string) error {
	seen := make(map[StatusMatch]bool)
	general := false
	for _, rule := range rules {
		if rule.Duration <= 0 {
			return fmt.Errorf("%s: a duration is not more than zero; write a longer one, or leave the rule out", field)
		}
		if len(rule.Status) == 0 {
			if general {
				return fmt.Errorf("%s: two rules without a status; write one, or name statuses behind the duration", field)
			}
			general = true
		}
		for _, status := range rule.Status {
			if err := status.check(); err != nil {
				return fmt.Errorf("%s: %w", field, err)
			}
			if seen[status] {
				return fmt.Errorf("%s: status %s stands twice; give it one duration", field, status)
			}
			seen[status] = true
		}
	}
	return nil
}

// overlookable are the response headers that ignore may name.
var overlookable = []string{"Cache-Control", "Expires", "Set-Cookie", "Vary", "Pragma"}

func (c *HandlerConfig) checkIgnore() error {
	if err := checkHeaders("ignore", c.Ignore); err != nil {
		return err
	}
	names := canonical(c.Ignore)
	for i, name := range names {
		if !slices.Contains(overlookable, name) {
			return errNoChoice(name, fmt.Sprintf("ignore: %s cannot be ignored", c.Ignore[i]), "any of "+strings.Join(overlookable, " "), overlookable...)
		}
	}
	if c.SetCookie == setCookieStore && slices.Contains(names, "Set-Cookie") {
		return errors.New("ignore: Set-Cookie is stored without, but set_cookie says store; keep one of the two")
	}
	return nil
}

func (k *KeyConfig) check() error {
	if k == nil {
		return nil
	}
	return firstError(
		k.Query.check(),
		checkHeaders("key header", k.Header),
		checkList("key cookie", k.Cookie, func(cookie string) error {
			if !httpguts.ValidHeaderFieldName(cookie) { // RFC 6265, section 4.1.1: a token as well
				return fmt.Errorf("%q is not a cookie name; write one such as session", cookie)
			}
			return checkExact(cookie)
		}),
		checkList("key add", k.Add, nil),
		k.checkBody(),
	)
}

func (k *KeyConfig) checkBody() error {
	switch {
	case k.JSON && k.GraphQL:
		return errors.New("key: both json and graphql; keep one, graphql reads JSON already")
	case k.Body && (k.JSON || k.GraphQL):
		return errors.New("key: body, and json or graphql as well; leave body out, they have the body in the key")
	}
	return nil
}

func (q *QueryConfig) check() error {
	if q == nil {
		return nil
	}
	if len(q.Ignore) > 0 && len(q.Only) > 0 {
		return errors.New("key query: both ignore and only; keep one, only leaves out all others already")
	}
	pattern := func(p string) error {
		if isRegexp(p) {
			return fmt.Errorf("%q is a regular expression; write names, with * for any run of characters, such as utm_*", p)
		}
		if strings.ContainsAny(p, "&=?#,") {
			return fmt.Errorf("%q is not a parameter name; write names or patterns such as utm_*, with spaces between", p)
		}
		return nil
	}
	return firstError(
		checkList("key query ignore", q.Ignore, pattern),
		checkList("key query only", q.Only, pattern),
	)
}

func (c *HandlerConfig) checkMethods() error {
	known := []string{http.MethodGet, http.MethodHead, "QUERY", http.MethodPost}
	return checkList("methods", c.Methods, func(method string) error {
		if !slices.Contains(known, method) {
			return errNoChoice(method, fmt.Sprintf("%q cannot be cached", method), "any of "+strings.Join(known, " "), known...)
		}
		return nil
	})
}

func (t *TagsConfig) check() error {
	if t == nil {
		return nil
	}
	return firstError(
		checkHeaders("tags from", t.From),
		checkList("tags add", t.Add, checkTagText),
	)
}

func (c *HandlerConfig) checkInvalidate() error {
	seen := make(map[string]bool)
	for _, rule := range c.Invalidate {
		if err := rule.checkTargets(); err != nil {
			return err
		}
		requests, err := json.Marshal(rule.MatcherSetsRaw)
		if err != nil {
			return fmt.Errorf("invalidate: match: %w", err)
		}
		rank := fmt.Sprintf("%s %t", requests, rule.Soft)
		if seen[rank] {
			return errors.New("invalidate: two rules with the same matcher; write one with the tags and urls of both")
		}
		seen[rank] = true
	}
	return nil
}

// checkTargets looks at what a rule names, not at whether it names anything.
func (r *InvalidateRule) checkTargets() error {
	return firstError(
		checkList("invalidate tags", r.Tags, checkTagText),
		checkList("invalidate urls", r.URLs, func(path string) error {
			if path[0] != '/' && path[0] != '{' {
				return fmt.Errorf("%q is not a path; write one that begins with / (or with a placeholder)", path)
			}
			return nil
		}),
	)
}

func (r *InvalidateRule) checkNotEmpty() error {
	if len(r.Tags) == 0 && len(r.URLs) == 0 {
		return errors.New("invalidate: a rule names nothing; add tags or urls to it")
	}
	return nil
}

// maxBeta is the largest beta of refresh_early. At 10 what is asked for ten times within a fetch is
// renewed some fifty fetches before its end.
const maxBeta = 10

func (c *HandlerConfig) checkRefreshEarly() error {
	if !(c.RefreshEarly >= 0 && c.RefreshEarly <= maxBeta) { // NaN is neither
		return fmt.Errorf("refresh_early: %v is not between 0, which is off, and %d; write 1, which suits most sites", c.RefreshEarly, maxBeta)
	}
	return nil
}

// minSlice keeps what is looked up, fetched and written for a slice small beside its bytes.
const minSlice = 64 << 10

func (c *HandlerConfig) checkSlice() error {
	if c.Slice != nil && *c.Slice != 0 && *c.Slice < minSlice {
		return fmt.Errorf("slice: %d bytes are fewer than 64KiB; write 64KiB or more, such as 4MiB, or off", *c.Slice)
	}
	return nil
}

func (c *HandlerConfig) checkMaxVariants() error {
	if c.MaxVariants < 0 {
		return fmt.Errorf("max_variants: %d is negative; write a whole number from 1 up", c.MaxVariants)
	}
	return nil
}

func (c *CoalesceConfig) check() error {
	if c == nil {
		return nil
	}
	if c.Off && c.Wait != 0 {
		return errors.New("coalesce: it is off and has a wait; keep one of the two")
	}
	return checkWindow("coalesce wait", c.Wait)
}

func (c *HandlerConfig) checkTargeted() error {
	if err := checkHeaders("targeted", c.Targeted); err != nil {
		return err
	}
	if slices.Contains(canonical(c.Targeted), "Cache-Control") {
		return errors.New("targeted: Cache-Control is what targeted fields stand in for; it is obeyed anyway, so leave it out")
	}
	return nil
}

// What follows are checks that several fields share. All accept the zero value, which stands for
// the default.

func checkWindow(field string, d caddy.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s: the duration is negative; write a positive one such as 5m", field)
	}
	return nil
}

func checkChoice(field, value string, choices ...string) error {
	if value != "" && !slices.Contains(choices, value) {
		return errNoChoice(value, fmt.Sprintf("%s: unknown value %q", field, value), "one of "+strings.Join(choices, " "), choices...)
	}
	return nil
}

// checkList refuses empty and repeated elements and asks element about the others; a nil element
// accepts all.
func checkList(field string, list []string, element func(string) error) error {
	seen := make(map[string]bool, len(list))
	for _, text := range list {
		if text == "" {
			return fmt.Errorf("%s: an element is empty; write a text or leave it out", field)
		}
		if element != nil {
			if err := element(text); err != nil {
				return fmt.Errorf("%s: %w", field, err)
			}
		}
		if seen[text] {
			return fmt.Errorf("%s: %s stands twice; write it once", field, text)
		}
		seen[text] = true
	}
	return nil
}

// checkHeaders is checkList for header names, which are the same in any case.
func checkHeaders(field string, names []string) error {
	return checkList(field, canonical(names), func(name string) error {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("%q is not a header name; write one such as X-Example", name)
		}
		return checkExact(name)
	})
}

// isRegexp reports whether a text is a regular expression for certain. What is left of them may be
// a name: see likeRegexp.
func isRegexp(text string) bool {
	return strings.HasPrefix(text, "^") || len(text) > 1 && strings.HasSuffix(text, "$") || strings.ContainsAny(text, `\()|`)
}

// checkExact refuses a pattern where names are compared exactly. Its characters may stand in names,
// and no name in use has them.
func checkExact(name string) error {
	if strings.Contains(name, "*") || isRegexp(name) {
		return fmt.Errorf("%q is a pattern, and names are compared exactly here; write each name out", name)
	}
	return nil
}

// checkTagText looks at a tag as it is written. The length of one with a placeholder is not
// checked, because it is known only when the placeholder is expanded.
func checkTagText(tag string) error {
	if strings.ContainsFunc(tag, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%q is not a tag; write visible ASCII without white space", tag)
	}
	if len(tag) > rfc9111.MaxTagBytes && !strings.Contains(tag, "{") {
		return fmt.Errorf("a tag of %d bytes is too long; write at most %d", len(tag), rfc9111.MaxTagBytes)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
