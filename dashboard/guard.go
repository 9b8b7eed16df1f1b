package dashboard

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// refusal is an answer that says why a request is refused, and what to do instead.
type refusal struct {
	status   int
	sentence string
	header   [2]string // a field that the status requires, if any
}

func refuse(status int, sentence string) *refusal {
	return &refusal{status: status, sentence: sentence}
}

// write answers in the form of the admin API's errors.
func (f *refusal) write(w http.ResponseWriter) {
	if f.header[0] != "" {
		w.Header().Set(f.header[0], f.header[1])
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": f.sentence})
}

// admit returns nil for a request that may be answered. The checks go from what tells least to what
// tells most: a foreign page learns neither which paths there are nor whether its token was right.
func (s *Server) admit(r *http.Request) *refusal {
	if !s.isOwnHost(r.Host) {
		return refuse(http.StatusForbidden,
			"The Host of this request is not the dashboard's; open the URL that the command printed.")
	}
	if !isOwnOrigin(r) {
		return refuse(http.StatusForbidden,
			"This request comes from a page of another origin; only the dashboard's own page may call it.")
	}
	if isAPI(r.URL.Path) && !s.hasToken(r) {
		return &refusal{
			http.StatusUnauthorized,
			"The token is missing or not the one of this run; open the URL that the command printed, with all that follows #.",
			[2]string{"WWW-Authenticate", `Bearer realm="Larder dashboard"`},
		}
	}
	return nil
}

// isOwnHost reports whether Host names this server. The port does not count: it is another one
// behind `ssh -L`, and DNS rebinding changes the name.
func (s *Server) isOwnHost(hostport string) bool {
	host := hostname(hostport)
	if host == "localhost" || slices.Contains(s.options.Hosts, host) {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && (s.options.AnyAddress || address.IsLoopback())
}

// hostname returns the host of an authority in lower case, without port and brackets. It is empty
// where the authority is none.
func hostname(authority string) string {
	parsed, err := url.Parse("//" + authority)
	if err != nil || parsed.Host != authority {
		return ""
	}
	return strings.ToLower(parsed.Hostname())
}

// isOwnOrigin reports whether the request comes from the dashboard's own page, from the address bar
// or from no browser. A browser adds Origin to every POST, and to what another origin's script
// sends otherwise. Sec-Fetch-Site is there for all else that a page of another origin makes it
// send; a link on another page may open the dashboard, and gets nothing but the page.
func isOwnOrigin(r *http.Request) bool {
	for _, origin := range r.Header.Values("Origin") {
		if !strings.EqualFold(origin, "http://"+r.Host) {
			return false
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	return r.URL.Path == "/" && r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate"
}

// hasToken compares digests, so that neither the time it takes nor the length tells anything.
func (s *Server) hasToken(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	digest := sha256.Sum256([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(digest[:], s.digest[:]) == 1
}

// allowMethods refuses other methods than these.
func allowMethods(r *http.Request, methods ...string) *refusal {
	if slices.Contains(methods, r.Method) {
		return nil
	}
	allowed := strings.Join(methods, ", ")
	return &refusal{
		http.StatusMethodNotAllowed, "The dashboard does not pass on " + r.Method + " here; send " + allowed + ".",
		[2]string{"Allow", allowed},
	}
}
