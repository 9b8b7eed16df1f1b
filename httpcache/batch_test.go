package httpcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/batch"
	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/store"
)

// shop is an origin with products: one at /products/{id}, many at /products?ids=. It notes what it
// is asked.
type shop struct {
	mu    sync.Mutex
	asked []string

	// many answers for many ids in place of the shop, if it is set.
	many handlerFunc
	// single does for one id alone, nil for the usual.
	single handlerFunc
	// lacks are the ids that it has no product of.
	lacks []string
}

const shopLifetime = "max-age=60"

// product is a product as the shop writes it: with spaces, an escape and a number of its own form.
func product(id string) string {
	return `{"id": "` + id + `", "price":1.50, "name":"caf\u00e9" }`
}

func (s *shop) serve(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.RequestURI())
	many := s.many
	s.mu.Unlock()
	if id, single := strings.CutPrefix(r.URL.Path, "/products/"); single {
		if s.single != nil {
			return s.single(w, r)
		}
		w.Header().Set("Cache-Control", shopLifetime)
		w.Header().Set("Etag", `"`+id+`"`)
		if slices.Contains(s.lacks, id) {
			w.WriteHeader(http.StatusNotFound)
			return nil
		}
		_, err := io.WriteString(w, product(id))
		return err
	}
	if many != nil {
		return many(w, r)
	}
	return s.products(w, r)
}

// products answers for many ids.
func (s *shop) products(w http.ResponseWriter, r *http.Request) error {
	var products []string
	for id := range strings.SplitSeq(r.URL.Query().Get("ids"), ",") {
		if !slices.Contains(s.lacks, id) {
			products = append(products, product(id))
		}
	}
	for name, value := range map[string]string{
		"Cache-Control": shopLifetime, "Content-Type": "application/json", "Etag": `"all"`, "Last-Modified": "Mon, 02 Jan 2023 03:04:05 GMT",
		"Content-Location": "/products", "X-Shop": "yes",
	} {
		w.Header().Set(name, value)
	}
	_, err := io.WriteString(w, `{"products":[ `+strings.Join(products, " ,\n")+` ]}`)
	return err
}

// take returns what the shop was asked since the last call, in order of the text.
func (s *shop) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	slices.Sort(asked)
	return asked
}

// shopRule is the rule for the shop, changed by change.
func shopRule(t *testing.T, change func(*batch.Config)) *batch.Rule {
	t.Helper()
	c := batch.Config{Path: "/products/{id}", URL: "/products?ids={ids}", Items: "products", ID: "id", Tags: []string{"product-{id}"}}
	if change != nil {
		change(&c)
	}
	rule, err := batch.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return rule
}

// newShop returns a handler with the rule in front of a shop.
func newShop(t *testing.T, change func(*batch.Config)) (*testHandler, *shop) {
	h := newTestHandler(t)
	h.Batches = []*batch.Rule{shopRule(t, change)}
	return h, new(shop)
}

