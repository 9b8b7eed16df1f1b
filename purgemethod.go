package larder

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/inspect"
	"github.com/larder-cache/larder/purge"
	"github.com/larder-cache/larder/urlform"
)

// refusals are those of the process: who may not purge does not begin anew at the next site, nor
// with a reload.
var refusals purge.Refusals

// purgeMethod returns what answers PURGE at the site, nil where PURGE passes.
func (h *Handler) purgeMethod() *purge.Method {
	c := h.PurgeMethod
	if c == nil {
		return nil
	}
	m := &purge.Method{
		Allow: c.Prefixes(), Fields: c.Tags, Own: cfg.WithoutPlaceholders(h.Tags.Add), Cache: adminView{h.app},
		Logger: h.logger, Refusals: &refusals,
	}
	if c.Token != "" {
		m.Token = func(r *http.Request) (string, error) { return tokenOf(c.Token, r) }
	}
	return m
}

// tokenOf expands the token of a configuration. What is missing is no part of a shorter token,
// which would be easier to guess.
func tokenOf(text string, r *http.Request) (string, error) {
	token, err := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).ReplaceOrErr(text, true, true)
	switch {
	case err != nil:
		return "", fmt.Errorf("the token of purge_method: %w", err)
	case token == "":
		return "", errors.New("the token of purge_method is empty; set what its placeholder stands for")
	}
	return token, nil
}

// purges reports whether the handler answers the request itself.
func (h *Handler) purges(r *http.Request) bool {
	return h.purging != nil && r.Method == purge.MethodPurge
}

// servePurge answers a PURGE.
func (h *Handler) servePurge(w http.ResponseWriter, r *http.Request) {
	h.purging.Serve(w, h.purgeCall(r), time.Now())
}

// purgeCall is what Caddy knows about a PURGE.
func (h *Handler) purgeCall(r *http.Request) *purge.Call {
	var id httpcache.Identity
	h.identify(r, h.branch.standing(r), &id)
	call := &purge.Call{Request: r, Client: clientAddr(r), Target: id.URL}
	if !id.Purgeable {
		return call
	}
	// Varnish and nginx know no scheme, and plugins send PURGE in clear text to a port of their
	// own. What they mean is the page, and its clients ask for it in either scheme.
	for _, scheme := range [...]string{"http", "https"} {
		if authority, err := urlform.Authority(scheme, id.Site.Authority); err == nil {
			call.Sites = append(call.Sites, purge.Site{Scheme: scheme, Authority: authority})
		}
	}
	return call
}

// clientAddr is the client's address as Caddy has found it, by its trusted proxies.
func clientAddr(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{} // of a socket
	}
	return addr
}

// explainPurge says what a PURGE would be answered, and purges nothing.
func (h *Handler) explainPurge(r *http.Request) inspect.Explained {
	const question = "does it go through the cache?"
	step := inspect.ExplainedStep{Question: question, Answer: "no: Larder answers PURGE itself, by purge_method"}
	seen := h.purging.Foresee(h.purgeCall(r))
	if seen.Err != nil {
		e := verdictOf(fmt.Sprintf("Refused with %d: %s.", seen.Status, seen.Err))
		e.Steps = append(e.Steps, step)
		return e
	}
	manner := "purges"
	if seen.Selectors.Soft {
		manner = "makes stale"
	}
	e := verdictOf(fmt.Sprintf("Purge: Larder answers it itself, and %s %s.", manner, namedBy(&seen.Selectors)))
	e.Steps = append(e.Steps, step)
	for _, list := range [...]struct {
		question string
		all      []string
	}{
		{"which tags does it name?", seen.Selectors.Tags},
		{"which URLs does it name?", seen.Selectors.URLs},
		{"which beginnings of URLs does it name?", seen.Selectors.Prefixes},
	} {
		if len(list.all) > 0 {
			e.Steps = append(e.Steps, inspect.ExplainedStep{Question: list.question, Answer: strings.Join(list.all, " ")})
		}
	}
	return e
}

// namedBy says in words what selectors name.
func namedBy(s *purge.Selectors) string {
	switch {
	case len(s.Tags) > 0:
		return "what has one of the tags that it names"
	case len(s.Prefixes) > 0:
		return "what stands below the path that it names"
	}
	return "the URL that it asks for"
}
