package httpcache_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/store"
)

// A cache of 64 MiB before a handler of net/http. What the handler gives a lifetime is answered
// from memory until that is over.
func ExampleMiddleware() {
	origin := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Println("the handler is asked")
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "hello")
	})

	memory := store.New(store.Config{}, store.Settings{Memory: 64 << 20})
	if err := memory.Open(); err != nil {
		log.Fatal(err)
	}
	defer memory.Close()
	cache := httpcache.New(httpcache.Options{Store: memory})
	route := cache.NewRoute(httpcache.Rules{}, nil)

	server := httptest.NewServer(httpcache.Middleware(route)(origin)) // or http.ListenAndServe
	defer server.Close()
	for range 2 {
		response, err := http.Get(server.URL)
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		status, _, _ := strings.Cut(response.Header.Get("Cache-Status"), "; ttl=")
		fmt.Printf("%s: %s\n", body, status)
	}
	// Output:
	// the handler is asked
	// hello: Larder; fwd=uri-miss; stored
	// hello: Larder; hit
}
