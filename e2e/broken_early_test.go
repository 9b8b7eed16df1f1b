package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// breaksOff answers with a header, and with part of a body where there is one, and then breaks its
// connection.
func breaksOff(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("X-Origin", "yes")
	if r.URL.Query().Has("length") {
		w.Header().Set("Content-Length", "1000")
	}
	_, _ = io.WriteString(w, r.URL.Query().Get("part"))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// A client whose answer breaks off before its first byte, or with all of it still in a buffer, sees
// the header and then a body that breaks off, as without Larder; so does the access log.
func TestLeaderSeesTheHeaderOfWhatBreaksOff(t *testing.T) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	h2 := &http.Transport{Protocols: &protocols, DisableCompression: true}
	t.Cleanup(h2.CloseIdleConnections)
	for name, query := range map[string]string{
		"Content-Length":           "length",
		"chunked":                  "chunked",
		"Content-Length, one byte": "length&part=x",
		"chunked, one byte":        "part=x",
	} {
		for proto, transport := range map[string]*http.Transport{"HTTP/1.1": nil, "h2": h2} {
			t.Run(name+", "+proto, func(t *testing.T) {
				log := newAccessLog(t)
				o := newQuietOrigin(t, breaksOff)
				s := setup{
					global: "servers {\nprotocols h1 h2c\n}",
					site: log.directive() + "@with path /with\nroute @with {\nlarder\nreverse_proxy {{origin}}\n}\n" +
						"reverse_proxy {{origin}}",
				}
				in := start(t, s, o)
				if transport != nil {
					in.client.Transport = transport
				}
				want, got := in.get("/without?"+query), in.get("/with?"+query)
				if want.err == nil || got.err == nil {
					t.Errorf("the body ends with %v, without Larder with %v; want errors", got.err, want.err)
				}
				differences(t, name, want, got)
				if got.ContentLength != want.ContentLength || fmt.Sprint(got.TransferEncoding) != fmt.Sprint(want.TransferEncoding) {
					t.Errorf("length %d %v, without Larder %d %v", got.ContentLength, got.TransferEncoding, want.ContentLength, want.TransferEncoding)
				}
				a := log.entry(t, http.MethodGet, "/without?"+query)
				b := log.entry(t, http.MethodGet, "/with?"+query)
				if a["status"] != b["status"] || b["status"] != float64(http.StatusOK) {
					t.Errorf("the access log has status %v, without Larder %v", b["status"], a["status"])
				}
				if !strings.Contains(query, "part") && b["larder_reason"] != "incomplete" {
					t.Errorf("the access log has reason %v, want incomplete", b["larder_reason"])
				}
			})
		}
	}
}

// Those who wait for what breaks off twice before its first byte get an error that handle_errors
// treats; the one whose fetch was the first sees what it would see alone.
func TestFollowersOfWhatBreaksOffTwice(t *testing.T) {
	const followers = 3
	ts := newTurnstile(t, func(_ int, w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		breaksOff(w, r)
		return nil
	})
	in := start(t, setup{site: "route {\nlarder\ntest_breaker\n}\nhandle_errors {\nrespond \"{err.status_code} handled\" 502\n}"}, nil)
	leader := in.dial()
	leader.send(fmt.Sprintf("GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n", in.port))
	parked(t, 1)
	c := gather(t, in, followers, http.MethodGet, "/", nil)
	parked(t, 1+followers)
	ts.let(t)
	parked(t, followers)
	ts.let(t)
	for _, a := range c.all() {
		if a.StatusCode != http.StatusBadGateway || a.body != "502 handled" {
			t.Errorf("a follower got %d %q, want a 502 by handle_errors", a.StatusCode, a.body)
		}
	}
	resp := leader.response(http.MethodGet)
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Origin") != "yes" || len(body) > 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the leader got %d %v %q, %v; want the header and a body that breaks off", resp.StatusCode, resp.Header, body, err)
	}
	settled(t, in)
}