// requestFor returns a request for a path, with header fields given as pairs.
func requestFor(path string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://example.com"+path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// reply is how a request is answered: what came, or the status of the error.
type reply struct {
	*httptest.ResponseRecorder
	err error
}

func (r reply) String() string {
	if r.err != nil {
		return "error " + strconv.Itoa(statusOf(r.err))
	}
	return fmt.Sprintf("%d %s [%s]", r.Code, r.Body, r.Header().Get("Cache-Status"))
}

// serveAll has all requests answered at once.
func serveAll(h *testHandler, s *shop, requests ...*http.Request) []reply {
	replies := make([]reply, len(requests))
	var wait sync.WaitGroup
	for i, r := range requests {
		replies[i].ResponseRecorder = httptest.NewRecorder()
		wait.Go(func() { replies[i].err = h.ServeHTTP(replies[i].ResponseRecorder, r, s.serve) })
	}
	wait.Wait()
	return replies
}

// askFor has the products with these ids asked for at once.
func askFor(h *testHandler, s *shop, ids ...string) []reply {
	requests := make([]*http.Request, len(ids))
	for i, id := range ids {
		requests[i] = requestFor("/products/" + id)
	}
	return serveAll(h, s, requests...)
}

func expectAsked(t *testing.T, s *shop, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := s.take(); !slices.Equal(got, want) {
		t.Errorf("the origin was asked %q, want %q", got, want)
	}
}

// idsOf returns the ids of a request for many, sorted.
func idsOf(target string) []string {
	_, ids, _ := strings.Cut(target, "ids=")
	list := strings.Split(ids, ",")
	slices.Sort(list)
	return list
}

// TestBatch: requests for three products at once are one at the origin, and each is stored.
func TestBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		counts := new(ledger)
		h.cache.metrics = counts
		s.many = func(w http.ResponseWriter, r *http.Request) error {
			time.Sleep(time.Millisecond)
			return s.products(w, r)
		}
		ids := []string{"7", "8", "a b"}
		for i, reply := range askFor(h, s, "7", "8", "a%20b") {
			if want := "200 " + product(ids[i]) + " [Larder; fwd=uri-miss; stored]"; reply.String() != want {
				t.Errorf("%s\nwant %s", reply, want)
			}
			for _, name := range []string{"Etag", "Last-Modified", "Content-Location"} {
				if value := reply.Header()[name]; len(value) > 0 {
					t.Errorf("an item has %s: %s of the answer for all", name, value)
				}
			}
			if got := reply.Header().Get("Content-Length"); got != strconv.Itoa(len(product(ids[i]))) {
				t.Errorf("Content-Length %s", got)
			}
			if got := reply.Header().Get("X-Shop") + reply.Header().Get("Content-Type"); got != "yesapplication/json" {
				t.Errorf("the fields of the answer are %v", reply.Header())
			}
		}
		asked := s.take()
		if len(asked) != 1 || !slices.Equal(idsOf(asked[0]), []string{"7", "8", "a%20b"}) {
			t.Errorf("the origin was asked %q", asked)
		}
		fetches := slices.DeleteFunc(counts.take(h), func(line string) bool { return strings.HasPrefix(line, "miss ") })
		if want := []string{"batch: ok of http://example.com/products/{id}"}; !slices.Equal(fetches, want) {
			t.Errorf("counted %q, want %q", fetches, want)
		}
		for _, reply := range askFor(h, s, "7", "8", "a%20b") {
			if !strings.HasSuffix(reply.String(), "[Larder; hit; ttl=60]") {
				t.Errorf("%s, want a hit", reply)
			}
		}
		expectAsked(t, s)
	})
}

// TestBatchOneIDAlone: it asks on its own when the window is over, and one id for two does, too.
func TestBatchOneIDAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		begun := time.Now()
		if got := askFor(h, s, "7", "7")[0].String(); !strings.HasPrefix(got, "200 "+product("7")) {
			t.Error(got)
		}
		if took := time.Since(begun); took != batch.DefaultWindow {
			t.Errorf("it took %s", took)
		}
		expectAsked(t, s, "/products/7")
	})
}

// TestBatchThousand: a thousand ids are ten requests, and none waits for the window.
func TestBatchThousand(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		ids := make([]string, 1000)
		for i := range ids {
			ids[i] = strconv.Itoa(i)
		}
		begun := time.Now()
		for i, reply := range askFor(h, s, ids...) {
			if want := "200 " + product(ids[i]) + " [Larder; fwd=uri-miss; stored]"; reply.String() != want {
				t.Fatalf("%s\nwant %s", reply, want)
			}
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %s", took)
		}
		if asked := s.take(); len(asked) != 10 {
			t.Errorf("%d requests", len(asked))
		}
	})
}

