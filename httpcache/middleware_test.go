package httpcache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// site is a server with the middleware before a handler, and what an outer handler sees of it.
type site struct {
	*httptest.Server
	t        *testing.T
	panicked chan any      // what the middleware panics with
	returned chan struct{} // a request has left the middleware
}

type outerKey struct{}

// newSite starts a server. The requests that reach the middleware have a value in their context.
func newSite(t *testing.T, handler http.HandlerFunc) *site {
	t.Helper()
	s := &site{t: t, panicked: make(chan any, 10), returned: make(chan struct{}, 100)}
	inner := Middleware(newTestHandler(t).Route)(handler)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			s.returned <- struct{}{}
			if v := recover(); v != nil {
				s.panicked <- v
				panic(http.ErrAbortHandler) // which net/http does not log
			}
		}()
		inner.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), outerKey{}, "outer")))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) request(ctx context.Context, method string, header ...string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.URL+"/path?and=query", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// do sends a request and reads the whole answer.
func (s *site) do(method string, header ...string) (response *http.Response, body string) {
	s.t.Helper()
	response, err := s.Client().Do(s.request(s.t.Context(), method, header...))
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response, string(text)
}

func receive[T any](t *testing.T, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s does not come", what)
	}
	return v
}

// The fetch goes on when the client that led it has left, in a context that has not ended and has
// the values of the client's. The next client has its response.
func TestMiddlewareFetchOutlivesItsClient(t *testing.T) {
	asked, proceed, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Context().Value(outerKey{}); got != "outer" {
			t.Errorf("the outer handler's value is %v", got)
		}
		if _, ok := r.Context().Value(http.ServerContextKey).(*http.Server); !ok {
			t.Error("the context has no server")
		}
		close(asked)
		<-proceed
		ended <- r.Context().Err()
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "for the next")
	})
	ctx, leave := context.WithCancel(t.Context())
	var client sync.WaitGroup
	client.Go(func() {
		response, err := s.Client().Do(s.request(ctx, http.MethodGet))
		if err == nil {
			response.Body.Close()
			t.Error("the client that has left has an answer")
		}
	})
	receive(t, asked, "the request")
	leave()
	client.Wait()
	receive(t, s.returned, "the end of the client's request")
	close(proceed)
	if err := receive(t, ended, "the context's error"); err != nil {
		t.Errorf("the fetch's context has ended with its client: %v", err)
	}
	response, body := s.do(http.MethodGet) // closes asked again if the handler is asked
	if got := response.Header.Get("Cache-Status"); body != "for the next" || !strings.HasPrefix(got, "Larder; ") {
		t.Errorf("the next client has %q, %q", body, got)
	}
}

// A 304 for another entity tag is no answer: the handler is asked again without the question, by a
// request that is as the first was.
func TestMiddlewareAsksAgainAfterForeign304(t *testing.T) {
	var questions []string
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		question := r.Header.Get("If-None-Match")
		questions = append(questions, question)
		if r.URL.RequestURI() != "/path?and=query" || r.Context().Value(outerKey{}) != "outer" || r.Header.Get("X-Changed") != "" {
			t.Errorf("request %d is for %s with %v", len(questions), r.URL, r.Header)
		}
		r.URL.Path, r.RequestURI = "/changed", "/changed" // as StripPrefix would, but in place
		r.Header.Set("X-Changed", "yes")
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("Etag", `"v`+strconv.Itoa(len(questions))+`"`)
		if question != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "answer "+strconv.Itoa(len(questions)))
	})
	s.do(http.MethodGet)
	response, body := s.do(http.MethodGet)
	if response.StatusCode != http.StatusOK || body != "answer 3" || response.Header.Get("Etag") != `"v3"` {
		t.Errorf("%d %q, Etag %s; want the third answer", response.StatusCode, body, response.Header.Get("Etag"))
	}
	if want := []string{"", `"v1"`, ""}; !slices.Equal(questions, want) {
		t.Errorf("If-None-Match was %q, want %q", questions, want)
	}
}

// What the handler panics with reaches the goroutine of the client that led the fetch: outer
// handlers see it, and net/http cuts the connection. In mid-body the answer breaks off.
func TestMiddlewarePanics(t *testing.T) {
	for name, tc := range map[string]struct {
		with   any
		begins string
		want   any
	}{
		"before the header":               {"boom", "", "boom"},
		"to abort, before the header":     {http.ErrAbortHandler, "", http.ErrAbortHandler},
		"to abort, in mid-body":           {http.ErrAbortHandler, "begun", http.ErrAbortHandler},
		"in mid-body":                     {"boom", "begun", "boom"},
		"none, but the body is too short": {nil, "begun", http.ErrAbortHandler},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				if tc.begins != "" {
					w.Header().Set("Content-Length", "10")
					_, _ = io.WriteString(w, tc.begins)
				}
				if tc.with != nil {
					panic(tc.with)
				}
			})
			response, err := s.Client().Do(s.request(t.Context(), http.MethodGet))
			if err == nil {
				var body []byte
				body, err = io.ReadAll(response.Body)
				response.Body.Close()
				if tc.begins == "" || !strings.HasPrefix(tc.begins, string(body)) {
					t.Errorf("%d %q came", response.StatusCode, body)
				}
			}
			if err == nil {
				t.Error("the client takes the answer for whole")
			}
			if got := receive(t, s.panicked, "the panic"); got != tc.want {
				t.Errorf("it panics with %v, want %v", got, tc.want)
			}
		})
	}
}

