package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// lines is a body whose every line is in it once.
func lines(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "L%014d\n", i)
	}
	return b.Bytes()
}

// spoilStored stops Caddy, changes a line of what is stored wherever the files have it, and starts
// Caddy anew with nothing in memory.
func spoilStored(t *testing.T, in *instance, s setup, o *origin, line int) {
	t.Helper()
	in.awaitDisk(1)
	in.client.CloseIdleConnections()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.disk, "larder.db")
	eventually(t, "the file is written and closed", func() bool { return canLock(path) })
	sound, found := fmt.Appendf(nil, "L%014d\n", line), false
	for _, path := range []string{path, filepath.Join(s.disk, "larder.bodies")} {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found = found || bytes.Contains(file, sound)
		if err := os.WriteFile(path, bytes.ReplaceAll(file, sound, bytes.ToLower(sound)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !found {
		t.Fatal("the body is in no file")
	}
	in.load(s, o)
}

// Damage in a large body that is read from the disk while it is sent costs the entry and not its
// URL, which was dead until the entry expired: nothing of it was deleted.
func TestDamageInALargeStoredBody(t *testing.T) {
	const count = 100_000 // lines: 1.6 MB, seven chunks
	body := lines(count)
	fresh := []string{"Cache-Control", "max-age=3600"}
	expired := []string{"Cache-Control", "max-age=90, stale-if-error=86400", "Age", "100"}
	for _, tc := range []struct {
		name   string
		header []string
		line   int // that is damaged
		check  func(t *testing.T, in *instance, o *origin)
	}{
		{"in the first chunk", fresh, 100, func(t *testing.T, in *instance, o *origin) {
			in.get("/").want(t, 200, string(body), "Larder; fwd=uri-miss; stored")
		}},
		{"in the first chunk, behind what is checked before the header", fresh, 6_000, func(t *testing.T, in *instance, o *origin) {
			a := in.get("/")
			if a.err == nil || a.body == "" || a.StatusCode != 200 || !strings.HasPrefix(string(body), a.body) {
				t.Errorf("%d, %d bytes, %v; want a body that breaks off where it is damaged", a.StatusCode, len(a.body), a.err)
			}
			in.get("/").want(t, 200, string(body), "Larder; fwd=uri-miss; stored")
		}},
		{"further on", fresh, 60_000, func(t *testing.T, in *instance, o *origin) {
			if a := in.get("/"); a.err == nil {
				t.Error("a body that breaks off looks whole")
			}
			in.get("/").want(t, 200, string(body), "Larder; fwd=uri-miss; stored")
		}},
		{"in the part asked for", fresh, 60_000, func(t *testing.T, in *instance, o *origin) {
			a := in.get("/", "Range", "bytes=960000-960015")
			a.want(t, 206, string(body[960_000:960_016]), "Larder; fwd=uri-miss; fwd-status=200; stored")
		}},
		{"outside of the part asked for", fresh, 60_000, func(t *testing.T, in *instance, o *origin) {
			if a := in.get("/", "Range", "bytes=16-31"); a.StatusCode != 206 || a.body != string(body[16:32]) || !a.isHit() {
				t.Errorf("%d %q %s", a.StatusCode, a.body, a.cacheStatus())
			}
			if a := in.do(http.MethodHead, "/", ""); !a.isHit() {
				t.Errorf("HEAD: %s", a.cacheStatus())
			}
			if a := in.get("/"); a.err == nil {
				t.Error("a body that breaks off looks whole")
			}
			in.get("/").want(t, 200, string(body), "Larder; fwd=uri-miss; stored")
		}},
		{"of a stale response", expired, 100, func(t *testing.T, in *instance, o *origin) {
			in.get("/").want(t, 200, string(body), "Larder; fwd=uri-miss; stored")
			if tag := o.last().Header.Get("If-None-Match"); tag != "" {
				t.Errorf("the origin was asked about %s, which is lost", tag)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				for i := 0; i < len(tc.header); i += 2 {
					w.Header().Set(tc.header[i], tc.header[i+1])
				}
				w.Header().Set("Etag", `"v1"`)
				if r.Header.Get("If-None-Match") == `"v1"` {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(body)))
				_, _ = w.Write(body)
			})
			s := withDisk(t, "larder")
			s.options = "memory 4MiB"
			in := start(t, s, o)
			in.get("/").want(t, 200, string(body), "Larder; fwd=uri-miss; stored")
			spoilStored(t, in, s, o, tc.line)
			tc.check(t, in, o)
			settled(t, in) // a part is answered before its fetch is over
			o.asked(t, 2)
			in.awaitDisk(1)
			if tc.header[1] == fresh[1] {
				if a := in.get("/"); !a.isHit() || a.body != string(body) {
					t.Errorf("after that: %d, %d bytes, %s", a.StatusCode, len(a.body), a.cacheStatus())
				}
			}
			if n := in.metric("caddy_larder_errors_total", `tier="disk"`); n != 1 {
				t.Errorf("%v errors are counted", n)
			}
		})
	}
}

// What is damaged does not stand in for an origin that fails.
func TestDamagedBodyIsNotServedStale(t *testing.T) {
	body := lines(100_000)
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=90, stale-if-error=86400")
		w.Header().Set("Age", "100")
		w.Header().Set("Etag", `"v1"`)
		_, _ = w.Write(body)
	})
	s := withDisk(t, "larder")
	s.options = "memory 4MiB"
	in := start(t, s, o)
	in.get("/").want(t, 200, string(body), "Larder; fwd=uri-miss; stored")
	spoilStored(t, in, s, o, 100)
	o.Close()
	in.get("/").want(t, 502, "", "")
}

// A background refresh asks whether what is stored still holds. What is damaged does not, also
// where the request that begins it needs no body.
func TestDamagedBodyIsNotRefreshed(t *testing.T) {
	body := lines(100_000)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=90, stale-while-revalidate=86400")
		w.Header().Set("Age", "100")
		w.Header().Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") != "" {
			w.Header().Set("Age", "0")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(body)
	})
	s := withDisk(t, "larder")
	s.options = "memory 4MiB"
	in := start(t, s, o)
	in.get("/").want(t, 200, string(body), "Larder; fwd=uri-miss; stored")
	spoilStored(t, in, s, o, 100)
	in.do(http.MethodHead, "/", "").want(t, 200, "", "Larder; fwd=uri-miss")
	in.get("/").want(t, 200, string(body), "Larder; fwd=uri-miss; stored")
}
