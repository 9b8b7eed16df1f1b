package rewrite

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/internal/advice"
)

// cacheableStatuses are those that cache-handler stores for its ttl.
var cacheableStatuses = []string{"200", "203", "204", "300", "301", "404", "405", "410", "414", "501"}

// writeSettings writes the lines of a larder directive.
func (b *block) writeSettings(s settings, line int) {
	b.writeLifetimes(s, line)
	if s.mode == "bypass" || s.mode == "bypass_request" {
		b.write("client_directives ignore")
	}
	if (s.mode == "bypass" || s.mode == "bypass_request") && !s.keysAuthorization() {
		b.note(line, "mode %s: cache-handler stored answers to requests with Authorization too; Larder does so where the origin says public, must-revalidate or s-maxage", s.mode)
	}
	if s.key.noVary {
		b.write("ignore Vary")
	}
	post := slices.Contains(s.verbs, "POST")
	if post && s.key.noBody {
		post = false
		b.missText(line, "allowed_http_verbs POST with key { disable_body }", "a POST is stored with its body in the key alone")
	}
	b.writeKey(s, post)
	b.writeMethods(s.verbs, post, line)
	if s.maxBody > 0 {
		b.write("max_body " + size(s.maxBody))
	}
	if s.maxBody > largestBody && !b.own && (b.rewriter.global == nil || s.maxBody > b.rewriter.global.maxBody) {
		b.missText(line, "max_cacheable_body_bytes above 64MiB", "write `max_body "+size(s.maxBody)+"` into `larder` of the global options as well, where the bound of all sites stands")
	}
	if s.noCoalescing {
		b.write("coalesce off")
	}
}

// writeLifetimes writes how long responses are fresh, and how long they are used when they are not.
func (b *block) writeLifetimes(s settings, line int) {
	word, ttl, revalidate := "ttl", s.ttl, ""
	switch {
	case s.mode == "bypass" || s.mode == "bypass_response":
		word = "force_ttl"
		b.note(line, "mode %s: Larder still stores nothing that the origin calls no-store or private; `ignore Cache-Control` has it do so", s.mode)
	case s.defaultControl != "":
		ttl, revalidate = b.lifetimeOf(s, line)
	}
	if ttl != "" {
		without := "a request with Authorization, or with a cookie that is not in the key"
		if s.keysAuthorization() {
			without = "a request with a cookie that is not in the key"
		}
		b.note(line, "%s: does not apply to %s; %s", word, without, advice.Cookies())
		b.note(line, "Set-Cookie: cache-handler stores responses with it; Larder does not, unless `set_cookie strip` or `set_cookie store` says so")
		b.write(strings.Join(append([]string{word, ttl}, union(cacheableStatuses, s.statuses)...), " "))
	} else if len(s.statuses) > 0 {
		b.note(line, "allowed_additional_status_codes %s: what the origin gives a lifetime is stored with any of them", strings.Join(s.statuses, " "))
	}
	switch {
	case revalidate != "":
		b.write("stale_while_revalidate " + revalidate)
	case s.stale == "":
	case s.mode != "":
		b.write("stale_while_revalidate " + s.stale)
		b.note(line, "stale %s: in mode %s cache-handler answers every client with a stale response for so long, and does not ask the origin; Larder renews it meanwhile", s.stale, s.mode)
	default:
		b.note(line, "stale %s: cache-handler uses a stale response when the origin fails or a client asks for one; `stale_while_revalidate %s` would use it while a new one is fetched too", s.stale, s.stale)
	}
	if s.stale != "" {
		b.write("stale_if_error " + s.stale)
	}
}

// lifetimeOf reads default_cache_control, which cache-handler puts into responses without
// Cache-Control before it looks at them.
func (b *block) lifetimeOf(s settings, line int) (ttl, revalidate string) {
	ttl = s.ttl
	shared := false
	for part := range strings.SplitSeq(s.defaultControl, ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), "=")
		seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
		switch {
		case name == "no-store" || name == "private" || name == "no-cache":
			b.missTTL(s, "", line)
			return "", ""
		case err != nil:
		case name == "s-maxage":
			ttl, shared = lifetime(seconds), true
		case name == "max-age" && !shared:
			ttl = lifetime(seconds)
		case name == "stale-while-revalidate" && seconds > 0:
			revalidate = fmt.Sprintf("%ds", seconds)
		}
	}
	b.missTTL(s, ttl, line)
	return ttl, revalidate
}

