package larder

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The whole of a hit, from Caddy's request to the response written, as the cache grows and as
// goroutines do:
//
//	go test -run '^$' -bench Scale -cpu 1,2 ./store .

func BenchmarkScaleEntries(b *testing.B) {
	for _, n := range []int{1e3, 1e4, 1e5, 1e6} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := filledHandler(b, n)
			client := newScaleClient()
			for i := 0; b.Loop(); i++ {
				client.hit(b, h, i*7919%n)
			}
		})
	}
}

func BenchmarkScaleGoroutines(b *testing.B) {
	for _, each := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprint(each), func(b *testing.B) {
			const n = 10_000
			h := filledHandler(b, n)
			b.SetParallelism(each)
			b.RunParallel(func(pb *testing.PB) {
				client := newScaleClient()
				for i := 0; pb.Next(); i++ {
					client.hit(b, h, i*7919%n)
				}
			})
		})
	}
}

// scaleClient asks for one page after the other. What Caddy makes for each request is part of the
// cost.
type scaleClient struct {
	w      *nullWriter
	r      *http.Request
	server *caddyhttp.Server
}

func newScaleClient() *scaleClient {
	r := httptest.NewRequest(http.MethodGet, "http://example.com/", nil)
	r.Header.Set("Accept-Encoding", "gzip, br")
	return &scaleClient{&nullWriter{make(http.Header)}, r, new(caddyhttp.Server)}
}

func (c *scaleClient) ask(h *Handler, page int, next caddyhttp.Handler) error {
	clear(c.w.header)
	c.r.URL.Path = fmt.Sprintf("/pages/%d", page)
	c.r.RequestURI = c.r.URL.Path
	return h.ServeHTTP(c.w, caddyhttp.PrepareRequest(c.r, caddy.NewReplacer(), c.w, c.server), next)
}

func (c *scaleClient) hit(b *testing.B, h *Handler, page int) {
	if err := c.ask(h, page, nil); err != nil {
		b.Fatal(err)
	}
	if status := c.w.header["Cache-Status"]; len(status) != 1 || !strings.HasPrefix(status[0], "Larder; hit") {
		b.Fatalf("no hit: %v", c.w.header)
	}
}

// filledHandler is a handler whose store holds n pages.
func filledHandler(b *testing.B, n int) *Handler {
	h := newTestHandlerWith(b, `{"disk":{"off":true},"memory":8589934592}`)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header()["Cache-Control"] = []string{"max-age=3600"}
		_, err := io.WriteString(w, "a page")
		return err
	})
	client := newScaleClient()
	for page := range n {
		if err := client.ask(h, page, next); err != nil {
			b.Fatal(err)
		}
		client.hit(b, h, page) // the first hit concludes what the others find done
	}
	b.ReportAllocs()
	return h
}
