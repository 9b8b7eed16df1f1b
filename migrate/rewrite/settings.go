package rewrite

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// settings are what the options of a cache say together. An empty text is an option that is not
// there.
type settings struct {
	ttl, stale     string // durations, as they are written
	assumedTTL     bool   // ttl is cache-handler's default, and in no line of the file
	defaultControl string // the Cache-Control of responses without one
	mode           string
	exclude        arg
	maxBody        uint64
	verbs          []string
	statuses       []string
	headers        []string // header fields that are in the key
	key            keySettings
	pathKeys       keySettings // of cache_keys
	noCoalescing   bool
}

// keySettings are what `key` says, or all of cache_keys.
type keySettings struct {
	given     bool
	headers   []string
	templates []arg
	sortQuery bool
	noBody    bool // disable_body
	noVary    bool
}

// keyed are the header fields that are in the key of what a larder stores. A field may be there
// twice.
func (s settings) keyed() []string {
	return slices.Concat(s.headers, s.key.headers, s.pathKeys.headers)
}

// keysAuthorization reports whether an answer is stored for each credential, by ttl too.
func (s settings) keysAuthorization() bool {
	return slices.ContainsFunc(s.keyed(), func(name string) bool { return strings.EqualFold(name, "Authorization") })
}

// storeOptions are the storages of cache-handler.
var storeOptions = []string{"badger", "etcd", "nats", "nuts", "olric", "otter", "redis", "simplefs"}

// read makes settings of options, and says of each that has no counterpart what to do.
func (b *block) read(list []option) (s settings) {
	for _, o := range list {
		b.missSurplus(o)
		switch o.name {
		case "ttl":
			b.readDuration(o, &s.ttl)
		case "stale":
			b.readDuration(o, &s.stale)
		case "default_cache_control":
			s.defaultControl = joined(o.args)
		case "mode":
			b.readMode(o, &s)
		case "max_cacheable_body_bytes":
			b.readMaxBody(o, &s)
		case "allowed_http_verbs":
			b.readVerbs(o, &s)
		case "allowed_additional_status_codes":
			b.readStatuses(o, &s)
		case "regex":
			b.readRegex(o, &s)
		case "headers":
			b.readHeaders(o, &s.headers)
		case "key":
			s.key = keySettings{given: true}
			b.readKey(o, &s.key)
		case "cache_keys":
			for _, rule := range o.subs {
				b.readPathKey(rule, &s.pathKeys)
			}
		case "disable_coalescing":
			s.noCoalescing = true
		default:
			b.readOther(o)
		}
	}
	return s
}

// inherited are the options that sites have from the global one.
var inherited = []string{
	"ttl", "stale", "default_cache_control", "mode", "max_cacheable_body_bytes", "allowed_http_verbs",
	"allowed_additional_status_codes", "regex", "headers", "key", "cache_keys", "disable_coalescing",
}

// missInherited says of each option that sites inherit that no site of this file has it. Without
// them the sites of other files would store more, and under a coarser key.
func (b *block) missInherited(list []option, s settings, line int) {
	if b.nothingInherits() {
		for _, o := range list {
			if slices.Contains(inherited, o.name) {
				b.note(o.line, "%s: no site has a cache that would inherit it, so it is left out", o.whole())
			}
		}
		return
	}
	const why = "no site of this file has a cache. Migrate the files that it imports with --global and the old text of this file; that writes the option into each larder there"
	for _, o := range list {
		if slices.Contains(inherited, o.name) {
			b.missText(o.line, o.whole(), why)
		}
	}
	if s.ttl == "" {
		b.missText(line, "ttl 120s, which cache-handler has beside a global cache", why)
	}
}

// nothingInherits reports whether no site is left that would inherit options of this file, which
// has no site with a cache. A file without sites may be one that others import.
func (b *block) nothingInherits() bool {
	if len(b.importedFiles()) > 0 {
		return b.importsMigrated()
	}
	return len(b.sites) > 0
}

