package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// shop is an API with products at /products/{id} and /products?ids=, in an array, and prices at
// /prices/{id} and /prices/all/{ids}, in an object. It has no product below 0.
func shop(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Content-Type", "application/json")
	var many []string
	w.Header().Set("Etag", strconv.Quote(r.URL.Path))
	switch path := r.URL.Path; {
	case path == "/products":
		for id := range strings.SplitSeq(r.URL.Query().Get("ids"), ",") {
			if id[0] != '-' {
				many = append(many, product(id))
			}
		}
		_, _ = fmt.Fprintf(w, "{\"count\": %d,\n \"products\": [ %s ]}\n", len(many), strings.Join(many, " , "))
	case strings.HasPrefix(path, "/prices/all/"):
		for id := range strings.SplitSeq(path[len("/prices/all/"):], ",") {
			many = append(many, strconv.Quote(id)+": "+price(id))
		}
		_, _ = io.WriteString(w, "{"+strings.Join(many, ",")+"}")
	case strings.HasPrefix(path, "/prices/"):
		_, _ = io.WriteString(w, price(path[len("/prices/"):]))
	case strings.HasPrefix(path, "/products/-"):
		w.WriteHeader(http.StatusNotFound)
	case strings.HasPrefix(path, "/products/"):
		_, _ = io.WriteString(w, product(path[len("/products/"):]))
	default: // a page with forty products, as a resolver of GraphQL finds them
		_, _ = io.WriteString(w, `{"data":{"page":{"products":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,`+
			`21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40]}}}`)
	}
}

// product is one as the shop writes it: what a JSON library would write otherwise is a part of it.
func product(id string) string {
	return `{ "id":` + id + `, "price":19.90,"weight":1e3, "name":"Caf\u00e9 \/ <b>" }`
}

func price(id string) string { return `{"of":"` + id + `", "eur": 1.50}` }

// askAll has paths asked for at once.
func (in *instance) askAll(paths ...string) []*answer {
	answers := make([]*answer, len(paths))
	var wait sync.WaitGroup
	for i, path := range paths {
		wait.Go(func() {
			a, err := in.try(context.Background(), http.MethodGet, path, "")
			if err != nil {
				in.t.Error(err)
				a = &answer{Response: new(http.Response)}
			}
			answers[i] = a
		})
	}
	wait.Wait()
	return answers
}

func paths(format string, from, to int) (list []string) {
	for id := from; id <= to; id++ {
		list = append(list, fmt.Sprintf(format, id))
	}
	return list
}

// requested returns the targets that the upstream has been asked for since the last call.
func (o *origin) requested() (targets []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.seen {
		targets = append(targets, r.URL.RequestURI())
	}
	o.seen = nil
	slices.Sort(targets)
	return targets
}

// batching is a site with batches that are full with so many ids, and wait for no time in a test.
func batching(ids int, lines ...string) setup {
	more := strings.Join(lines, "\n")
	return setup{site: fmt.Sprintf(`larder {
		batch /products/{id} {
			url /products?ids={ids}
			items products
			id id
			tags product-{id}
			window 10s
			max %d
			%s
		}
		batch /prices/{id} {
			url /prices/all/{ids}
			window 10s
			max %d
		}
	}
	reverse_proxy {{origin}}`, ids, more, ids)}
}