// TestBatchOfNoUse: whatever is wrong with the answer for many, each request asks on its own and
// gets what it would have got without.
func TestBatchOfNoUse(t *testing.T) {
	write := func(w http.ResponseWriter, status int, body string, header ...string) error {
		w.Header().Set("Cache-Control", shopLifetime)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, err := io.WriteString(w, body)
		return err
	}
	both := `{"products":[` + product("7") + `,` + product("8") + `]}`
	for name, test := range map[string]struct {
		many handlerFunc
		want batchOutcome
	}{
		"no 200":    {func(w http.ResponseWriter, _ *http.Request) error { return write(w, 203, both) }, batchStatus},
		"a failure": {func(w http.ResponseWriter, _ *http.Request) error { return write(w, 500, both) }, batchStatus},
		"a 4xx":     {func(w http.ResponseWriter, _ *http.Request) error { return write(w, 414, "") }, batchStatus},
		"no JSON":   {func(w http.ResponseWriter, _ *http.Request) error { return write(w, 200, "<p>Sorry</p>") }, batchUnreadable},
		"nothing":   {func(http.ResponseWriter, *http.Request) error { return nil }, batchFailed},
		"no items":  {func(w http.ResponseWriter, _ *http.Request) error { return write(w, 200, `{"products":7}`) }, batchUnreadable},
		"private": {func(w http.ResponseWriter, _ *http.Request) error {
			return write(w, 200, both, "Cache-Control", "private, max-age=60")
		}, batchNotStorable},
		"no-store": {func(w http.ResponseWriter, _ *http.Request) error {
			return write(w, 200, both, "Cache-Control", "no-store")
		}, batchNotStorable},
		"a cookie": {func(w http.ResponseWriter, _ *http.Request) error { return write(w, 200, both, "Set-Cookie", "a=b") }, batchNotStorable},
		"Vary: *":  {func(w http.ResponseWriter, _ *http.Request) error { return write(w, 200, both, "Vary", "*") }, batchNotStorable},
		"a coding": {func(w http.ResponseWriter, _ *http.Request) error {
			return write(w, 200, both, "Content-Encoding", "gzip")
		}, batchCoded},
		"a length too few": {func(w http.ResponseWriter, _ *http.Request) error {
			return write(w, 200, both, "Content-Length", "2000")
		}, batchBrokeOff},
		"a length too much": {func(w http.ResponseWriter, _ *http.Request) error { return write(w, 200, both, "Content-Length", "20") }, batchBrokeOff},
		"a body that breaks off": {func(w http.ResponseWriter, _ *http.Request) error {
			_ = write(w, 200, both) // whole, as far as one can see
			panic(http.ErrAbortHandler)
		}, batchBrokeOff},
		"an error": {func(http.ResponseWriter, *http.Request) error { return fail(502, errors.New("no connection")) }, batchFailed},
		"a panic":  {func(http.ResponseWriter, *http.Request) error { panic("a bug") }, batchFailed},
		"a large length": {func(w http.ResponseWriter, _ *http.Request) error {
			return write(w, 200, "", "Content-Length", "99999999999")
		}, batchTooLarge},
		"a large body": {func(w http.ResponseWriter, _ *http.Request) error {
			return write(w, 200, strings.Repeat(" ", 1<<20)+both)
		}, batchTooLarge},
		"neither": {func(w http.ResponseWriter, _ *http.Request) error { return write(w, 200, `{"products":[]}`) }, batchLacking},
		"each twice": {func(w http.ResponseWriter, _ *http.Request) error {
			return write(w, 200, `{"products":[`+strings.Repeat(product("7")+","+product("8")+",", 2)+`0]}`)
		}, batchAmbiguous},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h, s := newShop(t, nil)
				settings := h.cache.store.Settings()
				settings.MaxBody = 512 << 10
				h.cache.store.Apply(settings)
				s.many = test.many
				before := h.cache.store.Stats().Memory.Bytes
				explained := requestFor("/products/7")
				p := &plainRequest{next: s.serve}
				trace := p.Explain()
				w, other := httptest.NewRecorder(), make(chan reply, 1)
				go func() { other <- askFor(h, s, "8")[0] }()
				if err := h.Serve(&p.Request, w, explained, new(IdentityOf(explained)), p); err != nil {
					t.Fatal(err)
				}
				for id, reply := range map[string]reply{"7": {w, nil}, "8": <-other} {
					if want := "200 " + product(id) + " [Larder; fwd=uri-miss; stored"; !strings.HasPrefix(reply.String(), want) {
						t.Errorf("%s\nwant %s]", reply, want)
					}
					if reply.Header().Get("Etag") != `"`+id+`"` {
						t.Errorf("the header is not that of its own answer: %v", reply.Header())
					}
				}
				if asked := s.take(); len(asked) != 3 {
					t.Errorf("the origin was asked %q, want one for both and one for each", asked)
				}
				e := trace.Explanation()
				want := askedTogether + " 2 ids were, but " + test.want.String()
				if name == "nothing" {
					want += ": " + errUnwritten.Error()
				}
				if !strings.Contains(e.answers(), want) {
					t.Errorf("no %q in\n%s", want, e.answers())
				}
				h.awaitIdle()
				h.purgeAll(t)
				if after := h.cache.store.Stats().Memory.Bytes; after > before {
					t.Errorf("%d bytes are counted after it, %d before", after, before)
				}
			})
		})
	}
}

