package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// loggerName is the name of the router's logger, and its module's.
const loggerName = "admin.api.larder"

// Logger returns the logger of the admin API.
func Logger() *zap.Logger { return caddy.Log().Named(loggerName) }

// router is the router of the admin API. An error is a status of 400 or more and {"error":"…"}, one
// sentence that says what to send instead.
type router struct {
	endpoints []Endpoint
}

// CaddyModule returns the Caddy module information.
func (a *router) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  loggerName,
		New: func() caddy.Module { return &router{a.endpoints} },
	}
}

// Routes returns the paths of the API. The last one answers all other paths, so that a misspelt one
// gets its error in JSON too.
func (a *router) Routes() []caddy.AdminRoute {
	routes := make([]caddy.AdminRoute, 0, len(a.endpoints)+1)
	for _, e := range a.endpoints {
		routes = append(routes, caddy.AdminRoute{Pattern: e.Path, Handler: caddy.AdminHandlerFunc(e.serve)})
	}
	return append(routes, caddy.AdminRoute{Pattern: "/larder/", Handler: caddy.AdminHandlerFunc(a.serveUnknown)})
}

func (a *router) serveUnknown(http.ResponseWriter, *http.Request) error {
	known := make([]string, 0, len(a.endpoints))
	for _, e := range a.endpoints {
		known = append(known, e.Method+" "+e.Path)
	}
	return NotFound(fmt.Errorf("no such path; send %s", oneOf(known)))
}

func (e *Endpoint) serve(w http.ResponseWriter, r *http.Request) error {
	if err := e.allowMethod(w, r); err != nil {
		return err
	}
	answer, err := e.Answer(r)
	if err != nil {
		return err
	}
	return writeJSON(w, answer)
}

func (e *Endpoint) allowMethod(w http.ResponseWriter, r *http.Request) error {
	methods := []string{e.Method}
	if e.Method == http.MethodGet {
		methods = append(methods, http.MethodHead)
	}
	if slices.Contains(methods, r.Method) {
		return nil
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return caddy.APIError{
		HTTPStatus: http.StatusMethodNotAllowed,
		Err:        fmt.Errorf("method %s is not allowed here; send %s", Quote(r.Method), e.Method),
	}
}

// BadRequest makes the error of a request that says something wrong.
func BadRequest(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
}

// NotFound makes the error of a request for what is not there.
func NotFound(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
}

// Unavailable makes the error of a request that may be sent again as it is.
func Unavailable(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
}

// ErrNoCache is the answer to a request that needs a cache where none runs.
var ErrNoCache = Unavailable(errors.New(
	"no cache is running: load a configuration that has larder in it, or ask again when its store is open"))

// writeJSON encodes before it writes, so that a value that cannot be encoded is an error and not
// half an answer.
func writeJSON(w http.ResponseWriter, value any) error {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // URLs are full of &
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(body.Bytes())
	if err != nil {
		// The status line is out; Caddy must not write an error behind it.
		Logger().Debug("writing the answer", zap.Error(err))
	}
	return nil
}

// oneOf lists texts for a sentence: a, b or c.
func oneOf(texts []string) string {
	last := len(texts) - 1
	if last < 1 {
		return strings.Join(texts, "")
	}
	return strings.Join(texts[:last], ", ") + " or " + texts[last]
}

// Interface guards.
var (
	_ caddy.Module      = (*router)(nil)
	_ caddy.AdminRouter = (*router)(nil)
)