// importsMigrated reports whether it is known that no file that this one imports has a `cache`.
func (r *rewriter) importsMigrated() bool {
	return r.around.Migrated != nil && r.around.Migrated(r.importedFiles())
}

// missSurplus says of words that cache-handler passes over that they are left out.
func (b *block) missSurplus(o option) {
	switch o.name {
	case "ttl", "stale", "mode", "max_cacheable_body_bytes":
		for _, a := range o.args[min(1, len(o.args)):] {
			b.missText(o.line, o.name+" "+oneLine(a.raw), "it takes one argument")
		}
	case "default_cache_control", "allowed_http_verbs", "allowed_additional_status_codes", "headers":
	case "disable_coalescing":
		for _, a := range o.args {
			b.missText(o.line, o.name+" "+oneLine(a.raw), "it takes no argument")
		}
	default:
		return
	}
	b.missSubs(o, o.name, "it takes no block")
}

func joined(args []arg) string {
	texts := make([]string, len(args))
	for i, a := range args {
		texts[i] = a.text
	}
	return strings.Join(texts, " ")
}

// placeholder reports whether a text becomes another one when the file is read.
func placeholder(text string) bool { return strings.Contains(text, "{") }

// readDuration takes what cache-handler reads as a duration: no days. What it does not read it
// passes over without a word.
func (b *block) readDuration(o option, field *string) {
	text := o.text()
	if placeholder(text) && len(o.args) == 1 {
		b.note(o.line, "%s: what the placeholder becomes was not looked at", o.title())
		*field = o.args[0].raw
		return
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil || d < 0:
		b.miss(o, "cache-handler does not read this as a duration and goes by its default; write what was meant into larder")
	case d > 0:
		*field = text
	}
}

func (b *block) readMode(o option, s *settings) {
	switch o.text() {
	case "strict":
	case "bypass", "bypass_request", "bypass_response":
		s.mode = o.text()
	default:
		b.miss(o, "cache-handler knows no such mode")
	}
}

func (b *block) readMaxBody(o option, s *settings) {
	n, err := strconv.ParseUint(o.text(), 10, 62)
	if err != nil {
		b.miss(o, "it is no number of bytes; write max_body with a size such as 1MiB")
		return
	}
	s.maxBody = n
}

func (b *block) readVerbs(o option, s *settings) {
	for _, a := range o.args {
		switch verb := strings.ToUpper(a.text); verb {
		case "GET", "HEAD", "POST", "QUERY":
			if !slices.Contains(s.verbs, verb) {
				s.verbs = append(s.verbs, verb)
			}
		default:
			b.missText(o.line, "allowed_http_verbs "+oneLine(a.raw), "Larder stores answers to GET, HEAD, QUERY and POST")
		}
	}
}

func (b *block) readStatuses(o option, s *settings) {
	for _, a := range o.args {
		code, err := strconv.Atoi(a.text)
		switch text := strconv.Itoa(code); {
		case err != nil || code < 200 || code > 599 || code == 206 || code == 304:
			b.missText(o.line, "allowed_additional_status_codes "+oneLine(a.raw), "no response is stored under it")
		case !slices.Contains(s.statuses, text):
			s.statuses = append(s.statuses, text)
		}
	}
}

func (b *block) readRegex(o option, s *settings) {
	for _, sub := range o.subs {
		if sub.name == "exclude" && len(sub.args) == 1 && sub.text() != "" {
			s.exclude = sub.args[0]
			continue
		}
		b.missText(sub.line, "regex "+sub.title(), "write a matcher")
	}
}

// readHeaders takes header fields for the key.
func (b *block) readHeaders(o option, list *[]string) {
	for _, a := range o.args {
		if !httpguts.ValidHeaderFieldName(a.text) {
			b.missText(o.line, o.name+" "+oneLine(a.raw), "it is no name of a header field; write it as `header …` into `key`")
			continue
		}
		if strings.EqualFold(a.text, "Authorization") {
			b.note(o.line, "%s %s: becomes `header …` in `key`; an answer is stored for each credential, also by ttl, and only who shows the same one gets it", o.name, a.text)
		}
		if !slices.ContainsFunc(*list, func(h string) bool { return strings.EqualFold(h, a.text) }) {
			*list = append(*list, a.text)
		}
	}
}

