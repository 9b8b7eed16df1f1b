package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// wantParsed checks that Cache-Status is a structured field whose last member is ours (RFC 9211 2).
func (a *answer) wantParsed(t *testing.T) {
	t.Helper()
	list, err := httpsfv.UnmarshalList(a.Header.Values("Cache-Status"))
	if err != nil || len(list) == 0 {
		t.Errorf("Cache-Status %q: %v", a.Header.Values("Cache-Status"), err)
		return
	}
	item, ok := list[len(list)-1].(httpsfv.Item)
	if !ok || item.Value != httpsfv.Token("Larder") {
		t.Errorf("the last member of %q is not ours", a.Header.Values("Cache-Status"))
	}
}

// wantStatus compares Cache-Status with want, in which ttl=N stands for any number of the sign.
func (a *answer) wantStatus(t *testing.T, want string) {
	t.Helper()
	a.wantParsed(t)
	got := a.cacheStatus()
	if before, rest, found := strings.Cut(got, "; ttl="); found {
		digits, after, more := strings.Cut(rest, ";")
		sign := "N"
		if strings.HasPrefix(digits, "-") {
			sign = "-N"
		}
		got = before + "; ttl=" + sign
		if more {
			got += ";" + after
		}
	}
	if got != want {
		t.Errorf("Cache-Status %q, want %q", a.cacheStatus(), want)
	}
}

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

// TestCacheStatusOfAFollower asks again while the body of the first answer is on its way: it is in the store only when it is whole.
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

// scrape returns what Prometheus would get.
func (in *instance) scrape() string {
	in.t.Helper()
	resp, err := http.Get("http://" + in.admin + "/metrics")
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		in.t.Fatal(err)
	}
	return string(body)
}

// metric is the value of one series, 0 if there is none.
func (in *instance) metric(name, labels string) float64 {
	in.t.Helper()
	if labels != "" {
		name += "{" + labels + "}"
	}
	for line := range strings.Lines(in.scrape()) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				in.t.Fatalf("%s: %v", line, err)
			}
			return n
		}
	}
	return 0
}

func TestMetrics(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", strings.Trim(r.URL.Path, "/"))
		w.Header().Set("Surrogate-Key", "secret-tag")
	})
	s := withDisk(t, "larder")
	in := start(t, s, o)
	series := map[string]float64{ // and by how much they grow
		`caddy_larder_requests_total{outcome="hit"}`:         2,
		`caddy_larder_requests_total{outcome="miss"}`:        2,
		`caddy_larder_requests_total{outcome="bypass"}`:      1,
		`caddy_larder_requests_total{outcome="stale"}`:       0,
		`caddy_larder_requests_total{outcome="revalidated"}`: 0,
		`caddy_larder_requests_total{outcome="collapsed"}`:   0,
		`caddy_larder_not_stored_total{reason="no-store"}`:   1,
		`caddy_larder_purged_total{selector="tag"}`:          2,
		`caddy_larder_purged_total{selector="url"}`:          0,
		`caddy_larder_purged_total{selector="prefix"}`:       0,
		`caddy_larder_purged_total{selector="host"}`:         0,
		`caddy_larder_purged_total{selector="all"}`:          0,
		`caddy_larder_fetch_duration_seconds_count`:          2,
		`caddy_larder_errors_total{tier="memory"}`:           0,
		`caddy_larder_errors_total{tier="disk"}`:             0,
		`caddy_larder_in_flight`:                             0,
	}
	before := make(map[string]float64)
	for name := range series {
		before[name] = in.series(name)
	}
	in.get("/max-age=60")
	in.get("/max-age=60")
	in.get("/max-age=60")
	in.get("/no-store")
	in.do(http.MethodPost, "/x", "x")
	in.purge(`{"tags":["a","b"]}`)
	in.load(s, o) // a reload keeps the counts
	eventually(t, "the fetches have ended", func() bool { return in.series("caddy_larder_in_flight") == 0 })
	for name, grows := range series {
		if got := in.series(name) - before[name]; got != grows {
			t.Errorf("%s grew by %v, want %v", name, got, grows)
		}
	}
	text := in.scrape()
	for _, name := range []string{
		`caddy_larder_entries{tier="memory"} 1`, `caddy_larder_entries{tier="disk"}`, `caddy_larder_bytes{tier="memory"}`,
		`caddy_larder_bytes{tier="disk"}`, `caddy_larder_evictions_total{reason=`, `caddy_larder_fetch_duration_seconds_bucket{le=`,
	} {
		if !strings.Contains(text, name) {
			t.Errorf("no %s", name)
		}
	}
	wantNoSecrets(t, text)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "caddy_larder") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// series is the value of a series that has to exist.
func (in *instance) series(name string) float64 {
	in.t.Helper()
	if !strings.Contains(in.scrape(), "\n"+name+" ") {
		in.t.Errorf("no series %s", name)
	}
	bare, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	return in.metric(bare, labels)
}

// wantNoSecrets: no label carries a key, URL, host or tag.
func wantNoSecrets(t *testing.T, text string) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "caddy_larder") {
			continue
		}
		for _, secret := range []string{"secret-tag", "localhost", "max-age", "http:"} {
			if strings.Contains(line, secret) {
				t.Errorf("%s", line)
			}
		}
	}
}

