package e2e

import (
	"net/http"
	"strings"
	"testing"
)

func TestMissThenHit(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60", "Etag", `"v1"`))
	in := start(t, proxied("larder"), o)

	in.get("/a").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	hit := in.get("/a")
	hit.want(t, 200, "1", "")
	if !strings.HasPrefix(hit.cacheStatus(), "Larder; hit; ttl=") {
		t.Errorf("Cache-Status %q is no hit", hit.cacheStatus())
	}
	if hit.Header.Get("Age") == "" || hit.Header.Get("Date") == "" || hit.Header.Get("Etag") != `"v1"` {
		t.Errorf("a hit lacks Age, Date or ETag: %v", hit.Header)
	}
	in.get("/b").want(t, 200, "2", "Larder; fwd=uri-miss; stored")
	o.asked(t, 2)
}

func TestNotStored(t *testing.T) {
	for name, tc := range map[string]struct {
		header  []string // of the response
		request []string
		detail  string
	}{
		"nothing said":  {nil, nil, "no-lifetime"},
		"a validator":   {[]string{"Etag", `"a"`}, nil, "no-lifetime"},
		"no validator":  {[]string{"Cache-Control", "max-age=0"}, nil, "no-validator"},
		"no-store":      {[]string{"Cache-Control", "max-age=60, no-store"}, nil, "no-store"},
		"private":       {[]string{"Cache-Control", "private, max-age=60"}, nil, "private"},
		"set-cookie":    {[]string{"Cache-Control", "max-age=60", "Set-Cookie", "a=b"}, nil, "set-cookie"},
		"authorization": {[]string{"Cache-Control", "max-age=60"}, []string{"Authorization", "Basic eDp5"}, "authorization"},
		"vary star":     {[]string{"Cache-Control", "max-age=60", "Vary", "*"}, nil, "vary-star"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, numbered(tc.header...))
			in := start(t, proxied("larder {\nstatus full\n}"), o)
			first := in.get("/", tc.request...)
			first.want(t, 200, "1", "")
			if !strings.HasSuffix(first.cacheStatus(), "detail="+tc.detail) || strings.Contains(first.cacheStatus(), "stored") {
				t.Errorf("Cache-Status %q, want detail=%s and not stored", first.cacheStatus(), tc.detail)
			}
			in.get("/", tc.request...).want(t, 200, "2", "")
		})
	}
}