// TestBatches: three products, and three prices, are one request upstream each. Each is stored by
// its own URL, byte by byte as it came, and purged by its own tag.
func TestBatches(t *testing.T) {
	o := newOrigin(t, shop)
	in := start(t, batching(3), o)
	before := in.metric("caddy_larder_fetches_total", `kind="batch",result="ok"`)
	for i, a := range in.askAll(paths("/products/%d", 1, 3)...) {
		a.want(t, 200, product(strconv.Itoa(i+1)), "Larder; fwd=uri-miss; stored")
		if a.Header.Get("Etag") != "" || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("the header of an item is %v", a.Header)
		}
	}
	for i, a := range in.askAll(paths("/prices/%d", 1, 3)...) {
		a.want(t, 200, price(strconv.Itoa(i+1)), "Larder; fwd=uri-miss; stored")
	}
	asked := o.requested()
	if len(asked) != 2 || !strings.HasPrefix(asked[0], "/prices/all/") || !strings.HasPrefix(asked[1], "/products?ids=") {
		t.Errorf("the origin was asked %q", asked)
	}
	if got := in.metric("caddy_larder_fetches_total", `kind="batch",result="ok"`) - before; got != 2 {
		t.Errorf("%v requests of the kind batch", got)
	}
	if got := in.purge(`{"tags":["product-2"]}`); got != 1 {
		t.Errorf("a purge of one product has matched %d", got)
	}
	for i, a := range in.askAll(paths("/products/%d", 1, 5)...) { // 2, 4 and 5 are one request
		if hit := i == 0 || i == 2; a.isHit() != hit {
			t.Errorf("product %d after the purge of 2: %s", i+1, a.cacheStatus())
		}
	}
}

// TestBatchesOfAThousand ids are ten requests, and one more for each window that ends before it is
// full, on a busy machine. When an answer takes a second there, ids are asked for alone as well.
func TestBatchesOfAThousand(t *testing.T) {
	o := newOrigin(t, shop)
	in, begun := start(t, batching(100), o), time.Now()
	for i, a := range in.askAll(paths("/products/%d", 1, 1000)...) {
		a.want(t, 200, product(strconv.Itoa(i+1)), "Larder; fwd=uri-miss; stored")
	}
	most := 10 + secondsSince(begun)/10
	if time.Since(begun) >= time.Second {
		most += 1000
	}
	if got := o.count(); got < 10 || got > most {
		t.Errorf("the origin was asked %d times, want 10 to %d", got, most)
	}
}

