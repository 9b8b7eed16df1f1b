package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// step is one request of a story and what its answer must say.
type step struct {
	method  string // GET if empty
	path    string // / if empty
	header  []string
	body    string
	status  int // 200 if 0
	says    string
	mention string // {http.larder.status} {http.larder.reason}, where the story looks at them
}

// TestCacheStatus has every example of the contract, to the letter.
func TestCacheStatus(t *testing.T) {
	fresh := []string{"Cache-Control", "max-age=60", "Etag", `"v1"`}
	// The origin validates: with If-None-Match it says 304.
	validating := func(header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Add(header[i], header[i+1])
			}
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
			}
		}
	}
	for _, tc := range []struct {
		name, directive string
		origin          http.HandlerFunc
		steps           []step
	}{
		{"miss and hit", "larder", answering(200, fresh...), []step{
			{says: "Larder; fwd=uri-miss; stored", mention: "miss "},
			{says: "Larder; hit; ttl=N", mention: "hit "},
			{method: "HEAD", says: "Larder; hit; ttl=N", mention: "hit "},
			{header: []string{"If-None-Match", `"v1"`}, status: 304, says: "Larder; hit; ttl=N", mention: "hit "},
			{header: []string{"Range", "bytes=0-0"}, status: 206, says: "Larder; hit; ttl=N", mention: "hit "},
		}},
		{"a part of a miss", "larder", answering(200, fresh...), []step{
			{header: []string{"Range", "bytes=0-0"}, status: 206, says: "Larder; fwd=uri-miss; fwd-status=200; stored", mention: "miss "},
		}},
		{"a 304 of a miss", "larder", answering(200, fresh...), []step{
			{header: []string{"If-None-Match", `"v1"`}, status: 304, says: "Larder; fwd=uri-miss; fwd-status=200; stored", mention: "miss "},
		}},
		{"revalidated", "larder", validating("Cache-Control", "max-age=90", "Age", "100", "Etag", `"v1"`), []step{
			{says: "Larder; fwd=uri-miss; stored", mention: "miss "},
			{says: "Larder; fwd=stale; fwd-status=304; stored", mention: "revalidated "},
		}},
		{"stale and replaced", "larder", answering(200, "Cache-Control", "max-age=90", "Age", "100", "Etag", `"v1"`), []step{
			{says: "Larder; fwd=uri-miss; stored", mention: "miss "},
			{says: "Larder; fwd=stale; fwd-status=200; stored", mention: "miss "},
		}},
		{"stale and replaced by what is not stored", "larder", stale(answering(200, "Cache-Control", "no-store"), "Cache-Control", "max-age=90", "Etag", `"v1"`), []step{
			{says: "Larder; fwd=uri-miss; stored", mention: "miss "},
			{says: "Larder; fwd=stale; fwd-status=200", mention: "miss no-store"},
			{says: "Larder; fwd=stale; fwd-status=200", mention: "miss no-store"},
		}},
		{"stale-while-revalidate", block("stale_while_revalidate 5m"), answering(200, "Cache-Control", "max-age=90", "Age", "100"), []step{
			{says: "Larder; fwd=uri-miss; stored", mention: "miss "},
			{says: "Larder; hit; ttl=-N; detail=swr", mention: "stale swr"},
		}},
		{"stale-if-error", block("stale_if_error 5m"), stale(answering(500), "Cache-Control", "max-age=90"), []step{
			{says: "Larder; fwd=uri-miss; stored", mention: "miss "},
			{says: "Larder; hit; ttl=-N; detail=sie", mention: "stale sie"},
		}},
		{"max-stale", "larder", answering(200, "Cache-Control", "max-age=90", "Age", "100", "Etag", `"v1"`), []step{
			{says: "Larder; fwd=uri-miss; stored"},
			{header: []string{"Cache-Control", "max-stale=60"}, says: "Larder; hit; ttl=-N", mention: "stale "},
			{header: []string{"Cache-Control", "max-stale"}, says: "Larder; hit; ttl=-N", mention: "stale "},
			{header: []string{"Cache-Control", "max-stale=5"}, says: "Larder; fwd=stale; fwd-status=200; stored", mention: "miss "},
		}},
		{"bypass by method", "larder", answering(200, fresh...), []step{
			{method: "POST", body: "x", says: "Larder; fwd=bypass; detail=method", mention: "bypass method"},
			{method: "OPTIONS", says: "Larder; fwd=bypass; detail=method", mention: "bypass method"},
		}},
		{"bypass by body", "larder", answering(200, fresh...), []step{
			{body: "x", says: "Larder; fwd=bypass; detail=body", mention: "bypass body"},
			{method: "HEAD", body: "x", says: "Larder; fwd=bypass; detail=body", mention: "bypass body"},
		}},
		{"bypass by connection", "larder", answering(200, fresh...), []step{
			{header: []string{"Connection", "close, X-Foo"}, says: "Larder; fwd=bypass; detail=connection", mention: "bypass connection"},
			{header: []string{"Connection", "close"}, says: "Larder; fwd=uri-miss; stored", mention: "miss "},
		}},
		{"bypass by upgrade", "larder", answering(200, fresh...), []step{
			{header: []string{"Connection", "Upgrade", "Upgrade", "websocket"}, says: "Larder; fwd=bypass; detail=upgrade", mention: "bypass upgrade"},
		}},
		{"vary", "larder", answering(200, append([]string{"Vary", "X-Lang"}, fresh...)...), []step{
			{header: []string{"X-Lang", "de"}, says: "Larder; fwd=uri-miss; stored"},
			{header: []string{"X-Lang", "en"}, says: "Larder; fwd=vary-miss; stored", mention: "miss "},
			{header: []string{"X-Lang", "de"}, says: "Larder; hit; ttl=N"},
		}},
		{"the request demands it", "larder", answering(200, fresh...), []step{
			{says: "Larder; fwd=uri-miss; stored"},
			{header: []string{"Cache-Control", "no-cache"}, says: "Larder; fwd=request; stored", mention: "miss "},
			{header: []string{"Pragma", "no-cache"}, says: "Larder; fwd=request; stored", mention: "miss "},
			{header: []string{"Cache-Control", "max-age=60"}, says: "Larder; hit; ttl=N"},
			{header: []string{"Cache-Control", "min-fresh=1000"}, says: "Larder; fwd=request; stored"},
		}},
		{"the request demands it and the origin validates", "larder", validating(fresh...), []step{
			{says: "Larder; fwd=uri-miss; stored"},
			{header: []string{"Cache-Control", "no-cache"}, says: "Larder; fwd=request; fwd-status=304; stored", mention: "revalidated "},
		}},
		{"remembered as not shareable", "larder", answering(200, "Cache-Control", "private"), []step{
			{says: "Larder; fwd=uri-miss", mention: "miss private"},
			{says: "Larder; fwd=miss", mention: "miss private"},
		}},
		{"a cold HEAD", "larder", answering(200, fresh...), []step{
			{method: "HEAD", says: "Larder; fwd=uri-miss", mention: "miss "},
		}},
		{"full", block("status full"), answering(200, fresh...), []step{
			{path: "/a?b=%22", says: `Larder; fwd=uri-miss; stored; key="GET {{url}}/a?b=%22"`},
			{path: "/a?b=%22", says: `Larder; hit; ttl=N; key="GET {{url}}/a?b=%22"`},
			{path: "/a?b=%22", method: "HEAD", says: `Larder; hit; ttl=N; key="GET {{url}}/a?b=%22"`},
			{method: "POST", body: "x", says: "Larder; fwd=bypass; detail=method"},
		}},
		{"full, not stored", block("status full"), answering(200, "Cache-Control", "no-store"), []step{
			{says: `Larder; fwd=uri-miss; key="GET {{url}}/"; detail=no-store`},
			{says: `Larder; fwd=miss; key="GET {{url}}/"; detail=no-store`},
		}},
		{"full, cookie", block("status full"), answering(200, "Cache-Control", "max-age=60", "Set-Cookie", "a=b"), []step{
			{says: `Larder; fwd=uri-miss; key="GET {{url}}/"; detail=set-cookie`},
		}},
		{"full, the request's no-store", block("status full"), answering(200, fresh...), []step{
			{header: []string{"Cache-Control", "no-store"}, says: `Larder; fwd=uri-miss; key="GET {{url}}/"; detail=request-no-store`, mention: "miss request-no-store"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, tc.origin)
			s := proxied(tc.directive)
			s.site = "header >X-Mention \"{http.larder.status} {http.larder.reason}\"\n" + s.site
			in := start(t, s, o)
			for i, st := range tc.steps {
				method, path, status := orElse(st.method, "GET"), orElse(st.path, "/"), st.status
				if status == 0 {
					status = 200
				}
				a := in.do(method, path, st.body, st.header...)
				if a.StatusCode != status {
					t.Errorf("step %d: status %d, want %d", i, a.StatusCode, status)
				}
				a.wantStatus(t, strings.ReplaceAll(st.says, "{{url}}", in.url("")))
				if got := a.Header.Get("X-Mention"); st.mention != "" && strings.TrimSpace(got) != strings.TrimSpace(st.mention) {
					t.Errorf("step %d: placeholders %q, want %q", i, got, st.mention)
				}
			}
		})
	}
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// TestCacheStatusOfAFollower asks again while the body of the first answer is on its way: it is in
// the store only when it is whole.
func TestCacheStatusOfAFollower(t *testing.T) {
	release := make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "bo")
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, "dy")
	})
	in := start(t, proxied("larder"), o)
	before := in.metric("caddy_larder_requests_total", `outcome="collapsed"`)
	var open []*http.Response
	for range 3 {
		resp, err := in.client.Get(in.url("/"))
		if err != nil {
			close(release)
			t.Fatal(err)
		}
		open = append(open, resp)
	}
	if n := in.stats().InFlight; n != 1 {
		t.Errorf("%d fetches are under way", n)
	}
	close(release)
	for i, resp := range open {
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		a := &answer{Response: resp, body: string(body), err: err}
		a.wantParsed(t)
		want := "Larder; fwd=uri-miss; fwd-status=200; collapsed"
		if i == 0 {
			want = "Larder; fwd=uri-miss; stored"
		}
		a.want(t, 200, "body", want)
	}
	if after := in.metric("caddy_larder_requests_total", `outcome="collapsed"`); after != before+2 {
		t.Errorf("collapsed requests: %v, before %v", after, before)
	}
}