func (h *testHandler) purgeAll(t *testing.T) {
	t.Helper()
	if _, err := h.cache.store.Purge(store.Selectors{All: true}, store.PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute) // it is deleted in the background
}

// TestBatchLacksAnID: it asks on its own, or is answered with a 404 that is stored as long as the
// answer is.
func TestBatchLacksAnID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		s.lacks = []string{"9"}
		replies := askFor(h, s, "7", "8", "9")
		if got := replies[2].String(); got != "404  [Larder; fwd=uri-miss; stored]" {
			t.Error(got)
		}
		if asked := s.take(); len(asked) != 2 || asked[0] != "/products/9" {
			t.Errorf("the origin was asked %q", asked)
		}
	})
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, func(c *batch.Config) { c.Missing = batch.Missing404 })
		s.lacks = []string{"9"}
		missing := askFor(h, s, "7", "8", "9")[2]
		if got := missing.String(); got != "404  [Larder; fwd=uri-miss; stored]" {
			t.Error(got)
		}
		if got := missing.Header().Get("Content-Type"); got != "" {
			t.Errorf("what has no body has Content-Type %q", got)
		}
		if got := askFor(h, s, "9")[0].String(); got != "404  [Larder; hit; ttl=60]" {
			t.Error(got)
		}
		if asked := s.take(); len(asked) != 1 {
			t.Errorf("the origin was asked %q", asked)
		}
		if n, err := h.cache.store.Purge(store.Selectors{Tags: []string{"product-9"}}, store.PurgeOptions{}); n != 1 || err != nil {
			t.Errorf("a purge by its tag has found %d: %v", n, err)
		}
	})
}

// TestBatchItemTooLarge: it is passed on whole and not stored, as a response of its own would be.
func TestBatchItemTooLarge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		h.MaxBody = 1 << 10
		large := `{"id":8,"text":"` + strings.Repeat("x", 2<<10) + `"}`
		s.many = func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", shopLifetime)
			_, err := io.WriteString(w, `{"products":[`+product("7")+`,`+large+`]}`)
			return err
		}
		replies := askFor(h, s, "7", "8")
		if got := replies[0].String(); !strings.HasSuffix(got, "; stored]") {
			t.Error(got)
		}
		if got, want := replies[1].String(), "200 "+large+" [Larder; fwd=uri-miss]"; got != want {
			t.Errorf("%.100s, want %.100s", got, want)
		}
		if asked := s.take(); len(asked) != 1 {
			t.Errorf("the origin was asked %q", asked)
		}
	})
}

