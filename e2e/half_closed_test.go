package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// A client that closes its writing side when it has sent its request counts as gone, but still
// reads. It and the access log see what they see without Larder: 499 before the header, a body that
// breaks off after it.
func TestHalfClosedClient(t *testing.T) {
	for name, tc := range map[string]struct {
		directive string
		follows   bool
		early     bool   // it closes before the header
		reason    string // in the access log
	}{
		"without Larder, before the header": {"", false, true, ""},
		"without Larder, in mid-body":       {"", false, false, ""},
		"leader, before the header":         {"larder", false, true, "client-gone"},
		"leader, in mid-body":               {"larder", false, false, ""},
		"follower, before the header":       {"larder", true, true, "client-gone"},
		"follower, in mid-body":             {"larder", true, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rest := make(chan struct{})
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				w.Header().Set("Cache-Control", "max-age=60")
				twoParts(w, v, rest)
			})
			log := newAccessLog(t)
			s := proxied(tc.directive)
			s.site = log.directive() + s.site
			in := start(t, s, g.origin)
			ask := func() *connection {
				c := in.dial()
				c.send(fmt.Sprintf("GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n", in.port))
				return c
			}
			c := ask()
			v := g.next(t, 1)
			if tc.follows {
				parked(t, 1)
				c = ask()
				parked(t, 2)
			}
			status := statusOfHalfClosed(t, c, tc.early, func() { open(v...) })
			if entry := log.entry(t, http.MethodGet, "/"); entry["status"] != float64(status) || tc.reason != "" && entry["larder_reason"] != tc.reason {
				t.Errorf("access log: status %v, reason %v; want %d, %q", entry["status"], entry["larder_reason"], status, tc.reason)
			}
			if tc.early {
				open(v...)
			}
			close(rest)
			settled(t, in)
		})
	}
}

// statusOfHalfClosed closes the client's side before the header, or when it has read a part of the
// body that answer lets go, and returns the status that it read.
func statusOfHalfClosed(t *testing.T, c *connection, early bool, answer func()) int {
	t.Helper()
	half := func() {
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	if early {
		half()
		resp := c.response(http.MethodGet)
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode != 499 || len(body) > 0 || err != nil {
			t.Errorf("status %d, body %q, %v; want 499 and no body", resp.StatusCode, body, err)
		}
		return 499
	}
	answer()
	resp := c.response(http.MethodGet)
	part := make([]byte, len("first "))
	if _, err := io.ReadFull(resp.Body, part); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %q, %v", resp.StatusCode, part, err)
	}
	half()
	if more, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(more) > 0 {
		t.Errorf("after a part of the body: %q, %v; want it to break off", more, err)
	}
	return http.StatusOK
}