// missTTL says that another lifetime is written in place of ttl, or none. cache-handler has both:
// ttl is for a Cache-Control that states no lifetime.
func (b *block) missTTL(s settings, written string, line int) {
	why := "what has no Cache-Control is not stored, and ttl would have it stored; cache-handler used ttl for a Cache-Control without a lifetime, such as public"
	if written != "" {
		why = "what states no lifetime gets " + written + " from default_cache_control; cache-handler used ttl where there is a Cache-Control without a lifetime, such as public"
	}
	what := "ttl " + s.ttl + " beside default_cache_control " + oneLine(s.defaultControl)
	switch {
	case s.ttl == "" || sameDuration(s.ttl, written):
	case s.assumedTTL:
		b.note(line, "%s: %s", what, why)
	default:
		b.missText(line, what, why)
	}
}

func sameDuration(a, b string) bool {
	x, errX := time.ParseDuration(a)
	y, errY := time.ParseDuration(b)
	return a == b || errX == nil && errY == nil && x == y
}

func lifetime(seconds uint64) string {
	if seconds == 0 {
		return ""
	}
	return fmt.Sprintf("%ds", seconds)
}

func (b *block) writeKey(s settings, post bool) {
	var lines []string
	if s.key.sortQuery {
		lines = append(lines, "query sort")
	}
	var headers []string
	for _, name := range s.keyed() {
		if !slices.ContainsFunc(headers, func(h string) bool { return strings.EqualFold(h, name) }) {
			headers = append(headers, name)
		}
	}
	if len(headers) > 0 {
		lines = append(lines, "header "+strings.Join(quoted(headers), " "))
	}
	var added []string
	for _, t := range append(slices.Clone(s.key.templates), s.pathKeys.templates...) {
		if !slices.Contains(added, t.raw) {
			added = append(added, t.raw)
		}
	}
	if len(added) > 0 {
		lines = append(lines, "add "+strings.Join(added, " "))
	}
	if post {
		lines = append(lines, "body")
	}
	if len(lines) == 0 {
		return
	}
	b.write("key {")
	for _, l := range lines {
		b.write("\t" + l)
	}
	b.write("}")
}

func (b *block) writeMethods(verbs []string, post bool, line int) {
	if len(verbs) > 0 && !slices.Contains(verbs, "GET") {
		b.missText(line, "allowed_http_verbs without GET", "GET and HEAD are always cached; narrow larder with a matcher")
	}
	methods := []string{"GET", "HEAD"}
	if slices.Contains(verbs, "QUERY") {
		methods = append(methods, "QUERY")
	}
	if post {
		methods = append(methods, "POST")
		b.note(line, "allowed_http_verbs POST: ttl does not apply to POST, unless `safe_post` says that the POSTs which come here change nothing")
	}
	if len(methods) > 2 {
		b.write("methods " + strings.Join(methods, " "))
	}
}

// size writes a number of bytes as Larder reads it.
func size(n uint64) string {
	for _, unit := range []struct {
		bytes uint64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n%unit.bytes == 0 {
			return strconv.FormatUint(n/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatUint(n, 10) + "B"
}

func quoted(texts []string) []string {
	list := make([]string, len(texts))
	for i, text := range texts {
		list[i] = quote(text)
	}
	return list
}

// plainText needs no quotes.
var plainText = regexp.MustCompile(`^[A-Za-z0-9_.*/:=,-]+$`)

// quote writes a text as one token.
func quote(text string) string {
	switch {
	case plainText.MatchString(text):
		return text
	case !strings.Contains(text, "`"):
		return "`" + text + "`"
	default:
		return `"` + strings.ReplaceAll(text, `"`, `\"`) + `"`
	}
}