// TestBatchApart: what differs in more than the id is not put together, and what is one client's
// asks on its own at once.
func TestBatchApart(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*http.Request)
		alone  bool // it does not wait for the window
	}{
		"another Accept":      {func(r *http.Request) { r.Header.Set("Accept", "application/json") }, false},
		"another host":        {func(r *http.Request) { r.Host = "other.example" }, false},
		"another keyed field": {func(r *http.Request) { r.Header.Set("X-Lang", "de") }, false},
		"directives":          {func(r *http.Request) { r.Header.Set("Cache-Control", "no-cache") }, false},
		"a loop":              {func(r *http.Request) { r.Header.Set("Cdn-Loop", "larder") }, false},
		"a query":             {func(r *http.Request) { r.URL.RawQuery = "full=1" }, true},
		"a question mark":     {func(r *http.Request) { r.URL.ForceQuery = true }, true},
		"Authorization":       {func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, true},
		"a cookie":            {func(r *http.Request) { r.Header.Set("Cookie", "session=1") }, true},
		"Range":               {func(r *http.Request) { r.Header.Set("Range", "bytes=0-1") }, true},
		"HEAD":                {func(r *http.Request) { r.Method = http.MethodHead }, true},
		"two ids in one":      {func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/products/8,9", "/products/8%2C9" }, true},
		"a long id":           {func(r *http.Request) { r.URL.Path = "/products/" + strings.Repeat("x", 257) }, true},
		"no-store":            {func(r *http.Request) { r.Header.Set("Cache-Control", "no-store") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h, s := newShop(t, nil)
				h.Key.Headers = []string{"X-Lang"}
				h.Key.Query = QueryRules{Ignore: []string{"utm_*"}}
				other := requestFor("/products/8")
				test.change(other)
				begun := time.Now()
				serveAll(h, s, requestFor("/products/7?utm_source=mail"), other)
				if took := time.Since(begun); took != batch.DefaultWindow {
					t.Errorf("it took %s", took)
				}
				asked := s.take()
				if len(asked) != 2 || slices.ContainsFunc(asked, func(target string) bool { return strings.Contains(target, "ids=") }) {
					t.Errorf("the origin was asked %q, want one by one", asked)
				}
				w := httptest.NewRecorder()
				again := requestFor("/products/6")
				test.change(again)
				begun = time.Now()
				_ = h.ServeHTTP(w, again, s.serve)
				if took := time.Since(begun); (took == 0) != test.alone {
					t.Errorf("on its own it took %s", took)
				}
			})
		})
	}
}

// TestBatchIgnoredQuery: a parameter that the key leaves out keeps nothing apart.
func TestBatchIgnoredQuery(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		h.Key.Query = QueryRules{Ignore: []string{"utm_*"}}
		serveAll(h, s, requestFor("/products/7?utm_source=mail"), requestFor("/products/8"))
		if asked := s.take(); len(asked) != 1 {
			t.Errorf("the origin was asked %q, want both at once", asked)
		}
	})
}

// TestBatchVary: an answer that was selected by a field is no answer to those who have it
// otherwise.
func TestBatchVary(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		var first sync.Once
		languages := make(map[string]bool)
		s.many = func(w http.ResponseWriter, r *http.Request) error {
			first.Do(func() { languages[r.Header.Get("Accept-Language")] = true })
			if got := r.Header.Get("Accept-Encoding"); got != "identity" {
				t.Errorf("it is asked for with Accept-Encoding %q", got)
			}
			w.Header().Set("Vary", "Accept-Language, Accept-Encoding")
			return s.products(w, r)
		}
		replies := serveAll(h, s,
			requestFor("/products/7", "Accept-Language", "de", "Accept-Encoding", "gzip"),
			requestFor("/products/8", "Accept-Language", "fr", "Accept-Encoding", "gzip"),
			requestFor("/products/9", "Accept-Language", "de", "Accept-Encoding", "br"),
			requestFor("/products/10", "Accept-Language", "fr"))
		for _, reply := range replies {
			if reply.Code != 200 || !strings.HasSuffix(reply.String(), "; stored]") {
				t.Error(reply)
			}
		}
		asked := s.take()
		if len(asked) != 3 {
			t.Errorf("the origin was asked %q, want one for all and one for each of the other language", asked)
		}
		others := []string{"/products/8", "/products/10"}
		if languages["fr"] {
			others = []string{"/products/7", "/products/9"}
		}
		for _, other := range others {
			if !slices.Contains(asked, other) {
				t.Errorf("%s was not asked for alone: %q", other, asked)
			}
		}
		serveAll(h, s, requestFor("/products/7", "Accept-Language", "de", "Accept-Encoding", "gzip"), requestFor("/products/9", "Accept-Language", "de", "Accept-Encoding", "br"))
		expectAsked(t, s)
	})
}