func TestStats(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	s := withDisk(t, "larder")
	s.options = "memory 32MiB"
	in := start(t, s, o)
	in.get("/")
	var all map[string]json.RawMessage
	eventually(t, "the entry is on disk", func() bool { return in.stats().Disk.Entries == 1 })
	if status := in.adminCall(http.MethodGet, "/larder/stats", "", &all); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for tier, want := range map[string]struct{ entries, budget float64 }{"memory": {1, 32 << 20}, "disk": {1, 64 << 20}} {
		var got map[string]any
		if err := json.Unmarshal(all[tier], &got); err != nil {
			t.Fatalf("%s: %v", tier, err)
		}
		if got["entries"] != want.entries || got["budget"] != want.budget || got["bytes"].(float64) <= 0 {
			t.Errorf("%s: %v", tier, got)
		}
	}
	var requests map[string]int64
	if err := json.Unmarshal(all["requests"], &requests); err != nil {
		t.Fatal(err)
	}
	for _, outcome := range []string{"hit", "stale", "revalidated", "miss", "collapsed", "bypass"} {
		if _, ok := requests[outcome]; !ok {
			t.Errorf("requests lack %s", outcome)
		}
	}
	if string(all["in_flight"]) != "0" {
		t.Errorf("in_flight %s", all["in_flight"])
	}

	s.disk = ""
	in.load(s, o)
	if d := in.stats().Disk; d.Entries != 0 || d.Bytes != 0 || d.Budget != 0 {
		t.Errorf("disk off: %+v", d)
	}
}

func TestEntries(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "all t"+strings.Trim(r.URL.Path, "/"))
		w.Header().Set("Cache-Groups", `"g"`)
		w.Header().Set("Age", "10")
		_, _ = io.WriteString(w, "12345")
	})
	in := start(t, withDisk(t, "larder"), o)
	const n = 7
	for i := range n {
		in.get(fmt.Sprintf("/%d?q=1", i))
	}
	one := in.entries("?tag=t3")
	if len(one.Entries) != 1 {
		t.Fatalf("%d entries with tag t3", len(one.Entries))
	}
	e := one.Entries[0]
	tags := slices.Sorted(slices.Values(e.Tags))
	if e.URL != in.url("/3?q=1") || e.Status != 200 || e.Size != 5 || !slices.Equal(tags, []string{"all", "t3"}) {
		t.Errorf("entry %+v", e)
	}
	if e.Age < 10 || e.Age > 20 || e.TTL > 50 || e.TTL < 40 {
		t.Errorf("age %d, ttl %d", e.Age, e.TTL)
	}
	if !slices.Contains([]string{"memory", "disk", "both"}, e.Tier) {
		t.Errorf("tier %q", e.Tier)
	}
	host := strings.TrimPrefix(in.url(""), "http://")
	for query, want := range map[string]int{
		"":                              n,
		"?tag=all":                      n,
		"?tag=none":                     0,
		"?prefix=" + in.url("/"):        n,
		"?prefix=" + in.url("/4"):       1,
		"?host=" + host:                 n,
		"?host=example.com":             0,
		"?host=" + host + "&tag=t1":     1,
		"?tag=t2&prefix=" + in.url("/"): 1,
	} {
		if got := len(in.entries(query).Entries); got != want {
			t.Errorf("%s lists %d, want %d", query, got, want)
		}
	}
	seen := make(map[string]int)
	for cursor, pages := "", 0; ; pages++ {
		if pages > 2*n {
			t.Fatal("the listing does not end")
		}
		page := in.entries("?limit=2&cursor=" + cursor)
		for _, e := range page.Entries {
			seen[e.URL]++
		}
		if len(page.Entries) > 2 {
			t.Errorf("a page of %d", len(page.Entries))
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	for i := range n {
		if got := seen[in.url(fmt.Sprintf("/%d?q=1", i))]; got != 1 {
			t.Errorf("/%d was listed %d times", i, got)
		}
	}
	in.purge(`{"tags":["all"]}`)
	if got := in.entries("").Entries; len(got) != 0 {
		t.Errorf("after the purge %d are listed", len(got))
	}
}

// The admin API and the metrics count the fetches under way alike, and all of them: a reload that
// names another folder ends none.
func TestInFlightAcrossStores(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, _ *visit) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "body")
	})
	s := withDisk(t, "larder")
	in := start(t, s, g.origin)
	first := gather(t, in, 1, http.MethodGet, "/", nil)
	v := g.next(t, 1)
	s.disk = t.TempDir()
	in.load(s, g.origin)
	second := gather(t, in, 1, http.MethodGet, "/", nil)
	v = append(v, g.next(t, 1)...)
	if api, metric := in.stats().InFlight, in.series("caddy_larder_in_flight"); api != 2 || metric != 2 {
		t.Errorf("two fetches are under way: the admin API counts %d, the metrics %v", api, metric)
	}
	open(v...)
	first.all()[0].want(t, 200, "body", "")
	second.all()[0].want(t, 200, "body", "")
	settled(t, in)
}
