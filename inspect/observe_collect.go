package inspect

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Observation is what was observed of one request on a route that observes. The words are those of
// the placeholders, of Cache-Status and of the metrics.
type Observation struct {
	URL       string
	Would     string // what the outcome would have been
	Bypass    string // why it would have bypassed
	NotStored string // why the answer would not have been stored
	Compared  bool   // the origin's answer, with what would have been served
	Failed    bool   // the origin's answer tells of its failure
	Differs   string // "status", "body" or a field's name; empty if they agree
	Bytes     int64  // of the body
	Refreshes bool   // serving it would have begun a refresh, so nothing is saved

	Cookies         []string // names of those that the key lacks
	StoredForCookie bool     // what would have been served was fetched for a request with one
	Authorized      bool     // the request carries Authorization, and the key lacks it
	Parameters      bool     // the request has some that the key leaves out
}

const (
	// maxGroups is how many groups of URLs are told apart. The smallest makes room for a new one.
	maxGroups = 256
	// maxWords is how many different words are counted for each group: names of fields and cookies
	// are the origin's and the clients'.
	maxWords = 32
	// maxGroupBytes is the longest name of a group.
	maxGroupBytes = 128
	// maxExample is the longest URL that is kept as an example.
	maxExample = 512
	// maxExamples is how many are kept for each group.
	maxExamples = 3
	// elsewhere is the group of what had to make room.
	elsewhere = "(others)"
)

// Observations collects what was observed, in memory of a fixed size: by host and the first segment
// of the path. It is safe for concurrent use.
type Observations struct {
	mu     sync.Mutex
	since  time.Time // the first was added
	groups map[string]*group
}

// group is what was observed of some URLs.
type group struct {
	requests, saved   int64
	bytes, savedBytes int64
	would             words
	bypass, notStored words
	rescued           int64 // failures in place of which something would have been served
	compared          agreement
	differs           words
	wrong             int64     // of compared: they differ in more than a field
	withCookie        agreement // of compared: the request, or that for which it was stored, had one
	authorized        agreement
	parameters        agreement
	cookies           map[string]*agreement
	examples          []Example
}

// agreement is how many answers were compared, and how many of them differ.
type agreement struct{ compared, differ int64 }

func (a *agreement) add(differs bool) {
	a.compared++
	if differs {
		a.differ++
	}
}

// words counts words.
type words map[string]int64

func (w words) add(word string, n int64) {
	if _, known := w[word]; word == "" || !known && len(w) >= maxWords {
		return
	}
	w[strings.Clone(word)] += n
}

// NewObservations returns an empty collection.
func NewObservations() *Observations { return &Observations{groups: make(map[string]*group)} }

func newGroup() *group {
	return &group{
		would: words{}, bypass: words{}, notStored: words{}, differs: words{}, cookies: make(map[string]*agreement),
	}
}

// Add adds an observation.
func (o *Observations) Add(now time.Time, seen *Observation) {
	name := groupOf(seen.URL)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = now
	}
	g := o.groups[name]
	if g == nil {
		o.makeRoom()
		g = newGroup()
		o.groups[strings.Clone(name)] = g
	}
	g.add(seen)
}

// makeRoom puts the smallest group among the others if there are too many.
func (o *Observations) makeRoom() {
	for len(o.groups) >= maxGroups { // once more when the others get a group of their own
		smallest := ""
		for name, g := range o.groups {
			if name != elsewhere && (smallest == "" || g.requests < o.groups[smallest].requests) {
				smallest = name
			}
		}
		others := o.groups[elsewhere]
		if others == nil {
			others = newGroup()
			o.groups[elsewhere] = others
		}
		others.merge(o.groups[smallest])
		delete(o.groups, smallest)
	}
}

func (g *group) add(seen *Observation) {
	g.requests++
	g.bytes += seen.Bytes
	switch {
	case seen.Refreshes:
	case seen.Would == "hit", seen.Would == "stale", seen.Would == "collapsed":
		g.saved++
		g.savedBytes += seen.Bytes
	case seen.Would == "revalidated": // the origin would have sent no body
		g.savedBytes += seen.Bytes
	}
	g.would.add(seen.Would, 1)
	g.bypass.add(seen.Bypass, 1)
	g.notStored.add(seen.NotStored, 1)
	switch {
	case seen.Compared && seen.Failed && seen.Differs != "":
		g.rescued++
	case seen.Compared:
		g.compare(seen)
	}
}

