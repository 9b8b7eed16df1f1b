package dashboard

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// maxBodyBytes is the largest request body that is passed on, as the admin API has it.
const maxBodyBytes = 1 << 20

// call is a call of the admin API that the page needs.
type call struct {
	method string
	path   *regexp.Regexp // of the escaped path, whole
}

// calls are all that is passed on. A path has no dots, percent signs or empty parts, so that there
// is no other way to write one that the admin API would take for something else.
var calls = []call{
	{http.MethodGet, regexp.MustCompile(`^/larder/stats$`)},
	{http.MethodGet, regexp.MustCompile(`^/larder/history$`)},
	{http.MethodGet, regexp.MustCompile(`^/larder/top$`)},
	{http.MethodGet, regexp.MustCompile(`^/larder/entries$`)},
	{http.MethodGet, regexp.MustCompile(`^/larder/entries/[A-Za-z0-9_-]{1,256}$`)},
	{http.MethodGet, regexp.MustCompile(`^/larder/fleet$`)},
	{http.MethodPost, regexp.MustCompile(`^/larder/purge$`)},
	{http.MethodPost, regexp.MustCompile(`^/larder/explain$`)},
}

// aboutPath is the one call that the dashboard answers by itself.
const aboutPath = "/about"

// isAPI reports whether a path needs the token: all but the page's own files.
func isAPI(path string) bool {
	return path != "/" && !strings.HasPrefix(path, "/static/")
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Path == aboutPath {
		s.serveAbout(w, r)
		return
	}
	if refused := permit(r); refused != nil {
		refused.write(w)
		return
	}
	s.forward(w, r)
}

// permit refuses what is not in the table.
func permit(r *http.Request) *refusal {
	var methods []string
	for _, c := range calls {
		if !c.path.MatchString(r.URL.EscapedPath()) {
			continue
		}
		if methods = append(methods, c.method); c.method == r.Method {
			return nil
		}
	}
	if methods == nil {
		return refuse(http.StatusNotFound,
			"The dashboard passes on no such path; what else the admin API can do is at its own address.")
	}
	return allowMethods(r, methods...)
}

// serveAbout tells the page which Caddy it shows.
func (s *Server) serveAbout(w http.ResponseWriter, r *http.Request) {
	if refused := allowMethods(r, http.MethodGet); refused != nil {
		refused.write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"admin": s.options.Address})
}

// forward sends the call to the admin API. Of the browser's header nothing goes along, and of the
// answer's the status alone comes back. Its body is JSON whatever its sender calls it: were another
// server at that address, its HTML would be a page of the dashboard's origin.
func (s *Server) forward(w http.ResponseWriter, r *http.Request) {
	body := http.MaxBytesReader(w, r.Body, maxBodyBytes)
	target := url.URL{Scheme: "http", Host: "localhost", Path: r.URL.Path, RawQuery: r.URL.RawQuery}
	request, err := http.NewRequestWithContext(r.Context(), r.Method, target.String(), body)
	if err != nil {
		refuse(http.StatusBadRequest, "The URL of this call cannot be parsed; correct it.").write(w)
		return
	}
	if request.ContentLength = r.ContentLength; r.ContentLength == 0 {
		request.Body = http.NoBody
	} else {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := s.options.Admin.RoundTrip(request)
	if errors.As(err, new(*http.MaxBytesError)) {
		refuse(http.StatusRequestEntityTooLarge, "The body is larger than 1 MiB; send less in one call.").write(w)
		return
	}
	if err != nil {
		refuse(http.StatusBadGateway,
			"The admin API at "+s.options.Address+" does not answer; see whether Caddy runs ("+err.Error()+").").write(w)
		return
	}
	defer response.Body.Close()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body) // a browser that has left needs no answer
}
