package larder

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/inspect"
)

// behindTLS reports whether a proxy in front speaks TLS for what is asked about, and the question
// has nothing of what that proxy says of it.
func (s *explainedSite) behindTLS(target *url.URL, q *inspect.Question) bool {
	return target.Scheme == "https" && !s.tls && len(q.Headers["X-Forwarded-Proto"]) == 0 && len(q.Headers["Forwarded"]) == 0
}

// forwardedForms are what proxies in front commonly say of a URL that they serve by TLS, and the
// Host that they send: it may lack the port. What is given stays as it is, so that no form has it.
func forwardedForms(target *url.URL, given http.Header) (forms [][]inspectedField) {
	proto, host := inspectedField{"X-Forwarded-Proto", "https"}, inspectedField{"X-Forwarded-Host", target.Host}
	port := inspectedField{"X-Forwarded-Port", target.Port()}
	if port.value == "" {
		port.value = "443"
	}
	forms = [][]inspectedField{{proto}, {proto, host}, {proto, port}, {proto, host, port}}
	if name := target.Hostname(); target.Port() != "" && net.ParseIP(name) == nil {
		bare := inspectedField{"Host", name}
		for _, form := range slices.Clone(forms) {
			forms = append(forms, append([]inspectedField{bare}, form...))
		}
	}
	isGiven := func(field inspectedField) bool { return len(given[field.name]) > 0 }
	var others [][]inspectedField
	for _, form := range forms {
		form = slices.DeleteFunc(form, isGiven)
		if !slices.ContainsFunc(others, func(other []inspectedField) bool { return slices.Equal(form, other) }) {
			others = append(others, form)
		}
	}
	return others
}

// inspectedField is a field of a request, as `-H` of the command has it.
type inspectedField struct{ name, value string }

// explainForwarded completes the explanation of a request by which nothing is found. The fields in
// which a proxy in front tells the URL of its client are in the key, so that the clients' requests
// may find what this one does not, or why nothing was stored. What they commonly are is tried.
func (t adminView) explainForwarded(
	ctx context.Context, first inspect.Explained, site *explainedSite, target *url.URL, q inspect.Question,
) (inspect.Explained, error) {
	headers := q.Headers
	var remembered *inspect.Explained // of an answer that is not stored
	unknown := strings.Contains(first.Verdict, httpcache.NothingRemembered)
	for _, form := range forwardedForms(target, headers) {
		q.Headers = headers.Clone()
		if q.Headers == nil {
			q.Headers = make(http.Header)
		}
		var flags strings.Builder
		for _, field := range form {
			q.Headers.Set(field.name, field.value)
			flags.WriteString(" -H '" + field.name + ": " + field.value + "'")
		}
		run, err := t.explainOnce(ctx, site, target, &q)
		if err != nil {
			return first, err
		}
		if run.trace == nil {
			continue
		}
		as := run.explained(site)
		verdict := as.Verdict
		as.Verdict = "Without what a proxy in front says of scheme and host, which is in the key, nothing is stored. With" + flags.String() + ": " + verdict
		if as.Entry != nil {
			return as, nil
		}
		if unknown && remembered == nil && strings.HasPrefix(verdict, "Miss") && !strings.Contains(verdict, httpcache.NothingRemembered) {
			remembered = &as
		}
	}
	if remembered != nil {
		return *remembered, nil
	}
	if unknown {
		first.Verdict += " Clients of the proxy in front have another key: explain it with the fields that it sends, such as -H 'X-Forwarded-Proto: https'."
	}
	first.Steps = append(first.Steps, inspect.ExplainedStep{
		Question: "does it have what the proxy in front says of scheme and host?",
		Answer:   "no, and that is in the key; explain it with the fields that the proxy sends, such as -H 'X-Forwarded-Proto: https'",
	})
	return first, nil
}