// TestBatchesThatAreOfNoUse: each request is answered as if it had been asked for alone.
func TestBatchesThatAreOfNoUse(t *testing.T) {
	for name, many := range map[string]http.HandlerFunc{
		"breaks off": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"products":[`+product("1")+`,`+product("2"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"breaks off in chunks": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, `{"products":[`+product("1")+`,`+product("2")+`]}`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"private": func(w http.ResponseWriter, r *http.Request) {
			shop(privately{w}, r)
		},
		"a failure":  answering(500),
		"a redirect": answering(302, "Location", "/"),
		"a login":    answering(200, "Content-Type", "text/html", "Cache-Control", "max-age=60"),
		"gzip all the same": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			shop(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/products" {
					many(w, r)
					return
				}
				shop(w, r)
			})
			in := start(t, batching(2), o)
			for i, a := range in.askAll("/products/1", "/products/2") {
				a.want(t, 200, product(strconv.Itoa(i+1)), "Larder; fwd=uri-miss; stored")
				if got, want := a.Header.Get("Etag"), fmt.Sprintf(`"/products/%d"`, i+1); got != want {
					t.Errorf("Etag %s, want that of its own answer, %s", got, want)
				}
			}
			o.asked(t, 3)
		})
	}
}

// privately answers for one client.
type privately struct{ http.ResponseWriter }

func (p privately) Write(b []byte) (int, error) {
	p.Header().Set("Cache-Control", "private")
	return p.ResponseWriter.Write(b)
}

// TestBatchesLackAnID: it is asked for alone, or a 404.
func TestBatchesLackAnID(t *testing.T) {
	for missing, asked := range map[string]int{"single": 2, "404": 1} {
		o := newOrigin(t, shop)
		in := start(t, batching(3, "missing "+missing), o)
		answers := in.askAll("/products/1", "/products/-1", "/products/2")
		answers[1].want(t, 404, "", "Larder; fwd=uri-miss; stored")
		answers[2].want(t, 200, product("2"), "Larder; fwd=uri-miss; stored")
		if got := o.requested(); len(got) != asked {
			t.Errorf("missing %s: the origin was asked %q", missing, got)
		}
		if a := in.get("/products/-1"); a.StatusCode != 404 || !a.isHit() {
			t.Errorf("missing %s: once more: %d %s", missing, a.StatusCode, a.cacheStatus())
		}
	}
}

// TestBatchesWithATooLargeItem: it goes to its client, and the others are stored.
func TestBatchesWithATooLargeItem(t *testing.T) {
	large := `{"id":2,"text":"` + strings.Repeat("x", 100<<10) + `"}`
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, `{"products":[`+product("1")+`,`+large+`]}`)
	})
	s := batching(2)
	s.site = strings.Replace(s.site, "larder {", "larder {\nmax_body 64KiB", 1)
	in := start(t, s, o)
	answers := in.askAll("/products/1", "/products/2")
	answers[0].want(t, 200, product("1"), "Larder; fwd=uri-miss; stored")
	answers[1].want(t, 200, large, "Larder; fwd=uri-miss")
	o.asked(t, 1)
}

// TestBatchesArePurgedWhileTheyAreFetched: what comes is not stored.
func TestBatchesArePurgedWhileTheyAreFetched(t *testing.T) {
	arrived, goOn := make(chan struct{}, 10), make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/products" {
			arrived <- struct{}{}
			<-goOn
		}
		shop(w, r)
	})
	in := start(t, batching(3), o)
	done := make(chan []*answer)
	go func() { done <- in.askAll(paths("/products/%d", 1, 3)...) }()
	<-arrived
	in.purge(`{"tags":["product-1"]}`)
	in.purge(fmt.Sprintf(`{"urls":[%q]}`, in.url("/products/2")))
	close(goOn)
	for i, a := range <-done {
		a.want(t, 200, product(strconv.Itoa(i+1)), "")
	}
	for i, a := range in.askAll(paths("/products/%d", 1, 4)...) { // 4 fills the batch
		if kept := i == 2; a.isHit() != kept {
			t.Errorf("product %d: %s", i+1, a.cacheStatus())
		}
	}
}

// TestBatchesBelowAPrefix: what is stripped in front of larder stays off the request for many, and
// handlers that ask for the original URL see the one for many.
func TestBatchesBelowAPrefix(t *testing.T) {
	o := newOrigin(t, shop)
	s := batching(2)
	s.site = "handle_path /api/* {\n" + s.site + " {\nheader_up X-Original {http.request.orig_uri}\n}\n}"
	in := start(t, s, o)
	for i, a := range in.askAll("/api/products/1", "/api/products/2") {
		a.want(t, 200, product(strconv.Itoa(i+1)), "Larder; fwd=uri-miss; stored")
	}
	o.asked(t, 1)
	if r := o.last(); r.URL.Path != "/products" || !strings.HasPrefix(r.Header.Get("X-Original"), "/api/products?ids=") {
		t.Errorf("the origin was asked for %s, originally %s", r.URL, r.Header.Get("X-Original"))
	}
}

// TestBatchExample: a page that finds forty products asks for each of them by itself. The API is
// asked for the page, and for the products as often as they do not come at the same time.
func TestBatchExample(t *testing.T) {
	port := freePort(t)
	o := newOriginAt(t, fmt.Sprintf("localhost:%d", port), shop)
	in := loadExample(t, example(t, "batch"), freePort(t), port)
	in.get("/page").want(t, 200, "", "Larder; fwd=uri-miss; stored")
	for i, a := range in.askAll(paths("/products/%d", 1, 40)...) {
		a.want(t, 200, product(strconv.Itoa(i+1)), "Larder; fwd=uri-miss; stored")
	}
	together := 0
	for _, target := range o.requested() {
		if strings.HasPrefix(target, "/products?ids=") {
			together += strings.Count(target, ",") + 1
		}
	}
	if together < 2 {
		t.Errorf("%d of 40 products were asked for together", together)
	}
	for _, a := range in.askAll(paths("/products/%d", 1, 40)...) {
		if !a.isHit() {
			t.Error(a.cacheStatus())
		}
	}
	o.asked(t, 0)
}
