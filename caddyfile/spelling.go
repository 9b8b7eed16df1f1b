package caddyfile

import (
	"fmt"
	"strings"

	"github.com/larder-cache/larder/internal/spelling"
)

// meant returns a question for a misspelt word: whether one of the block was meant, or else one of
// another block. It is empty where no word is near.
func meant(text string, words []word) string {
	if near := spelling.Nearest(text, namesOf(words)); len(near) > 0 {
		return fmt.Sprintf(" did you mean %s?", strings.Join(near, " or "))
	}
	var others []string
	for _, level := range blocks() {
		for _, b := range level {
			for _, w := range b.words { // further away less is sure
				if difference := len(w.name) - len(text); -1 <= difference && difference <= 1 {
					others = append(others, w.name)
				}
			}
		}
	}
	if near := spelling.Nearest(text, others); len(near) > 0 {
		return fmt.Sprintf(" did you mean %s, in %s?", near[0], strings.Join(placesOf(near[0]), " or "))
	}
	return ""
}

// errNoChoice is the error about a text that is none of choices: its fault, a question where one of
// them is near, and what to write.
func errNoChoice(text, fault, write string, choices ...string) error {
	if near := spelling.Nearest(text, choices); len(near) > 0 {
		return fmt.Errorf("%s; did you mean %s? Write %s", fault, strings.Join(near, " or "), write)
	}
	return fmt.Errorf("%s; write %s", fault, write)
}

// optionWords and directiveWords are what the two blocks are called whose words other caches have,
// too.
const (
	optionWords    = "the global option larder"
	directiveWords = "larder"
)

// foreign returns what a word of another cache is here; empty for another word. nginx has some with
// a prefix for each protocol.
func foreign(text string) string {
	text = strings.ReplaceAll(strings.ToLower(text), "-", "_")
	if ours := foreignWords[text]; ours != "" {
		return ours
	}
	if strings.HasSuffix(text, "_pass") { // not Varnish's pass
		return "a handler behind larder, such as reverse_proxy or php_fastcgi"
	}
	for _, prefix := range []string{"proxy_", "fastcgi_", "uwsgi_", "scgi_"} {
		if rest, found := strings.CutPrefix(text, prefix); found {
			if ours := foreignWords[rest]; ours != "" {
				return ours
			}
			return foreignWords[strings.TrimPrefix(rest, "cache_")]
		}
	}
	return ""
}

// unitApart returns the one word for a number and the unit that stands behind it: 5m for `5 min`
// and for 5minutes. It is empty where there is no such thing.
func unitApart(args []string) string {
	for i, arg := range args {
		number := arg[:len(arg)-len(strings.TrimLeft(arg, "0123456789"))]
		unit := arg[len(number):]
		apart := unit == "" && i+1 < len(args)
		if apart {
			unit = args[i+1]
		}
		short := units[strings.ToLower(unit)]
		if number != "" && short != "" && (apart || len(short) == 1) { // 1GiB in one word is a size
			return number + short
		}
	}
	return ""
}

// units are those of durations and sizes as they are written elsewhere.
var units = map[string]string{
	"sec": "s", "secs": "s", "second": "s", "seconds": "s",
	"min": "m", "mins": "m", "minute": "m", "minutes": "m",
	"hr": "h", "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d",
	"kib": "KiB", "mib": "MiB", "gib": "GiB", "kb": "KB", "mb": "MB", "gb": "GB",
}

// foreignInKey are such words within key.
var foreignInKey = map[string]string{
	"ignore_query": ignoredQuery, "query_ignore": ignoredQuery, "exclude_query": ignoredQuery, "ignore_params": ignoredQuery,
	"sort_query": "query sort", "query_sort": "query sort",
	"only_query": "query only <name>…", "query_only": "query only <name>…",
}

// foreignWords are words of other caches, and what is meant by them here. Letters that are alike
// would lead elsewhere. docs/configuration.md has a table of some.
var foreignWords = map[string]string{
	"grace": aStaleWindow, "use_stale": aStaleWindow, "default_grace": aStaleWindow,
	"background_update": aRefresh, "swr": aRefresh, "sie": "stale_if_error, such as stale_if_error 1d",

	"exclude": aMatcher, "bypass": aMatcher, "no_cache": aMatcher, "nocache": aMatcher, "skip": aMatcher,
	"except": aMatcher, "path": aMatcher, "paths": aMatcher, "match": aMatcher, "regex": aMatcher, "pass": aMatcher,
	"bypass_cache": aMatcher,

	"valid": aLifetime, "default_ttl": aLifetime, "cache_ttl": aLifetime, "max_age": aLifetime, "s_maxage": aLifetime, "expires": aLifetime,
	"expire": aLifetime, "default_cache_control": aLifetime, "edge_ttl": aLifetime + ", or force_ttl over what the origin says",
	"browser_ttl": "a directive of Caddy's, such as `header >Cache-Control \"max-age=600\"`",

	"ignore_query": ignoredQuery + ", in key", "sort_query": "query sort, in key",
	"hash_data": aKey, "cache_key": aKey, "cache_keys": aKey,
	"surrogate_keys": "tags", "surrogate_key": "tags", "cache_tags": "tags", "cache_tag": "tags", "xkey": "tags",

	"keys_zone": aStore, "malloc": aStore, "cache_path": aStore, "max_size": aStore, "storers": "memory, disk and shared, of the global option",
	"badger":   "disk, of the global option",
	"nuts":     "disk, of the global option",
	"simplefs": "disk, of the global option",
	"otter":    "memory, of the global option",
	"redis":    "shared, of the global option",

	"mode":               "client_directives ignore for bypass_request, and force_ttl for bypass_response",
	"api":                "nothing: the API is at Caddy's admin endpoint, and purge_method is for PURGE at the site",
	"allowed_http_verbs": "methods",
	"cache_methods":      "methods",
	"ignore_headers":     "ignore",
	"lock":               "what is so by default: requests for the same wait for one fetch, see coalesce",
	"lock_timeout":       "coalesce wait, such as coalesce wait 5s",
	"lock_age":           "coalesce wait, such as coalesce wait 5s",
	"cache_purge":        "purge_method",
	"cache_revalidate":   "what is so by default: what is stale is validated, and not fetched whole",
	"cache_min_uses":     "nothing: all that may be stored is stored the first time",
	"cache_name":         "nothing: in Cache-Status the cache is called Larder",
}

const (
	aMatcher     = "a matcher: `@cached not path /admin/*`, and `larder @cached`"
	aLifetime    = "ttl, such as ttl 10m"
	aStaleWindow = "stale_if_error, and stale_while_revalidate where the origin answers"
	aRefresh     = "stale_while_revalidate, such as stale_while_revalidate 1h"
	ignoredQuery = "query ignore, such as query ignore utm_*"
	aKey         = "key, a block with lines such as header X-Tenant"
	aStore       = "memory and disk, of the global option"
)
