// Package ceiling is the fastest handler that Caddy can have: it writes header fields and a body
// that it holds in a map. What it reaches is the limit for any cache in Caddy, so the bench
// measures Larder against it. It is of no use otherwise.
package ceiling

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const directive = "bench_ceiling"

func init() {
	caddy.RegisterModule(Handler{})
	httpcaddyfile.RegisterHandlerDirective(directive, parse)
}

// Handler answers /<size>/<anything> with size bytes, in the header fields of a hit.
//
// Caddyfile, in a route (it has no place of its own in the order of directives):
//
//	bench_ceiling <size>... {
//		<field> <value>
//	}
type Handler struct {
	// Sizes are the bodies' lengths in bytes.
	Sizes []int `json:"sizes"`
	// Header is sent with each, beside Content-Length.
	Header http.Header `json:"header"`

	answers map[string]answer
}

type answer struct {
	header http.Header
	body   []byte
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers." + directive, New: func() caddy.Module { return new(Handler) }}
}

// Provision makes the answers.
func (h *Handler) Provision(caddy.Context) error {
	h.answers = make(map[string]answer, len(h.Sizes))
	for _, size := range h.Sizes {
		header := h.Header.Clone()
		header.Set("Content-Length", strconv.Itoa(size))
		h.answers[strconv.Itoa(size)] = answer{header, []byte(strings.Repeat("x", size))}
	}
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	size, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	a, ok := h.answers[size]
	if !ok {
		return next.ServeHTTP(w, r)
	}
	header := w.Header()
	maps.Copy(header, a.header)
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(a.body)
	return err
}

func parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	m := &Handler{Header: make(http.Header)}
	h.Next()
	for h.NextArg() {
		size, err := strconv.Atoi(h.Val())
		if err != nil {
			return nil, h.Errf("size: %v", err)
		}
		m.Sizes = append(m.Sizes, size)
	}
	for h.NextBlock(0) {
		field := h.Val()
		if !h.NextArg() {
			return nil, h.WrapErr(fmt.Errorf("field %s: %w", field, h.ArgErr()))
		}
		m.Header.Add(field, h.Val())
	}
	return m, nil
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