// The cache's own failures are answered with their status, and the handler is not asked.
func TestMiddlewareErrors(t *testing.T) {
	s := newSite(t, func(http.ResponseWriter, *http.Request) { t.Error("the handler is asked") })
	for name, tc := range map[string]struct {
		header [2]string
		status int
	}{
		"only-if-cached": {[2]string{"Cache-Control", "only-if-cached"}, http.StatusGatewayTimeout},
		"a loop":         {[2]string{"Cdn-Loop", strings.Repeat("larder, ", 9) + "larder"}, http.StatusLoopDetected},
	} {
		response, body := s.do(http.MethodGet, tc.header[:]...)
		if response.StatusCode != tc.status || body != http.StatusText(tc.status)+"\n" {
			t.Errorf("%s: %d %q, want %d", name, response.StatusCode, body, tc.status)
		}
	}
	for _, tc := range []struct {
		err    error
		status int
	}{
		{errors.New("some"), 500},
		{&Error{}, 500},
		{&Error{Status: 503}, 503},
		{errors.Join(errors.New("some"), &Error{Status: 502}), 502},
	} {
		w := httptest.NewRecorder()
		if answerError(w, tc.err); w.Code != tc.status {
			t.Errorf("%v is answered with %d, want %d", tc.err, w.Code, tc.status)
		}
	}
}

// HEAD is answered from what GET has stored; with nothing stored the handler has it as HEAD.
func TestMiddlewareHead(t *testing.T) {
	var methods []string
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		methods = append(methods, r.Method)
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "body")
	})
	for _, method := range []string{http.MethodHead, http.MethodGet, http.MethodHead} {
		response, body := s.do(method)
		if want := map[string]string{http.MethodGet: "body"}[method]; response.StatusCode != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", method, response.StatusCode, body)
		}
		// That of the miss is known if the handler has returned before the client waits for more.
		if response.ContentLength != 4 && method == http.MethodHead && len(methods) > 1 {
			t.Errorf("%s: the length is %d", method, response.ContentLength)
		}
	}
	if want := []string{http.MethodHead, http.MethodGet}; !slices.Equal(methods, want) {
		t.Errorf("the handler is asked by %q, want %q", methods, want)
	}
}

// A handler can flush by type and by ResponseController, whether its response is shared, passed on,
// or the answer to another method. The client then has what was written, while the handler goes on.
func TestMiddlewareFlush(t *testing.T) {
	for name, tc := range map[string]struct{ method, cacheControl string }{
		"shared":         {http.MethodGet, "max-age=60"},
		"not storable":   {http.MethodGet, "no-store"},
		"another method": {http.MethodPost, "no-store"},
	} {
		for kind, flush := range map[string]func(http.ResponseWriter) error{
			"Flusher": func(w http.ResponseWriter) error {
				flusher, ok := w.(http.Flusher)
				if !ok {
					return errors.New("the writer is no http.Flusher")
				}
				flusher.Flush()
				return nil
			},
			"ResponseController": func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				read := make(chan struct{})
				s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Cache-Control", tc.cacheControl)
					_, _ = io.WriteString(w, "first ")
					if err := flush(w); err != nil {
						t.Error(err)
						return
					}
					receive(t, read, "the client's word")
					_, _ = io.WriteString(w, "last")
				})
				response, err := s.Client().Do(s.request(t.Context(), tc.method))
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				first := make([]byte, len("first "))
				if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "first " {
					t.Fatalf("%q, %v", first, err)
				}
				close(read)
				if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != "last" {
					t.Errorf("then %q, %v", rest, err)
				}
			})
		}
	}
}

// Trailers, announced or with net/http's prefix, reach the leader and hits.
func TestMiddlewareTrailers(t *testing.T) {
	var calls atomic.Int64
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
	})
	for _, client := range []string{"the leader", "a hit"} {
		response, body := s.do(http.MethodGet)
		if got := response.Trailer; body != "body" || got.Get("X-Sum") != "42" || got.Get("X-Late") != "yes" {
			t.Errorf("%s: %q with trailers %v", client, body, got)
		}
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("the handler is asked %d times", n)
	}
}

// A 1xx response reaches the leader's client before the answer, and is not stored.
func TestMiddleware1xx(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "body")
	})
	for client, want := range []int{1, 0} {
		var hints []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			hints = append(hints, strconv.Itoa(code)+" "+header.Get("Link"))
			return nil
		}}
		response, err := s.Client().Do(s.request(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if string(body) != "body" || response.Header.Get("Link") != "" || len(hints) != want {
			t.Errorf("client %d: %q, %v, hints %q; want %d", client, body, response.Header, hints, want)
		}
	}
}
