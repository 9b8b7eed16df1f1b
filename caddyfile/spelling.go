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

// foreignWords are words of other caches, and what is meant by them here. Letters that are alike
// would lead elsewhere.
var foreignWords = map[string]string{
	"grace":     "stale_if_error, and stale_while_revalidate where the origin answers",
	"use_stale": "stale_if_error, and stale_while_revalidate where the origin answers",

	"exclude": aMatcher, "bypass": aMatcher, "no_cache": aMatcher, "nocache": aMatcher, "skip": aMatcher,
	"except": aMatcher, "path": aMatcher, "paths": aMatcher, "match": aMatcher, "regex": aMatcher,

	"valid": aLifetime, "default_ttl": aLifetime, "max_age": aLifetime, "s_maxage": aLifetime, "expires": aLifetime,
	"expire": aLifetime, "default_cache_control": aLifetime,

	"allowed_http_verbs": "methods",
	"lock":               "what is so by default: requests for the same wait for one fetch, see coalesce",
	"storers":            "memory, disk and shared, of the global option",
	"badger":             "disk, of the global option",
	"nuts":               "disk, of the global option",
	"otter":              "memory, of the global option",
	"redis":              "shared, of the global option",
	"cache_name":         "nothing: in Cache-Status the cache is called Larder",
}

const (
	aMatcher  = "a matcher: `@cached not path /admin/*`, and `larder @cached`"
	aLifetime = "ttl, such as ttl 10m"
)
