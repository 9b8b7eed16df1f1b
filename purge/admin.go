package purge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// maxBodyBytes is the largest purge request that is read.
const maxBodyBytes = 1 << 20

func registerAdmin(cache func() Cache) {
	caddy.RegisterModule(&adminAPI{cache: cache})
}

// adminAPI is the router of the admin API:
//
//	POST /larder/purge    remove, or mark stale, what the selectors in the body match
//	GET  /larder/stats    what the cache holds and has done
//	GET  /larder/entries  a page of what is stored
//	GET  /larder/fleet    the machines that share the cache
//
// An error is a status of 400 or more and {"error":"…"}, one sentence that says what to send
// instead.
type adminAPI struct {
	cache func() Cache
}

// CaddyModule returns the Caddy module information.
func (a *adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.larder",
		New: func() caddy.Module { return &adminAPI{cache: a.cache} },
	}
}

// Routes returns the paths of the API. The last one answers all other paths, so that a misspelt one
// gets its error in JSON too.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/larder/purge", Handler: caddy.AdminHandlerFunc(a.servePurge)},
		{Pattern: "/larder/stats", Handler: caddy.AdminHandlerFunc(a.serveStats)},
		{Pattern: "/larder/entries", Handler: caddy.AdminHandlerFunc(a.serveEntries)},
		{Pattern: "/larder/fleet", Handler: caddy.AdminHandlerFunc(a.serveFleet)},
		{Pattern: "/larder/", Handler: caddy.AdminHandlerFunc(a.serveUnknown)},
	}
}

// purgeResult is the JSON that answers a purge.
type purgeResult struct {
	Matched int  `json:"matched"`
	Soft    bool `json:"soft"`
	DryRun  bool `json:"dry_run"`
	*Reach       // of a fleet
}

func (a *adminAPI) servePurge(w http.ResponseWriter, r *http.Request) error {
	if err := allowMethods(w, r, http.MethodPost); err != nil {
		return err
	}
	selectors, err := readSelectors(r)
	if err != nil {
		return err
	}
	cache, err := a.runningCache()
	if err != nil {
		return err
	}
	// A caller that leaves must not stop half a purge: whether it happened would depend on timing,
	// and no answer would tell.
	purged, err := cache.Purge(context.WithoutCancel(r.Context()), selectors)
	logPurge(caddy.Log().Named("admin.api.larder"), r, selectors, purged, err)
	switch {
	case errors.Is(err, ErrNotEverywhere):
		return unavailable(fmt.Errorf("the purge may not hold on every node; send it again: %w", err))
	case err != nil && selectors.DryRun:
		return unavailable(fmt.Errorf("the dry run could not count what is stored; send it again: %w", err))
	case err != nil:
		return unavailable(fmt.Errorf("the purge could not be made durable; send it again: %w", err))
	}
	return writeJSON(w, purgeResult{
		Matched: purged.Matched, Soft: selectors.Soft, DryRun: selectors.DryRun, Reach: purged.Reach.withoutNulls(),
	})
}

// withoutNulls makes missing lists empty ones: [] in JSON, not null.
func (r *Reach) withoutNulls() *Reach {
	if r == nil {
		return nil
	}
	return &Reach{Nodes: r.Nodes, Fenced: append([]string{}, r.Fenced...), Uncertain: append([]string{}, r.Uncertain...)}
}

// readSelectors decodes a purge request. The Content-Type is not looked at: curl -d labels every
// body as a form, and a label protects against nothing. Caddy's checks of Host and Origin keep
// browsers out.
func readSelectors(r *http.Request) (Selectors, error) {
	if r.URL.RawQuery != "" {
		return Selectors{}, badRequest(errors.New("a purge has no query string; send selectors and options in the JSON body"))
	}
	body, fits, err := readAll(r.Body, maxBodyBytes)
	if err != nil {
		return Selectors{}, badRequest(fmt.Errorf("the body ended early; send it whole: %w", err))
	}
	if !fits {
		return Selectors{}, caddy.APIError{
			HTTPStatus: http.StatusRequestEntityTooLarge,
			Err:        errors.New("the body is larger than 1 MiB; send the selectors in several requests"),
		}
	}
	selectors, err := decodeSelectors(body)
	if err != nil {
		return Selectors{}, badRequest(err)
	}
	return selectors, nil
}

func (a *adminAPI) serveStats(w http.ResponseWriter, r *http.Request) error {
	if err := allowMethods(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	cache, err := a.runningCache()
	if err != nil {
		return err
	}
	return writeJSON(w, cache.Stats())
}

func (a *adminAPI) serveEntries(w http.ResponseWriter, r *http.Request) error {
	if err := allowMethods(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	query, err := decodeQuery(r.URL.RawQuery)
	if err != nil {
		return badRequest(err)
	}
	cache, err := a.runningCache()
	if err != nil {
		return err
	}
	listing, err := cache.Entries(query)
	switch {
	case errors.Is(err, ErrCursor):
		return badRequest(fmt.Errorf("cursor: %w; send the \"next\" of the page before", err))
	case err != nil:
		return unavailable(fmt.Errorf("the entries could not be read: %w", err))
	}
	return writeJSON(w, withoutNulls(listing))
}

// withoutNulls makes missing lists empty ones: [] in JSON, not null.
func withoutNulls(l Listing) Listing {
	entries := make([]Entry, len(l.Entries))
	for i, item := range l.Entries {
		if item.Tags == nil {
			item.Tags = []string{}
		}
		entries[i] = item
	}
	l.Entries = entries
	return l
}

func (a *adminAPI) serveUnknown(http.ResponseWriter, *http.Request) error {
	return notFound(errors.New("no such path; send POST /larder/purge, GET /larder/stats, GET /larder/entries or GET /larder/fleet"))
}

// runningCache returns the cache that serves requests now.
func (a *adminAPI) runningCache() (Cache, error) {
	if cache := a.cache(); cache != nil {
		return cache, nil
	}
	return nil, unavailable(errors.New("no cache is running; load a configuration that has larder in it"))
}

func allowMethods(w http.ResponseWriter, r *http.Request, methods ...string) error {
	if slices.Contains(methods, r.Method) {
		return nil
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return caddy.APIError{
		HTTPStatus: http.StatusMethodNotAllowed,
		Err:        fmt.Errorf("method %s is not allowed here; send %s", quote(r.Method), methods[0]),
	}
}

func badRequest(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
}

func notFound(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
}

func unavailable(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
}

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
		caddy.Log().Named("admin.api.larder").Debug("writing the answer", zap.Error(err))
	}
	return nil
}

// Interface guards.
var (
	_ caddy.Module      = (*adminAPI)(nil)
	_ caddy.AdminRouter = (*adminAPI)(nil)
)
