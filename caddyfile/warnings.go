package caddyfile

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Warning is about something that a configuration says and that can be meant, but seldom is.
type Warning struct {
	Words string // of the Caddyfile, from the outside in, and of the JSON alike: key query ignore
	Value string // the argument that it is about, empty where it is the line
	Text  string // a sentence that says what follows and what to write instead
}

// String has the words in front of the sentence.
func (w Warning) String() string { return w.Words + ": " + w.Text }

// Warnings returns what a user should look at again, in the order of the syntax. The receiver has
// passed Check.
func (c *HandlerConfig) Warnings() []Warning {
	var warnings []Warning
	warnings = append(warnings, c.warnOfLifetimes()...)
	warnings = append(warnings, c.warnOfIgnore()...)
	if c.Key != nil {
		warnings = append(warnings, c.warnOfKey()...)
	}
	if c.Tags != nil {
		warnings = append(warnings, warnOfStars("tags add", c.Tags.Add, "a tag is compared exactly")...)
	}
	for _, rule := range c.Invalidate {
		warnings = append(warnings, warnOfStars("invalidate tags", rule.Tags, "a tag is compared exactly")...)
		warnings = append(warnings, warnOfStars("invalidate urls", rule.URLs, "the one URL that is spelt so is invalidated")...)
	}
	return warnings
}

// warnOfLifetimes finds lifetimes that another word leaves without effect.
func (c *HandlerConfig) warnOfLifetimes() (warnings []Warning) {
	general := func(rule TTLRule) bool { return len(rule.Status) == 0 }
	forced := slices.ContainsFunc(c.ForceTTL, general)
	for _, rule := range c.TTL {
		if general(rule) && forced {
			warnings = append(warnings, Warning{"ttl", time.Duration(rule.Duration).String(), "force_ttl gives the same statuses a lifetime " +
				"whatever the origin says, so this line has no effect; leave one of the two out"})
		}
	}
	return append(append(warnings, c.warnOfCap("ttl", c.TTL)...), c.warnOfCap("force_ttl", c.ForceTTL)...)
}

// warnOfCap finds rules that max_ttl cuts short.
func (c *HandlerConfig) warnOfCap(words string, rules TTLRules) (warnings []Warning) {
	for _, rule := range rules {
		if c.MaxTTL > 0 && rule.Duration > c.MaxTTL {
			warnings = append(warnings, Warning{words, time.Duration(rule.Duration).String(), fmt.Sprintf("max_ttl caps %s at %s; "+
				"write at most that here, or raise max_ttl", time.Duration(rule.Duration), time.Duration(c.MaxTTL))})
		}
	}
	return warnings
}

// warnOfIgnore finds that lifetimes of the origin are ignored, and that there are no others.
func (c *HandlerConfig) warnOfIgnore() []Warning {
	ignored := canonical(c.Ignore)
	if !slices.Contains(ignored, "Cache-Control") || !slices.Contains(ignored, "Expires") ||
		len(c.TTL) > 0 || len(c.ForceTTL) > 0 || c.Heuristic {
		return nil
	}
	return []Warning{{"ignore", "", "without Cache-Control and Expires no response has a lifetime but by a targeted field, " +
		"so hardly any is stored; write ttl as well, such as ttl 10m"}}
}

// likeRegexp is what stands in regular expressions, and may stand in the name of a parameter.
var likeRegexp = regexp.MustCompile(`\.[*+]|\[[^]]*-[^]]*\]|\[\^`)

func (c *HandlerConfig) warnOfKey() (warnings []Warning) {
	k := c.Key
	if q := k.Query; q != nil {
		warnings = append(warnings, warnOfPatterns("key query ignore", q.Ignore)...)
		warnings = append(warnings, warnOfPatterns("key query only", q.Only)...)
		if slices.Contains(q.Only, "*") {
			warnings = append(warnings, Warning{"key query only", "*", "all parameters are kept, as without the line; name those that count, or leave it out"})
		}
	}
	post, query := slices.Contains(c.Methods, http.MethodPost), slices.Contains(c.Methods, "QUERY")
	switch {
	case k.Body && !post:
		warnings = append(warnings, Warning{"key body", "", "methods lacks POST, so there is no body that it could be for; write methods GET HEAD POST, or leave it out"})
	case k.JSON && !post && !query:
		warnings = append(warnings, Warning{"key json", "", "methods lacks POST and QUERY, so there is no body that it could be for; write methods GET HEAD POST, or leave it out"})
	}
	return warnings
}

func warnOfPatterns(words string, patterns []string) (warnings []Warning) {
	for _, p := range patterns {
		if likeRegexp.MatchString(p) {
			warnings = append(warnings, Warning{words, p, fmt.Sprintf("%q looks like a regular expression, and only * stands for other characters here, "+
				"any number of them; write a pattern such as utm_*", p)})
		}
	}
	return warnings
}

// warnOfStars finds texts in which a * stands for nothing but itself.
func warnOfStars(words string, texts []string, instead string) (warnings []Warning) {
	for _, text := range texts {
		if strings.Contains(text, "*") {
			warnings = append(warnings, Warning{words, text, fmt.Sprintf("the * in %q stands for itself: %s; write each out, or a tag that all of them get",
				text, instead)})
		}
	}
	return warnings
}
