package httpcache

import (
	"encoding/json"
	"strings"
	"sync/atomic"
)

// What is stored has the URL that the query rules of its day have made of the client's. By other
// rules a purge of the client's URL would make another one of it, and the response would be a hit
// again when the rules of its day come back. So the rules that something may have been stored by
// are kept with the store, as its labels, and whatever purges a URL purges what any of them makes
// of it.
//
// Of the configuration a URL has nothing else: path and query are those that the client sent,
// whatever rewrites them, and the header, cookies and texts of `key` are in the key alone. Scheme
// and host depend on which proxies are trusted, see targets; the listener, on addresses, see
// store.URLElsewhere.

// queryLabel begins the labels that are query rules.
const queryLabel = "query "

// label is the rules as a label of the store.
func (q *QueryRules) label() string {
	text, err := json.Marshal(q)
	if err != nil {
		panic(err) // they are texts and a truth value
	}
	return queryLabel + string(text)
}

// pastRules are the query rules that something may have been stored by.
type pastRules struct{ known atomic.Pointer[labelled] }

// labelled are the rules that labels stand for.
type labelled struct {
	labels []string
	rules  []*KeyRules
}

// PastRules implements Purger: they are those of routes of before and of today.
func (c *Cache) PastRules() []*KeyRules {
	labels := c.store.Labels()
	if len(labels) == 0 {
		return nil
	}
	if known := c.pastRules.known.Load(); known != nil && &known.labels[0] == &labels[0] && len(known.labels) == len(labels) {
		return known.rules
	}
	now := &labelled{labels: labels}
	for _, label := range labels {
		text, ours := strings.CutPrefix(label, queryLabel)
		rules := new(KeyRules)
		if ours && json.Unmarshal([]byte(text), &rules.Query) == nil {
			now.rules = append(now.rules, rules)
		}
	}
	c.pastRules.known.Store(now)
	return now.rules
}