func (g *group) compare(seen *Observation) {
	differs := seen.Differs != ""
	g.compared.add(differs)
	g.differs.add(seen.Differs, 1)
	if isWrong(seen.Differs) {
		g.wrong++
	}
	if len(seen.Cookies) > 0 || seen.StoredForCookie {
		g.withCookie.add(differs)
	}
	if seen.Authorized {
		g.authorized.add(differs)
	}
	if seen.Parameters {
		g.parameters.add(differs)
	}
	for _, name := range seen.Cookies {
		if g.cookies[name] == nil && len(g.cookies) < maxWords && len(name) <= maxGroupBytes {
			g.cookies[strings.Clone(name)] = new(agreement)
		}
		if a := g.cookies[name]; a != nil {
			a.add(differs)
		}
	}
	if differs {
		g.keepExample(Example{URL: strings.Clone(seen.URL[:min(len(seen.URL), maxExample)]), Reason: strings.Clone(seen.Differs)})
	}
}

// keepExample keeps the latest URLs that differ, each once.
func (g *group) keepExample(e Example) {
	g.examples = slices.DeleteFunc(g.examples, func(known Example) bool { return known.URL == e.URL })
	g.examples = append(g.examples, e)
	if len(g.examples) > maxExamples {
		g.examples = slices.Delete(g.examples, 0, len(g.examples)-maxExamples)
	}
}

// merge adds what is known of other to g.
func (g *group) merge(other *group) {
	g.requests, g.saved, g.rescued = g.requests+other.requests, g.saved+other.saved, g.rescued+other.rescued
	g.wrong += other.wrong
	g.bytes, g.savedBytes = g.bytes+other.bytes, g.savedBytes+other.savedBytes
	for _, w := range []struct{ to, from words }{
		{g.would, other.would}, {g.bypass, other.bypass}, {g.notStored, other.notStored}, {g.differs, other.differs},
	} {
		for word, n := range w.from {
			w.to.add(word, n)
		}
	}
	for _, a := range []struct{ to, from *agreement }{
		{&g.compared, &other.compared},
		{&g.withCookie, &other.withCookie},
		{&g.authorized, &other.authorized},
		{&g.parameters, &other.parameters},
	} {
		a.to.compared, a.to.differ = a.to.compared+a.from.compared, a.to.differ+a.from.differ
	}
	for name, a := range other.cookies {
		if g.cookies[name] == nil && len(g.cookies) < maxWords {
			g.cookies[name] = new(agreement)
		}
		if to := g.cookies[name]; to != nil {
			to.compared, to.differ = to.compared+a.compared, to.differ+a.differ
		}
	}
	for _, e := range other.examples {
		g.keepExample(e)
	}
}

// groupOf returns the group of a URL: its host with the first segment of its path, or with the
// extension of a file that lies at the top.
func groupOf(url string) string {
	_, rest, absolute := strings.Cut(url, "://")
	if !absolute {
		return elsewhere
	}
	rest, _, _ = strings.Cut(rest, "?")
	host, path, _ := strings.Cut(rest, "/")
	segment, _, deeper := strings.Cut(path, "/")
	name := host + "/" + segment
	if deeper {
		name += "/*"
	} else if dot := strings.LastIndexByte(segment, '.'); dot >= 0 {
		name = host + "/*" + segment[dot:]
	}
	if len(name) > maxGroupBytes {
		return elsewhere
	}
	return name
}

// Count is a word and how often it was counted.
type Count struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}

// counts returns the words, the most frequent first.
func (w words) counts() []Count {
	counts := make([]Count, 0, len(w))
	for _, word := range slices.Sorted(maps.Keys(w)) {
		counts = append(counts, Count{word, w[word]})
	}
	slices.SortStableFunc(counts, func(a, b Count) int { return cmp.Compare(b.Count, a.Count) })
	return counts
}