// readKey takes what adds to the key. A key never becomes coarser than it was: what left parts out
// of it has no counterpart.
func (b *block) readKey(o option, k *keySettings) {
	for _, sub := range o.subs {
		title := "key " + sub.title()
		switch sub.name {
		case "headers":
			b.readHeaders(sub, &k.headers)
		case "template":
			b.readTemplate(sub, k, "key")
		case "sort_query":
			k.sortQuery = true
		case "disable_body":
			k.noBody = true
		case "disable_vary":
			k.noVary = true
			b.note(sub.line, "%s: becomes `ignore Vary`, so a client may get what was made for another one", title)
		case "hash", "hide": // a key is a hash, and only `status full` shows it
		default:
			b.missKey(sub, title)
		}
	}
}

// readPathKey takes a rule of cache_keys. What it adds for some paths is in the key of all, which
// is finer; what makes the key coarser for some would do so for all.
func (b *block) readPathKey(rule option, k *keySettings) {
	within := "cache_keys " + oneLine(rule.name)
	for _, sub := range rule.subs {
		title := within + " " + sub.title()
		switch sub.name {
		case "headers":
			b.readHeaders(sub, &k.headers)
			b.note(sub.line, "%s: is in the key of all paths; where it should be in that of these alone, write two larder with matchers", title)
		case "template":
			b.readTemplate(sub, k, within)
			b.note(sub.line, "%s: is in the key of all paths; where it should be in that of these alone, write two larder with matchers", title)
		case "hash", "hide":
		default:
			b.missKey(sub, title)
		}
	}
}

// missKey says why an option of a key is not taken.
func (b *block) missKey(sub option, title string) {
	switch sub.name {
	case "disable_query":
		b.missText(sub.line, title, "the query stays in the key. `query only <name>…` in `key` leaves parameters out, of what the origin is asked too")
	case "disable_host", "disable_scheme", "disable_method":
		b.missText(sub.line, title, "host, scheme and method are always in the key")
	case "disable_body", "disable_vary", "sort_query":
		b.missText(sub.line, title, "it would hold for all paths; write two larder with matchers")
	default:
		b.missText(sub.line, title, "migrate does not know it")
	}
}

func (b *block) readTemplate(sub option, k *keySettings, within string) {
	if len(sub.args) != 1 || sub.text() == "" {
		b.missText(sub.line, within+" "+sub.title(), "it is no template")
		return
	}
	if !slices.ContainsFunc(k.templates, func(a arg) bool { return a.text == sub.text() }) {
		k.templates = append(k.templates, sub.args[0])
	}
	b.note(sub.line, "%s template: adds to the key and does not replace it; scheme, host, path and query stay in", within)
}

// inherit fills in what the global option says, as cache-handler does.
func (s settings) inherit(global *settings) settings {
	if global == nil {
		return s
	}
	fill := func(field *string, from string) {
		if *field == "" {
			*field = from
		}
	}
	fill(&s.ttl, global.ttl)
	s.assumedTTL = s.ttl == ""
	fill(&s.ttl, "120s") // cache-handler's default beside a global option
	fill(&s.stale, global.stale)
	fill(&s.defaultControl, global.defaultControl)
	fill(&s.mode, global.mode)
	if s.exclude.text == "" {
		s.exclude = global.exclude
	}
	if s.maxBody == 0 {
		s.maxBody = global.maxBody
	}
	s.verbs = union(s.verbs, global.verbs)
	s.statuses = union(s.statuses, global.statuses)
	if len(s.headers) == 0 {
		s.headers = global.headers
	}
	if !s.key.given {
		s.key = global.key
	}
	s.pathKeys.headers = union(s.pathKeys.headers, global.pathKeys.headers)
	s.pathKeys.templates = append(slices.Clone(s.pathKeys.templates), global.pathKeys.templates...)
	return s
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, text := range b {
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}
