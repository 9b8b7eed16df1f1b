package caddyfile

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Doubt is something that a configuration says and that can be meant, but seldom is.
type Doubt struct {
	Words string // of the Caddyfile, from the outside in, and of the JSON alike: key query ignore
	Value string // the argument that is in doubt, empty where it is the line
	Text  string // a sentence that says what follows and what to write instead
}

// String has the words in front of the sentence.
func (d Doubt) String() string { return d.Words + ": " + d.Text }

// Doubts returns what a user should look at again, in the order of the syntax. The receiver has
// passed Check.
func (c *HandlerConfig) Doubts() []Doubt {
	var doubts []Doubt
	doubts = append(doubts, c.doubtLifetimes()...)
	doubts = append(doubts, c.doubtIgnore()...)
	if c.Key != nil {
		doubts = append(doubts, c.doubtKey()...)
	}
	if c.Tags != nil {
		doubts = append(doubts, doubtStars("tags add", c.Tags.Add, "a tag is compared exactly")...)
	}
	for _, rule := range c.Invalidate {
		doubts = append(doubts, doubtStars("invalidate tags", rule.Tags, "a tag is compared exactly")...)
		doubts = append(doubts, doubtStars("invalidate urls", rule.URLs, "the one URL that is spelt so is invalidated")...)
	}
	return doubts
}

// doubtLifetimes finds lifetimes that another word leaves without effect.
func (c *HandlerConfig) doubtLifetimes() (doubts []Doubt) {
	general := func(rule TTLRule) bool { return len(rule.Status) == 0 }
	forced := slices.ContainsFunc(c.ForceTTL, general)
	for _, rule := range c.TTL {
		if general(rule) && forced {
			doubts = append(doubts, Doubt{"ttl", time.Duration(rule.Duration).String(), "force_ttl gives the same statuses a lifetime " +
				"whatever the origin says, so this line has no effect; leave one of the two out"})
		}
	}
	return append(append(doubts, c.doubtCapped("ttl", c.TTL)...), c.doubtCapped("force_ttl", c.ForceTTL)...)
}

// doubtCapped finds rules that max_ttl cuts short.
func (c *HandlerConfig) doubtCapped(words string, rules TTLRules) (doubts []Doubt) {
	for _, rule := range rules {
		if c.MaxTTL > 0 && rule.Duration > c.MaxTTL {
			doubts = append(doubts, Doubt{words, time.Duration(rule.Duration).String(), fmt.Sprintf("max_ttl caps %s at %s; "+
				"write at most that here, or raise max_ttl", time.Duration(rule.Duration), time.Duration(c.MaxTTL))})
		}
	}
	return doubts
}

// doubtIgnore finds that lifetimes of the origin are ignored, and that there are no others.
func (c *HandlerConfig) doubtIgnore() []Doubt {
	ignored := canonical(c.Ignore)
	if !slices.Contains(ignored, "Cache-Control") || !slices.Contains(ignored, "Expires") ||
		len(c.TTL) > 0 || len(c.ForceTTL) > 0 || c.Heuristic {
		return nil
	}
	return []Doubt{{"ignore", "", "without Cache-Control and Expires no response has a lifetime but by a targeted field, " +
		"so hardly any is stored; write ttl as well, such as ttl 10m"}}
}

// likeRegexp is what stands in regular expressions, and may stand in the name of a parameter.
var likeRegexp = regexp.MustCompile(`\.[*+]|\[[^]]*-[^]]*\]|\[\^`)

func (c *HandlerConfig) doubtKey() (doubts []Doubt) {
	k := c.Key
	if q := k.Query; q != nil {
		doubts = append(doubts, doubtPatterns("key query ignore", q.Ignore)...)
		doubts = append(doubts, doubtPatterns("key query only", q.Only)...)
		if slices.Contains(q.Only, "*") {
			doubts = append(doubts, Doubt{"key query only", "*", "all parameters are kept, as without the line; name those that count, or leave it out"})
		}
	}
	post, query := slices.Contains(c.Methods, http.MethodPost), slices.Contains(c.Methods, "QUERY")
	switch {
	case k.Body && !post:
		doubts = append(doubts, Doubt{"key body", "", "methods lacks POST, so there is no body that it could be for; write methods GET HEAD POST, or leave it out"})
	case k.JSON && !post && !query:
		doubts = append(doubts, Doubt{"key json", "", "methods lacks POST and QUERY, so there is no body that it could be for; write methods GET HEAD POST, or leave it out"})
	}
	return doubts
}

func doubtPatterns(words string, patterns []string) (doubts []Doubt) {
	for _, p := range patterns {
		if likeRegexp.MatchString(p) {
			doubts = append(doubts, Doubt{words, p, fmt.Sprintf("%q looks like a regular expression, and only * stands for other characters here, "+
				"any number of them; write a pattern such as utm_*", p)})
		}
	}
	return doubts
}

// doubtStars finds texts in which a * stands for nothing but itself.
func doubtStars(words string, texts []string, instead string) (doubts []Doubt) {
	for _, text := range texts {
		if strings.Contains(text, "*") {
			doubts = append(doubts, Doubt{words, text, fmt.Sprintf("the * in %q stands for itself: %s; write each out, or a tag that all of them get",
				text, instead)})
		}
	}
	return doubts
}
