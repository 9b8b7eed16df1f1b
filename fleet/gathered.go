package fleet

import (
	"cmp"
	"slices"
	"strings"

	"github.com/larder-cache/larder/store"
)

// gathered are selectors, each once, with the severest of the purges by it. Clients decide how many
// there are, so there is a bound. What is too much becomes one selector of its host, as
// store.Invalid: what is stored there is validated once. What no host takes most of becomes one of
// everything.
type gathered struct {
	of      map[gatheredSelector]gatheredPurge
	bytes   int            // of the selectors' texts
	all     store.Severity // of a purge of everything
	widened uint64         // selectors that have lost their severity or their name
}

type gatheredSelector struct {
	list int // of lists
	text string
}

type gatheredPurge struct {
	severity store.Severity
	hosts    string // of all that it selects, see hostsOf. "": of any
}

// hostList is that of hosts in lists, urlList that of URLs.
const (
	tagList  = 0
	urlList  = 1
	hostList = 3
)

// betweenHosts stands between the hosts of a text. No host has it.
const betweenHosts = "\x00"

// hostsOf are the hosts of some URLs in one text, "" where one of them has none.
func hostsOf(urls []string) string {
	var hosts []string
	for _, url := range urls {
		host := store.HostOf(store.BareURL(url))
		if host == "" {
			return ""
		}
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	return strings.Join(slices.Compact(hosts), betweenHosts)
}

// add adds an invalidation. It returns what is to be put in force for it: what it names, or what
// that has become.
func (g *gathered) add(in *Invalidation) []Purge {
	var force union
	if in.Selectors.All {
		g.all = max(g.all, in.Severity)
		force[in.Severity-1].All = true
		return force.purges()
	}
	for i, list := range lists(&in.Selectors) {
		for _, text := range *list {
			hosts := ""
			if i == urlList {
				hosts = hostsOf([]string{text})
			}
			g.addOne(gatheredSelector{i, text}, gatheredPurge{in.Severity, hosts}, &force)
		}
	}
	hosts := hostsOf(in.Selectors.URLs)
	for _, tag := range in.OfURLs {
		g.addOne(gatheredSelector{tagList, tag}, gatheredPurge{in.Severity, hosts}, &force)
	}
	return force.purges()
}

func (g *gathered) addOne(s gatheredSelector, p gatheredPurge, force *union) {
	if g.isCovered(p, force) {
		return
	}
	if was, waits := g.of[s]; waits {
		p = gatheredPurge{max(p.severity, was.severity), was.hosts}
	} else {
		for len(g.of) >= maxInvalidations || g.bytes+len(s.text) > maxInvalidationBytes {
			g.widen(s, p)
			if g.isCovered(p, force) {
				return
			}
		}
		s.text = strings.Clone(s.text) // it may be a small part of something large
		g.bytes += len(s.text)
	}
	g.put(s, p)
	force.addOne(s.list, s.text, p.severity)
}

func (g *gathered) put(s gatheredSelector, p gatheredPurge) {
	if g.of == nil {
		g.of = make(map[gatheredSelector]gatheredPurge)
	}
	g.of[s] = p
}

// isCovered tells whether what has gathered selects all that a selector does, and is as severe or
// has been widened. Then force gets that.
func (g *gathered) isCovered(p gatheredPurge, force *union) bool {
	if g.all >= p.severity || g.all >= store.Invalid {
		force[g.all-1].All = true
		g.widened += one(g.all < p.severity)
		return true
	}
	by := g.ofHosts(p.hosts)
	if by == store.NotPurged || by < min(p.severity, store.Invalid) {
		return false
	}
	for host := range strings.SplitSeq(p.hosts, betweenHosts) {
		force.addOne(hostList, host, by)
	}
	g.widened += one(by < p.severity)
	return true
}

func one(is bool) uint64 {
	if is {
		return 1
	}
	return 0
}

// ofHosts is the severity of the purges that take in all of some hosts.
func (g *gathered) ofHosts(hosts string) store.Severity {
	if hosts == "" {
		return store.NotPurged
	}
	severity := store.Hard
	for host := range strings.SplitSeq(hosts, betweenHosts) {
		severity = min(severity, g.of[gatheredSelector{hostList, host}].severity)
	}
	return severity
}

// widen makes room for a selector. The hosts that take most become selectors of their own, if that
// spares an eighth of what there may be: each of the others has its pages left. If none takes so
// much all become one of everything.
func (g *gathered) widen(more gatheredSelector, p gatheredPurge) {
	type share struct{ count, bytes int }
	shares := map[string]share{p.hosts: {1, len(more.text)}}
	for s, p := range g.of {
		was := shares[p.hosts]
		shares[p.hosts] = share{was.count + 1, was.bytes + len(s.text)}
	}
	delete(shares, "")
	tooMany := len(g.of) >= maxInvalidations
	most, hosts := 0, ""
	for name, s := range shares {
		part := 8 * s.bytes / maxInvalidationBytes
		if tooMany {
			part = 8 * s.count / maxInvalidations
		}
		if part > most || part == most && most > 0 && cmp.Less(name, hosts) {
			most, hosts = part, name
		}
	}
	if hosts == "" {
		*g = gathered{all: store.Invalid, widened: g.widened + uint64(len(g.of))}
		return
	}
	g.widenTo(hosts)
}

// widenTo has selectors of hosts stand for all that select no more than these have.
func (g *gathered) widenTo(hosts string) {
	for host := range strings.SplitSeq(hosts, betweenHosts) {
		s := gatheredSelector{hostList, strings.Clone(host)}
		was, waits := g.of[s]
		if !waits {
			g.bytes += len(host)
		}
		g.put(s, gatheredPurge{severity: max(was.severity, store.Invalid)})
	}
	for s, p := range g.of {
		if g.ofHosts(p.hosts) >= store.Invalid {
			delete(g.of, s)
			g.bytes -= len(s.text)
			g.widened++
		}
	}
}

// purges are the severest first, as few as can be.
func (g *gathered) purges() []Purge {
	var u union
	if g.all != store.NotPurged {
		u[g.all-1].All = true
	}
	for s, p := range g.of {
		u.addOne(s.list, s.text, p.severity)
	}
	return u.purges()
}