func TestConditionalsAndRangesOfAHit(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"v1"`)
		_, _ = w.Write([]byte("0123456789"))
	})
	in := start(t, proxied("larder"), o)
	in.get("/").want(t, 200, "0123456789", "")

	notModified := in.get("/", "If-None-Match", `W/"v1", "x"`)
	notModified.want(t, 304, "", "")
	if notModified.body != "" || notModified.Header.Get("Etag") != `"v1"` {
		t.Errorf("304 with body %q, ETag %q", notModified.body, notModified.Header.Get("Etag"))
	}
	in.get("/", "If-None-Match", `"v2"`).want(t, 200, "0123456789", "")

	part := in.get("/", "Range", "bytes=2-4")
	part.want(t, 206, "234", "")
	if got := part.Header.Get("Content-Range"); got != "bytes 2-4/10" {
		t.Errorf("Content-Range %q", got)
	}
	in.get("/", "Range", "bytes=-2").want(t, 206, "89", "")
	in.get("/", "Range", "bytes=20-").want(t, 416, "", "")
	several := in.get("/", "Range", "bytes=0-1,8-9")
	several.want(t, 206, "", "")
	if !strings.HasPrefix(several.Header.Get("Content-Type"), "multipart/byteranges") || !strings.Contains(several.body, "\r\n\r\n01\r\n") {
		t.Errorf("several ranges: %s %q", several.Header.Get("Content-Type"), several.body)
	}
	if several.ContentLength != int64(len(several.body)) {
		t.Errorf("Content-Length %d of %d bytes", several.ContentLength, len(several.body))
	}

	head := in.do(http.MethodHead, "/", "")
	head.want(t, 200, "", "")
	if head.ContentLength != 10 || head.body != "" {
		t.Errorf("HEAD from a stored GET: Content-Length %d, body %q", head.ContentLength, head.body)
	}
	o.asked(t, 1)
}

// An origin that does not answer in parts fills the whole, with one request.
func TestRangeOnAColdURLFillsWithTheWhole(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Range"); got != "bytes=0-4194303" {
			t.Errorf("the fill asks for %q, want a slice", got)
		}
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = w.Write([]byte("0123456789"))
	})
	in := start(t, proxied("larder"), o)
	in.get("/", "Range", "bytes=2-4").want(t, 206, "234", "")
	in.get("/").want(t, 200, "0123456789", "")
	o.asked(t, 1)
}

func TestRangeOfWhatCannotBeStoredIsTheClientsOwn(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.Header.Get("Range") == "bytes=2-4" {
			w.Header().Set("Content-Range", "bytes 2-4/10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("234"))
			return
		}
		_, _ = w.Write([]byte("0123456789"))
	})
	in := start(t, proxied("larder"), o)
	in.get("/", "Range", "bytes=2-4").want(t, 206, "234", "")
	// Remembered: no whole is tried again.
	in.get("/", "Range", "bytes=2-4").want(t, 206, "234", "Larder; fwd=miss")
	o.asked(t, 3)
}

func TestColdHeadIsForwardedAsHead(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in := start(t, proxied("larder"), o)
	in.do(http.MethodHead, "/", "").want(t, 200, "", "Larder; fwd=uri-miss")
	if o.last().Method != http.MethodHead {
		t.Errorf("the origin saw %s", o.last().Method)
	}
	in.get("/").want(t, 200, "", "Larder; fwd=uri-miss; stored")
}

func TestVaryAcceptEncoding(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("coded"))
			return
		}
		_, _ = w.Write([]byte("plain"))
	})
	in := start(t, proxied("larder"), o)
	in.get("/", "Accept-Encoding", "gzip, br").want(t, 200, "coded", "Larder; fwd=uri-miss; stored")
	// reverse_proxy adds gzip of its own where the client names nothing, so identity is spelt out.
	in.get("/", "Accept-Encoding", "identity").want(t, 200, "plain", "Larder; fwd=vary-miss; stored")
	for _, accept := range []string{"br;q=0.5,gzip", "gzip", "GZIP;q=0.1, deflate"} {
		hit := in.get("/", "Accept-Encoding", accept)
		hit.want(t, 200, "coded", "")
		if !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
			t.Errorf("Accept-Encoding %q: %q", accept, hit.cacheStatus())
		}
	}
	o.asked(t, 2)
}

func TestUnsafeMethodInvalidates(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in := start(t, proxied("larder"), o)
	in.get("/a").want(t, 200, "1", "")
	in.do(http.MethodPost, "/a", "x").want(t, 200, "2", "Larder; fwd=bypass; detail=method")
	in.get("/a").want(t, 200, "3", "Larder; fwd=uri-miss; stored")
}

func TestTagHeadersDoNotReachClients(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60", "Surrogate-Key", "a b", "Cache-Tag", "c", "Xkey", "d"))
	in := start(t, proxied("larder"), o)
	for range 2 {
		a := in.get("/")
		for _, name := range []string{"Surrogate-Key", "Cache-Tag", "Xkey"} {
			if v := a.Header.Get(name); v != "" {
				t.Errorf("%s: %s reached the client (%s)", name, v, a.cacheStatus())
			}
		}
	}
}

func TestPurge(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "all "+strings.Trim(r.URL.Path, "/"))
		_, _ = w.Write([]byte(r.URL.Path))
	})
	in := start(t, proxied("larder"), o)
	fill := func() {
		for _, path := range []string{"/a", "/b", "/c"} {
			in.get(path).want(t, 200, path, "")
		}
	}
	for name, tc := range map[string]struct {
		body string
		want int
	}{
		"tag":    {`{"tags":["a"]}`, 1},
		"tags":   {`{"tags":["a","b","all"]}`, 3},
		"url":    {`{"urls":["` + in.url("/b") + `"]}`, 1},
		"prefix": {`{"prefixes":["` + in.url("/") + `"]}`, 3},
		"host":   {`{"hosts":["` + strings.TrimPrefix(in.url(""), "http://") + `"]}`, 3},
		"all":    {`{"all":true}`, 3},
		"none":   {`{"tags":["x"]}`, 0},
		"dry":    {`{"all":true,"dry_run":true}`, 3},
	} {
		t.Run(name, func(t *testing.T) {
			fill()
			before := o.count()
			if got := in.purge(tc.body); got != tc.want {
				t.Errorf("matched %d, want %d", got, tc.want)
			}
			fill()
			want := tc.want
			if name == "dry" {
				want = 0
			}
			if got := o.count() - before; got != want {
				t.Errorf("the origin was asked %d times after the purge, want %d", got, want)
			}
		})
	}
}