// TestBatchPurge: no purge loses a race with a request for many, whenever it is issued after the
// window has begun.
func TestBatchPurge(t *testing.T) {
	for name, selectors := range map[string]store.Selectors{
		"tag": {Tags: []string{"product-7"}}, "all": {All: true}, "host": {Hosts: []string{"example.com"}},
		"the answer's tag": {Tags: []string{"all-products"}},
	} {
		for _, inWindow := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, in the window %t", name, inWindow), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					h, s := newShop(t, nil)
					arrived, goOn := make(chan struct{}, 1), make(chan struct{})
					s.many = func(w http.ResponseWriter, r *http.Request) error {
						arrived <- struct{}{}
						<-goOn
						w.Header().Set("Surrogate-Key", "all-products")
						return s.products(w, r)
					}
					done := make(chan []reply)
					go func() { done <- askFor(h, s, "7", "8") }()
					if inWindow {
						synctest.Wait() // they wait for others
					} else {
						<-arrived
					}
					if _, err := h.cache.store.Purge(selectors, store.PurgeOptions{}); err != nil {
						t.Fatal(err)
					}
					close(goOn)
					<-done
					s.take()
					reply := askFor(h, s, "7")[0]
					if strings.Contains(reply.String(), "Larder; hit") {
						t.Errorf("%s, from before the purge", reply)
					}
				})
			})
		}
	}
}

// TestBatchTagsOfASingle: what was asked for alone has the tags of the rule, too. An id that no tag
// can have stands in it as in a URL.
func TestBatchTagsOfASingle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		serveAll(h, s, requestFor("/products/7?full=1"), requestFor("/products/8"), requestFor("/products/a%20b"))
		for _, tag := range []string{"product-7", "product-8", "product-a%20b"} {
			if n, err := h.cache.store.Purge(store.Selectors{Tags: []string{tag}}, store.PurgeOptions{}); n != 1 || err != nil {
				t.Errorf("%s: %d, %v", tag, n, err)
			}
		}
	})
}

// TestBatchClientsLeave: the request goes on while any client waits, leading or not, and ends with
// the last.
func TestBatchClientsLeave(t *testing.T) {
	for _, stays := range []int{-1, 0, 1, 2} {
		for _, inWindow := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d stays, in the window %t", stays, inWindow), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h, s := newShop(t, nil)
					arrived := make(chan context.Context, 1)
					goOn := make(chan struct{})
					s.many = func(w http.ResponseWriter, r *http.Request) error {
						arrived <- r.Context()
						select {
						case <-goOn:
						case <-r.Context().Done():
							return r.Context().Err()
						}
						return s.products(w, r)
					}
					var leave []context.CancelFunc
					var requests []*http.Request
					for _, id := range []string{"7", "8", "9"} {
						ctx, cancel := context.WithCancel(context.Background())
						defer cancel()
						leave = append(leave, cancel)
						requests = append(requests, requestFor("/products/"+id).WithContext(ctx))
					}
					done := make(chan []reply)
					go func() { done <- serveAll(h, s, requests...) }()
					var asked context.Context
					if inWindow {
						synctest.Wait()
					} else {
						asked = <-arrived
					}
					for i, cancel := range leave {
						if i != stays {
							cancel()
						}
					}
					synctest.Wait()
					close(goOn)
					replies := <-done
					if stays >= 0 {
						if got := replies[stays].String(); !strings.HasPrefix(got, "200 {") {
							t.Errorf("who stays gets %s", got)
						}
					}
					time.Sleep(10 * time.Minute)
					if stays < 0 && inWindow && len(s.take()) > 0 {
						t.Error("the origin was asked for no client")
					}
					if asked != nil && asked.Err() == nil {
						t.Error("the context of the request is left")
					}
				})
			})
		}
	}
}

// TestBatchThatHangs: it is given up when its last fetch is.
func TestBatchThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		h.Wait = time.Hour
		ended := make(chan struct{})
		s.many = func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			close(ended)
			return r.Context().Err()
		}
		for _, reply := range askFor(h, s, "7", "8") {
			if got := reply.String(); got != "error 504" {
				t.Error(got)
			}
		}
		<-ended
		time.Sleep(time.Minute)
	})
}