func TestCacheStatusOff(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, proxied(block("status off")), o)
	for _, a := range []*answer{in.get("/"), in.get("/"), in.do(http.MethodPost, "/", "x")} {
		if v := a.Header.Values("Cache-Status"); len(v) > 0 {
			t.Errorf("Cache-Status %q", v)
		}
	}
}

// TestCacheStatusOfCachesBeforeUs: theirs stays, ours is behind it.
func TestCacheStatusOfCachesBeforeUs(t *testing.T) {
	for _, tc := range []struct {
		name, theirs, hit string
	}{
		{"one", "Shield; hit; ttl=5", "Shield; hit; ttl=5"},
		{"two", "A; hit, B; fwd=miss", "A; hit, B; fwd=miss"},
		{"no structured field", "HIT!!, ???", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Cache-Status", tc.theirs))
			in := start(t, proxied("larder"), o)
			for _, want := range []string{"Larder; fwd=uri-miss; stored", "Larder; hit; ttl="} {
				a := in.get("/")
				a.wantParsed(t)
				lines := a.Header.Values("Cache-Status")
				if !strings.HasPrefix(lines[len(lines)-1], want) || strings.Join(lines[:len(lines)-1], ", ") != tc.hit {
					t.Errorf("Cache-Status %q", lines)
				}
			}
			lines := in.do(http.MethodPost, "/", "x").Header.Values("Cache-Status")
			if got := lines[len(lines)-1]; got != "Larder; fwd=bypass; detail=method" || strings.Join(lines[:len(lines)-1], ", ") != tc.hit {
				t.Errorf("Cache-Status %q", lines)
			}
		})
	}
}
