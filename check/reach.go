package check

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	cfg "github.com/larder-cache/larder/caddyfile"
)

// before lists the handlers from which a request may go on to this one.
func (s *server) before(at *entry) (list []*entry) {
	for _, e := range s.sites[at.site] {
		if s.leads(e, at) {
			list = append(list, e)
		}
	}
	return list
}

// after lists the handlers to which a request may go on from this one.
func (s *server) after(at *entry) (list []*entry) {
	for _, e := range s.sites[at.site] {
		if s.leads(at, e) {
			list = append(list, e)
		}
	}
	return list
}

// leads reports whether a request may go on from one handler to another one: its way leads there,
// and no handler between the two answers each request that has come through the first.
func (s *server) leads(from, to *entry) bool {
	return precedes(from, to) && !slices.ContainsFunc(s.entries[from.index+1:to.index], func(e *entry) bool {
		return e.answers && precedes(from, e) && s.answersFor(e, from)
	})
}

// precedes reports whether the routes lead from a handler to a later one.
func precedes(from, to *entry) bool {
	if from.index >= to.index {
		return false
	}
	n := common(from, to)
	if rest, within := strings.CutPrefix(to.path, from.path); within && rest[0] == '/' || // it has the other in it
		slices.ContainsFunc(to.frames[n:], func(f frame) bool { return f.response }) ||
		slices.ContainsFunc(from.frames[n:], func(f frame) bool { return f.response || f.route().Terminal }) {
		return false
	}
	if n == len(from.frames) || n == len(to.frames) {
		return true
	}
	a, b := &from.frames[n], &to.frames[n]
	if !a.beside(b) { // they are in two handlers of one route, or in two lists of one handler
		return a.owner != b.owner
	}
	return a.route().Group == "" || a.route().Group != b.route().Group
}

// common counts the routes that are around both.
func common(a, b *entry) (n int) {
	for n < len(a.frames) && n < len(b.frames) && a.frames[n].beside(&b.frames[n]) && a.frames[n].index == b.frames[n].index {
		n++
	}
	return n
}

// alwaysFor reports whether each request that comes to another handler comes to this one as well,
// where it stands in front of it or behind it.
func (e *entry) alwaysFor(other *entry) bool {
	n := common(e, other)
	return !slices.ContainsFunc(e.frames[n:], func(f frame) bool {
		return len(f.instead()) > 0 || !f.takes(other.frames[n:])
	})
}

// instead lists the routes that a request may take in place of this one: of a group only the first
// that matches runs.
func (f *frame) instead() (earlier []int) {
	for i := range f.list[:f.index] {
		if group := f.list[i].Group; group != "" && group == f.route().Group {
			earlier = append(earlier, i)
		}
	}
	return earlier
}

// takes reports whether a route takes each request that comes through others.
func (f *frame) takes(others []frame) bool {
	return !f.response && (len(f.matchers) == 0 || slices.ContainsFunc(others, func(o frame) bool {
		return o.version == f.version && narrower(o.matchers, f.matchers)
	}))
}

// narrower reports whether what matches one of some sets matches one of others for certain: it has
// all matchers of that, and may have more.
func narrower(sets, others []matchers) bool {
	return len(sets) > 0 && !slices.ContainsFunc(sets, func(set matchers) bool {
		return !slices.ContainsFunc(others, func(other matchers) bool { return set.hasAll(other) })
	})
}

// matchers are a set of matchers by their modules, each as its JSON without white space.
type matchers map[string]string

func matchersOf(sets caddyhttp.RawMatcherSets) []matchers {
	list := make([]matchers, 0, len(sets))
	for _, set := range sets {
		m := make(matchers, len(set))
		for name, raw := range set {
			var compact bytes.Buffer
			if json.Compact(&compact, raw) != nil {
				compact.Write(raw)
			}
			m[name] = compact.String()
		}
		list = append(list, m)
	}
	return list
}

func (m matchers) hasAll(other matchers) bool {
	for name, text := range other {
		if own, ok := m[name]; !ok || own != text {
			return false
		}
	}
	return true
}

// answersFor reports whether a handler answers each request that comes to another one, or another
// route of its group does.
func (s *server) answersFor(e, other *entry) bool {
	n := common(e, other)
	return e.answers && !slices.ContainsFunc(e.frames[n:], func(f frame) bool {
		return !f.takes(other.frames[n:]) || slices.ContainsFunc(f.instead(), func(i int) bool { return !s.routeAnswers(&f, i) })
	})
}

// routeAnswers reports whether a route beside another one answers each request that it takes.
func (s *server) routeAnswers(beside *frame, index int) bool {
	return slices.ContainsFunc(s.entries, func(e *entry) bool {
		k := slices.IndexFunc(e.frames, func(f frame) bool { return f.beside(beside) && f.index == index })
		return k >= 0 && e.answers && !slices.ContainsFunc(e.frames[k+1:], func(f frame) bool {
			return len(f.instead()) > 0 || !f.takes(nil)
		})
	})
}

// inBlock reports whether a handler is in a block of its own, such as handle or route, that the
// other one is not in.
func (e *entry) inBlock(other *entry) bool {
	n := common(e, other)
	own, others := e.frames[n:], other.frames[n:]
	if len(own) > 0 && len(others) > 0 && own[0].beside(&others[0]) {
		own = own[1:]
	}
	return len(own) > 0
}

// steady are Caddy's handlers behind which matchers see the request as in front of them, but for
// fields that no matcher is written for.
var steady = map[string]bool{
	"static_response": true, "error": true, "file_server": true, "encode": true, "templates": true, "request_body": true, "tracing": true,
	"log_append": true, "push": true, "intercept": true, "copy_response": true, "copy_response_headers": true, "metrics": true, "acme_server": true,
}

// keepsRequest reports whether variables are those of Caddy's that no matcher is written for.
func keepsRequest(raw json.RawMessage) bool {
	var vars map[string]json.RawMessage
	if json.Unmarshal(raw, &vars) != nil {
		return false
	}
	for name := range vars {
		if !slices.Contains([]string{"handler", "root", "log_skip", "log_name"}, name) {
			return false
		}
	}
	return true
}

// changesRequest reports whether a handler may change what matchers behind it see of a request:
// path, method, fields, variables. One that is not known may.
func changesRequest(name string, raw json.RawMessage) bool {
	var config struct {
		Request        json.RawMessage   `json:"request"`         // of headers
		HandleResponse []json.RawMessage `json:"handle_response"` // of reverse_proxy, as forward_auth
		Key            struct {
			Query cfg.QueryConfig `json:"query"`
		} `json:"key"` // of larder
	}
	switch name {
	case "headers", "reverse_proxy", "larder":
		query := &config.Key.Query
		return json.Unmarshal(raw, &config) != nil || config.Request != nil || config.HandleResponse != nil ||
			query.Sort || len(query.Ignore) > 0 || len(query.Only) > 0
	}
	return !steady[name] && (name != "vars" || !keepsRequest(raw))
}
