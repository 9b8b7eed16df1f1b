package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A body that goes on past its Content-Length is no clean answer: as many bytes as were announced are not known to be the response.
func TestOverlongBody(t *testing.T) {
	whole := strings.Repeat("0123456789abcdef", 4096) // more than net/http keeps back
	for name, writes := range map[string][]string{
		"in one write":              {whole + " and more"},
		"after the announced bytes": {whole, " and more"},
	} {
		for how, status := range map[string]func(err error) error{
			"noticed":      func(err error) error { return err },
			"not noticed":  func(error) error { return nil },
			"by a panic":   func(error) error { panic(http.ErrAbortHandler) },
			"as an answer": func(err error) error { return caddyhttp.Error(http.StatusBadGateway, err) },
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				const n = 3
				read := make(chan struct{}) // all have had the announced bytes
				ts := newTurnstile(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
					w.Header().Set("Cache-Control", "max-age=60")
					w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
					var err error
					for i, p := range writes {
						if i > 0 {
							<-read
						}
						if _, e := io.WriteString(w, p); e != nil {
							err = e
						}
					}
					return status(err)
				})
				in := start(t, setup{site: "route {\nlarder\ntest_breaker\n}"}, nil)
				c := gather(t, in, n, http.MethodGet, "/", nil)
				parked(t, n)
				ts.let(t)
				if len(writes) == 1 { // it breaks off before its first byte, so there is another fetch for those who wait
					parked(t, n-1)
					ts.let(t)
				} else {
					eventually(t, "all have read", func() bool { return goroutinesIn(awaitingTheStore) == n })
					close(read)
				}
				c.clients.Wait()
				for i := range c.answers {
					if got := sketch(c.answers[i], c.errs[i]); got != "" && c.answers[i].StatusCode == http.StatusOK {
						t.Errorf("client %d got a clean answer of %d bytes", i, len(c.answers[i].body))
					}
				}
				settled(t, in)
				if st := in.stats(); st.Memory.Entries != 0 {
					t.Errorf("%d entries are stored", st.Memory.Entries)
				}
			})
		}
	}
}

// What is for one client goes to its real writer, whose connection an inner handler may take over.
func TestHijackOfWhatIsNotShared(t *testing.T) {
	ts := newTurnstile(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
		w.Header().Set("Upgrade", "echo")
		w.Header().Set("Connection", "Upgrade")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return fmt.Errorf("hijacking: %w", err)
		}
		defer conn.Close()
		line, err := rw.ReadString('\n')
		if err != nil {
			return err
		}
		_, _ = rw.WriteString("echo " + line)
		return rw.Flush()
	})
	in := start(t, setup{site: "route {\nlarder\ntest_breaker\n}"}, nil)
	c := in.dial()
	c.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") // without Upgrade, with which it would bypass
	parked(t, 1)
	ts.let(t)
	if resp := c.response(http.MethodGet); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	c.send("hello\n")
	if got, err := c.r.ReadString('\n'); err != nil || got != "echo hello\n" {
		t.Errorf("%q, %v", got, err)
	}
	_ = c.Close()
	settled(t, in)
}
