package purge

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// MethodPurge is the method by which plugins for Varnish and nginx purge.
const MethodPurge = "PURGE"

// Method answers PURGE at a site. Those who may send it say what they purge in the words of the
// software that they were made for; names.go has these words.
type Method struct {
	Allow  []netip.Prefix // addresses that may purge; all may where it is empty
	Fields []string       // request fields that carry tags, in their canonical form
	Own    []string       // tags that the directive adds to all that it stores
	Cache  Cache          // what is purged
	Logger *zap.Logger    // gets a line for each PURGE, and for those that are refused

	// Token returns the token that a request has to present. It is nil where none is needed. An
	// error means that no request can present it.
	Token func(*http.Request) (string, error)
	// Refusals counts those who may not purge.
	Refusals *Refusals
}

// Call is a PURGE, with what the server knows about it.
type Call struct {
	*http.Request
	Client netip.Addr // the client's address, behind trusted proxies; zero if it has none
	Target *url.URL   // as the client sent it, before any rewrite
	Sites  []Site     // where its page may be stored; none if no stored response can have its URL
}

// Site is how the URLs of a site begin.
type Site struct{ Scheme, Authority string }

// Serve answers a PURGE. now is the time.
func (m *Method) Serve(w http.ResponseWriter, call *Call, now time.Time) {
	if why := m.refusal(call); why != nil {
		m.refuse(w, call, why, now)
		return
	}
	selectors, err := m.selectors(call)
	if err != nil {
		m.Logger.Warn("a PURGE names nothing that can be purged", append(sender(call), zap.Error(err))...)
		writeAnswer(w, http.StatusBadRequest, failed{err.Error()})
		return
	}
	purged, err := m.Cache.Purge(context.WithoutCancel(call.Context()), selectors)
	logPurge(m.Logger, call.Request, selectors, purged, err, zap.String("method", MethodPurge), zap.String("client_ip", call.Client.String()))
	if err != nil {
		writeAnswer(w, http.StatusServiceUnavailable, failed{sentenceOf(err, false).Error()})
		return
	}
	writeAnswer(w, http.StatusOK, resultOf(&selectors, purged))
}

// refuse answers one who may not purge. The answer depends on nothing that is stored, and on
// nothing of the token but that it is not the right one.
func (m *Method) refuse(w http.ResponseWriter, call *Call, why *refused, now time.Time) {
	if wait := m.Refusals.count(call.Client, now); wait > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
		writeAnswer(w, http.StatusTooManyRequests, failed{"too many PURGE requests from this address that may not purge"})
		return
	}
	fields := append(sender(call), zap.Int("status", why.status))
	if why.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
		if _, err := m.Token(call.Request); err != nil {
			fields = append(fields, zap.Error(err)) // no request can present it
		}
	}
	m.Logger.Warn("a PURGE was refused", fields...)
	writeAnswer(w, why.status, failed{why.says})
}

// sender says in a log line who has sent a PURGE, and to which URL.
func sender(call *Call) []zap.Field {
	return []zap.Field{
		zap.String("remote_addr", call.RemoteAddr), zap.String("client_ip", call.Client.String()),
		zap.String("host", call.Host), zap.String("uri", call.Target.RequestURI()),
	}
}

// failed is the JSON of an answer that is not 200.
type failed struct {
	Error string `json:"error"`
}

// writeAnswer writes an answer that no cache in front may keep, and that no browser takes for a
// page: it may quote what the request says.
func writeAnswer(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil { // no value is one that cannot be encoded
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that has left does not undo the purge
}

// Foreseen is what a PURGE would be answered.
type Foreseen struct {
	Status    int       // the HTTP status
	Err       error     // why it is not 200
	Selectors Selectors // what it names
}

// Foresee returns what would become of a PURGE, and does nothing.
func (m *Method) Foresee(call *Call) Foreseen {
	if why := m.refusal(call); why != nil {
		return Foreseen{Status: why.status, Err: errors.New(why.says)}
	}
	selectors, err := m.selectors(call)
	if err != nil {
		return Foreseen{Status: http.StatusBadRequest, Err: err}
	}
	return Foreseen{Status: http.StatusOK, Selectors: selectors}
}
