package caddyfile

import (
	"time"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/urlform"
)

// Rules are what the directive says, as the cache is given it. The receiver has its defaults
// (WithDefaults). Left out is what only a running configuration knows: the app's limit of MaxBody,
// Invalidate with its matchers, Behind, Budget and Logger.
func (c *HandlerConfig) Rules() httpcache.Rules {
	return httpcache.Rules{
		Policy: policyOf(c), Key: keyRulesOf(c.Key),
		Tags:    httpcache.TagRules{From: c.Tags.From, Add: c.Tags.Add, KeepHeaders: c.Tags.KeepHeaders},
		Methods: c.Methods, MaxBody: int64(c.MaxBody), MaxVariants: c.MaxVariants,
		Wait: time.Duration(c.Coalesce.Wait), CoalesceOff: c.Coalesce.Off,
		RefreshEarly: c.RefreshEarly,
		Status:       statusModes[c.Status], RemoteOff: c.Shared != nil && !*c.Shared,
		Observe: c.Observe, Slice: int64(*c.Slice), Repeats: c.Repeats.rules(), Batches: batchRules(c.Batch),
	}
}

var statusModes = map[string]httpcache.StatusMode{
	statusShort: httpcache.StatusShort, statusFull: httpcache.StatusFull, statusOff: httpcache.StatusOff,
}

// policyOf translates the configuration for rfc9111.
func policyOf(c *HandlerConfig) rfc9111.Policy {
	p := rfc9111.Policy{
		TTL: ttlRules(c.TTL), ForceTTL: ttlRules(c.ForceTTL), MaxTTL: time.Duration(c.MaxTTL),
		Ignore:                 c.Ignore,
		IgnoreClientDirectives: c.ClientDirectives == clientDirectivesIgnore,
		Heuristic:              c.Heuristic,
		SafePost:               c.SafePost,
		StaleWhileRevalidate:   time.Duration(c.StaleWhileRevalidate),
		Keep:                   time.Duration(*c.Keep),
		DeceptionGuard:         c.DeceptionGuard,
		Targeted:               c.Targeted,
	}
	if *c.Keep == 0 {
		p.Keep = -1
	}
	if s := c.StaleIfError; s != nil {
		p.StaleIfError = time.Duration(s.Duration)
		for _, status := range s.Status {
			p.Failures = append(p.Failures, status.StatusClass)
		}
	}
	switch c.SetCookie {
	case setCookieStrip:
		p.SetCookie = rfc9111.SetCookieStrip
	case setCookieStore:
		p.SetCookie = rfc9111.SetCookieStore
	}
	return p
}

// ttlRules puts the most exact rules first, because rfc9111 takes the first that matches: a status
// before its class before a rule without statuses.
func ttlRules(rules TTLRules) []rfc9111.StatusTTL {
	var exact, class, general []rfc9111.StatusTTL
	for _, rule := range rules {
		d := time.Duration(rule.Duration)
		if len(rule.Status) == 0 {
			general = append(general, rfc9111.StatusTTL{Duration: d})
		}
		for _, status := range rule.Status {
			ttl := rfc9111.StatusTTL{Duration: d, Statuses: []rfc9111.StatusClass{status.StatusClass}}
			if status.IsClass() {
				class = append(class, ttl)
			} else {
				exact = append(exact, ttl)
			}
		}
	}
	return append(append(exact, class...), general...)
}

func keyRulesOf(k *KeyConfig) httpcache.KeyRules {
	return httpcache.KeyRules{
		Query:   httpcache.QueryRules{Sort: k.Query.Sort, Ignore: patterns(k.Query.Ignore), Only: patterns(k.Query.Only)},
		Headers: k.Header, Cookies: k.Cookie, Add: k.Add, Body: bodyFormOf(k),
	}
}

func bodyFormOf(k *KeyConfig) httpcache.BodyForm {
	switch {
	case k.JSON:
		return httpcache.BodyJSON
	case k.GraphQL:
		return httpcache.BodyGraphQL
	}
	return httpcache.BodyAsSent
}

// patterns are as they were written, but in the form in which names are compared.
func patterns(written []string) []string {
	formed := make([]string, len(written))
	for i, pattern := range written {
		formed[i] = urlform.Query(pattern)
	}
	return formed
}