// TestBatchWithoutAPlace: where the origin is busy all of them are told so, and one place is enough
// for all.
func TestBatchWithoutAPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		h.Budget = origin.New("", origin.Limits{MaxConcurrent: 1, Queue: 1, Wait: time.Second}, nil)
		var busy origin.Place
		if err := h.Budget.Take(t.Context(), &busy, origin.ClassWaiting); err != nil {
			t.Fatal(err)
		}
		for _, reply := range askFor(h, s, "7", "8", "9") {
			if got := reply.String(); got != "error 503" {
				t.Error(got)
			}
		}
		expectAsked(t, s)
		busy.Done()
		for _, reply := range askFor(h, s, "7", "8", "9") {
			if reply.Code != 200 {
				t.Error(reply)
			}
		}
		if asked := s.take(); len(asked) != 1 {
			t.Errorf("the origin was asked %q", asked)
		}
	})
}

// TestBatchWithoutMemory: an answer for which the budget has no room is not kept.
func TestBatchWithoutMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		taken := h.cache.store.Settings().Memory
		for !h.cache.store.Reserve(taken, taken) { // the store has some itself
			taken -= 1 << 10
		}
		h.cache.store.Unreserve(3 << 10)
		defer h.cache.store.Unreserve(taken - 3<<10)
		askFor(h, s, "7", "8")
		if asked := s.take(); len(asked) != 3 {
			t.Errorf("the origin was asked %q, want one for both and one for each", asked)
		}
	})
}

// TestBatchOfExpired: what has expired is asked for together as well, in the background too, and
// what one of them needs at once is not dropped.
func TestBatchOfExpired(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		h.Policy.StaleWhileRevalidate = time.Minute
		askFor(h, s, "7", "8")
		askFor(h, s, "9") // on its own, with a validator
		s.take()
		time.Sleep(90 * time.Second)
		for _, reply := range askFor(h, s, "7", "8", "9") {
			if !strings.HasSuffix(reply.String(), "; detail=swr]") {
				t.Error(reply)
			}
		}
		time.Sleep(time.Second)
		if asked := s.take(); len(asked) != 1 || len(idsOf(asked[0])) != 3 {
			t.Errorf("the origin was asked %q", asked)
		}
		for _, reply := range askFor(h, s, "7", "8", "9") {
			if reply.Header().Get("Age") != "0" {
				t.Error(reply)
			}
		}
		time.Sleep(time.Hour)
		for _, reply := range askFor(h, s, "7", "8", "9") {
			if !strings.HasPrefix(reply.String(), "200 {") || strings.Contains(reply.String(), "Larder; hit") {
				t.Error(reply)
			}
		}
		if asked := s.take(); len(asked) != 1 {
			t.Errorf("the origin was asked %q", asked)
		}
	})
}

// TestBatchFailureAndStale: where the origin fails, each is answered as it would be on its own.
func TestBatchFailureAndStale(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		h.Policy.StaleIfError = time.Hour
		askFor(h, s, "7", "8")
		time.Sleep(2 * time.Minute)
		down := handlerFunc(func(http.ResponseWriter, *http.Request) error { return fail(502, errors.New("no connection")) })
		for _, id := range []string{"7", "8"} {
			w := httptest.NewRecorder()
			if err := h.ServeHTTP(w, requestFor("/products/"+id), down); err != nil || w.Body.String() != product(id) {
				t.Errorf("%v %s", err, w.Body)
			}
		}
	})
}

// TestBatchFailsAsItsLeader: a request for many that fails counts as one with the fields of its
// leader. It counted as one of a kind of its own, so that one client that fails alone had requests
// with all fields wait for the whole back-off.
func TestBatchFailsAsItsLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		h.Budget = origin.New("", origin.Limits{}, nil)
		s.single = func(http.ResponseWriter, *http.Request) error { return fail(502, errors.New("no connection")) }
		s.many = s.single
		serveAll(h, s, requestFor("/products/7", "X-Odd", "1"), requestFor("/products/8", "X-Odd", "1"))
		if asked := s.take(); len(asked) != 3 {
			t.Fatalf("the origin was asked %q, want one for both and one for each", asked)
		}
		const page = 1
		odd, other := fieldsSum(requestFor("", "X-Odd", "1").Header), fieldsSum(http.Header{})
		time.Sleep(origin.DefaultBackoffMin)
		p := &origin.Place{Page: page, Kind: odd}
		if err := h.Budget.Take(t.Context(), p, origin.ClassRefresh); err != nil {
			t.Fatal(err)
		}
		p.Failed(0)
		p.Done()
		time.Sleep(origin.DefaultBackoffMin)
		if why, left := h.Budget.Outlook(time.Now(), page, other); why != origin.Failing || left > 0 {
			t.Errorf("%v for another %v", why, left)
		}
	})
}

// TestBatchAddsToOuterFields: a field of an outer handler stays each client's own.
func TestBatchAddsToOuterFields(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		s.many = func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Del("Server")
			return s.products(w, r)
		}
		replies := []reply{{ResponseRecorder: httptest.NewRecorder()}, {ResponseRecorder: httptest.NewRecorder()}}
		var wait sync.WaitGroup
		for i, r := range replies {
			r.Header().Set("X-Request-Id", strconv.Itoa(i))
			r.Header().Set("Server", "outer")
			wait.Go(func() { _ = h.ServeHTTP(r, requestFor("/products/"+strconv.Itoa(i)), s.serve) })
		}
		wait.Wait()
		for i, r := range replies {
			if got := r.Header().Get("X-Request-Id"); got != strconv.Itoa(i) {
				t.Errorf("client %d has the X-Request-Id of %s", i, got)
			}
			if got := r.Header().Get("Server"); got != "" {
				t.Errorf("the origin has removed Server, and client %d gets %q", i, got)
			}
		}
	})
}

// TestBatchExplained: explain says whether a request would be asked for together, and if not why.
func TestBatchExplained(t *testing.T) {
	h, s := newShop(t, nil)
	for path, want := range map[string]string{
		"/products/7":        askedTogether + " yes, if a GET for another /products/{id} comes within 5ms: up to 100 ids make one request",
		"/products/7?full=1": askedTogether + " no: it has a query",
		"/products/7,8":      askedTogether + " no: the id cannot stand in a list of ids",
	} {
		e := h.explain(t, requestFor(path))
		if !strings.Contains(e.answers(), want) {
			t.Errorf("%s: no %q in\n%s", path, want, e.answers())
		}
	}
	other := h.explain(t, requestFor("/other"))
	if strings.Contains(other.answers(), askedTogether) {
		t.Error("a path of which no rule speaks is explained by one")
	}
	expectAsked(t, s)
}

// TestBatchWithoutClientsGivesItsPlace: where another request needs it. While one client waits for
// an item, it does not.
func TestBatchWithoutClientsGivesItsPlace(t *testing.T) {
	for _, all := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			h, s := newShop(t, nil)
			h.Wait = time.Hour
			h.Budget = origin.New("", origin.Limits{MaxConcurrent: 1, Queue: 10, Wait: 20 * time.Second}, nil)
			s.many = func(_ http.ResponseWriter, r *http.Request) error {
				<-r.Context().Done()
				return r.Context().Err()
			}
			clients, leave := context.WithCancel(context.Background())
			first, second := requestFor("/products/7").WithContext(clients), requestFor("/products/8")
			if all {
				second = second.WithContext(clients)
			}
			done := make(chan []reply)
			go func() { done <- serveAll(h, s, first, second) }()
			time.Sleep(time.Second)
			leave()
			begun := time.Now()
			w := httptest.NewRecorder()
			err := h.ServeHTTP(w, requestFor("/other/1?full"), func(http.ResponseWriter, *http.Request) error { return nil })
			if took := time.Since(begun); all && (err != nil || took > unattendedGrace) || !all && statusOf(err) != 503 {
				t.Errorf("all clients have left: %t, and another request is answered after %s: %v", all, took, err)
			}
			<-done
			time.Sleep(5 * time.Minute)
		})
	}
}
