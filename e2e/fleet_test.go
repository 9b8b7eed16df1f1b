package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fleetNode is a Caddy process of a fleet. All nodes have the same port, and an address each.
type fleetNode struct {
	*caddyProcess
	client *http.Client
}

// newFleet returns nodes that share by a server. They have yet to be started.
func newFleet(t *testing.T, n int, shared string, o *origin) []*fleetNode {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	port := freePort(t)
	nodes := make([]*fleetNode, n)
	for i := range nodes {
		c := newProcess(t)
		c.site = fmt.Sprintf("127.0.0.%d:%d", i+1, port)
		text := fmt.Sprintf(`{
	admin %s
	auto_https off
	persist_config off
	grace_period 1s
	larder {
		disk %s 64MiB
		%s
	}
}
http://:%d {
	bind 127.0.0.%d
	larder {
		status full
	}
	reverse_proxy %s
}
`, c.admin, filepath.Join(c.dir, "store"), shared, port, i+1, strings.TrimPrefix(o.URL, "http://"))
		if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.kill)
		nodes[i] = &fleetNode{c, &http.Client{Transport: &http.Transport{}, Timeout: patience}}
		t.Cleanup(nodes[i].client.CloseIdleConnections)
	}
	return nodes
}

// ask sends a request for a path, as if all nodes were one site.
func (n *fleetNode) ask(method, path string) (status, body string) {
	n.t.Helper()
	r, err := http.NewRequest(method, "http://"+n.site+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	r.Host = "fleet.test"
	response, err := n.client.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		n.t.Fatalf("%s %s: %d %q, %v", method, path, response.StatusCode, text, err)
	}
	return withoutDetails(response.Header.Get("Cache-Status")), string(text)
}

// withoutDetails leaves out of Cache-Status what differs from run to run.
func withoutDetails(status string) string {
	var kept []string
	for part := range strings.SplitSeq(strings.TrimPrefix(status, "Larder; "), "; ") {
		if !strings.HasPrefix(part, "key=") && !strings.HasPrefix(part, "ttl=") {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "; ")
}

// wants fails the test unless a GET has this Cache-Status and body.
func (n *fleetNode) wants(path, status, body string) {
	n.t.Helper()
	if gotStatus, gotBody := n.ask(http.MethodGet, path); gotStatus != status || gotBody != body {
		n.t.Errorf("%s at %s: %q, %q; want %q, %q", path, n.site, gotBody, gotStatus, body, status)
	}
}

// fleetStats is the part of GET /larder/stats that is about the fleet.
type fleetStats struct {
	State, Epoch, Breaker string
	Applied, Tail         uint64
	PassMS                int64 `json:"pass_ms"`
	LagMS                 int64 `json:"lag_ms"`
	Nodes                 int
}

// call calls the node's admin API. What is safe to ask for is asked for again where the admin
// endpoint that goes at a reload has closed the connection.
func (n *fleetNode) call(method, path, body string, into any) (status int) {
	n.t.Helper()
	response, err := n.try(method, path, body)
	for attempt := 1; err != nil && attempt < 3 && method == http.MethodGet && droppedUnanswered(err); attempt++ {
		n.t.Logf("asking again for %s: %v", path, err)
		response, err = n.try(method, path, body)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	return response.StatusCode
}

func (n *fleetNode) try(method, path, body string) (*http.Response, error) {
	r, err := http.NewRequest(method, "http://"+n.admin+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	return n.client.Do(r)
}

func (n *fleetNode) fleetStats() fleetStats {
	n.t.Helper()
	var s struct{ Shared fleetStats }
	n.call(http.MethodGet, "/larder/stats", "", &s)
	return s.Shared
}

// metrics is what Prometheus would get.
func (n *fleetNode) metrics() string {
	n.t.Helper()
	response, err := n.client.Get("http://" + n.admin + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return string(text)
}

// awaits returns when the node stands to its fleet like that.
func (n *fleetNode) awaits(state string) {
	n.t.Helper()
	eventually(n.t, n.site+" is "+state, func() bool { return n.fleetStats().State == state })
}

// nodePurge is the answer to a purge.
type nodePurge struct {
	Matched, Nodes    int
	Fenced, Uncertain []string
	Error             string
}

func (n *fleetNode) purges(body string) (status int, p nodePurge) {
	n.t.Helper()
	status = n.call(http.MethodPost, "/larder/purge", body, &p)
	return status, p
}

// versions is an origin whose pages have the number of their fetch, and an entity tag of the
// version that a PUT has made.
func versions(t *testing.T) *origin {
	version := make(chan int, 1)
	version <- 1
	return newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		v := <-version
		if r.Method != http.MethodGet {
			v++
		}
		version <- v
		tag := fmt.Sprintf(`"v%d"`, v)
		w.Header().Set("Cache-Control", "max-age=600, stale-while-revalidate=600, stale-if-error=600")
		w.Header().Set("Etag", tag)
		w.Header().Set("Surrogate-Key", "page")
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprintf(w, "version %d", v)
	})
}

const (
	fleetMiss      = "fwd=uri-miss; stored"
	fleetHit       = "hit"
	fleetConfirmed = "fwd=stale; fwd-status=304; stored; detail=no-pass"
)

// TestFleetOfTwo: what one node has fetched the other answers with, and a purge on one holds on
// both when it has answered.
func TestFleetOfTwo(t *testing.T) {
	t.Parallel()
	redis, o := startRedis(t), versions(t)
	nodes := newFleet(t, 2, fmt.Sprintf("shared redis://127.0.0.1:%d {\ntimeout 10s\n}", redis.port), o)
	a, b := nodes[0], nodes[1]
	for _, n := range nodes {
		n.start()
		n.awaits("held")
	}
	a.wants("/", fleetMiss, "version 1")
	eventually(t, "the response is shared", func() bool {
		_, body := b.ask(http.MethodGet, "/")
		return body == "version 1"
	})
	o.asked(t, 1)
	b.wants("/", fleetHit, "version 1")

	a.ask(http.MethodPut, "/other") // a new version, of which no cache hears
	status, p := b.purges(`{"tags":["page"]}`)
	if status != http.StatusOK || p.Nodes != 2 || len(p.Fenced)+len(p.Uncertain) != 0 || p.Matched != 1 {
		t.Errorf("the purge: %d %+v", status, p)
	}
	a.wants("/", fleetMiss, "version 2")
	_, dry := b.purges(`{"all":true,"dry_run":true}`)
	if dry.Nodes != 1 {
		t.Errorf("the dry run: %+v", dry)
	}

	b.wants("/", fleetHit, "version 2")
	a.ask(http.MethodPut, "/") // of which both hear
	eventually(t, "the other node hears of an unsafe request", func() bool {
		_, body := b.ask(http.MethodGet, "/")
		return body == "version 3"
	})

	table := a.larder(0, "fleet")
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != 3 || strings.Count(table, " * ") != 1 || strings.Count(table, "held") != 2 {
		t.Errorf("caddy larder fleet:\n%s", table)
	}
	for _, series := range []string{
		`caddy_larder_shared_state{state="held",zone="default"} 1`, `caddy_larder_shared_state{state="lost",zone="default"} 0`,
		`caddy_larder_fleet_nodes{zone="default"} 2`,
		`caddy_larder_purge_wait_seconds_count{zone="default"} 1`, `caddy_larder_shared_requests_total{op="get",outcome="hit",zone="default"}`,
		`caddy_larder_leases_total{outcome="taken",zone="default"}`, `caddy_larder_shared_seconds_count{op="get",zone="default"}`, "caddy_larder_shared_lag_seconds",
	} {
		if !strings.Contains(b.metrics(), "\n"+series) {
			t.Errorf("no %s among the metrics", series)
		}
	}
	if out := b.larder(0, "purge", "--all"); !strings.HasSuffix(out, "; it holds on 2 nodes\n") {
		t.Errorf("caddy larder purge: %q", out)
	}

	b.stop() // it leaves: a purge that waited for it would have found it fenced
	if status, p := a.purges(`{"all":true}`); status != http.StatusOK || p.Nodes != 1 || len(p.Fenced) != 0 {
		t.Errorf("the purge after a node has left: %d %+v", status, p)
	}
}

// TestFleetWithoutRedis: within the fence hits go on, after it what is stored needs the origin's
// 304, and when the server is back all is as before. A purge in between holds here alone, and says
// so.
func TestFleetWithoutRedis(t *testing.T) {
	t.Parallel()
	redis, o := startRedis(t), versions(t)
	nodes := newFleet(t, 1, fmt.Sprintf("shared redis://127.0.0.1:%d {\nfence 6s\n}", redis.port), o)
	n := nodes[0]
	n.start()
	n.awaits("held")
	n.wants("/", fleetMiss, "version 1")

	redis.kill()
	killed := time.Now()
	status, body := n.ask(http.MethodGet, "/")
	if within := time.Since(killed) < time.Second; within && (status != fleetHit || body != "version 1") {
		t.Errorf("within the fence: %q, %q", body, status)
	}
	eventually(t, "the pass is over", func() bool {
		s := n.fleetStats()
		return s.PassMS <= 0 && s.LagMS >= 6000
	})
	n.wants("/", fleetConfirmed, "version 1")
	n.ask(http.MethodPut, "/other")
	n.wants("/", "fwd=stale; fwd-status=200; stored; detail=no-pass", "version 2")
	if status, p := n.purges(`{"all":true}`); status != http.StatusServiceUnavailable || !strings.Contains(p.Error, "it holds on this node only") {
		t.Errorf("a purge without Redis: %d %+v", status, p)
	}
	n.wants("/", fleetMiss, "version 2")

	redis.start()
	n.awaits("held")
	n.ask(http.MethodGet, "/") // confirmed, as what was stored without contact
	n.wants("/", fleetHit, "version 2")
	if status, p := n.purges(`{"all":true}`); status != http.StatusOK || p.Nodes != 1 {
		t.Errorf("a purge with Redis: %d %+v", status, p)
	}
}

// TestFleetNeedsNoRedisToStart: neither `caddy validate` nor a start needs the server, and a reload
// that says the same is the same node.
func TestFleetNeedsNoRedisToStart(t *testing.T) {
	t.Parallel()
	redis, o := startRedis(t, "--requirepass", "right"), versions(t)
	shared := func(password string) string {
		return fmt.Sprintf("shared redis://:%s@127.0.0.1:%d", password, redis.port)
	}
	n := newFleet(t, 1, shared("wrong"), o)[0]
	cmd := exec.Command(n.binary, "validate", "--config", n.config)
	cmd.Env = n.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("caddy validate: %v\n%s", err, out)
	}
	n.start()
	n.awaits("refused")
	n.wants("/", fleetMiss, "version 1") // it serves, from the origin
	var log string
	eventually(t, "the log names the wrong password", func() bool { // after the state is told
		text, err := os.ReadFile(n.log.Name())
		log = string(text)
		return err == nil && strings.Contains(log, "WRONGPASS")
	})
	if strings.Contains(log, "wrong@") {
		t.Errorf("the log shows the wrong password:\n%s", log)
	}
	n.reload(shared("wrong"), shared("right"))
	n.awaits("held")
	id := n.nodeID()
	n.reload("status full", "status off")
	if again := n.nodeID(); again != id {
		t.Errorf("the reload has made another node: %s, %s", id, again)
	}
}

// reload changes the Caddyfile and loads it.
func (n *fleetNode) reload(from, to string) {
	n.t.Helper()
	text, err := os.ReadFile(n.config)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(n.config, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(n.binary, "reload", "--config", n.config, "--address", n.admin, "--force")
	cmd.Env = n.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("caddy reload: %v\n%s", err, out)
	}
}

// nodeID is the id of the only node.
func (n *fleetNode) nodeID() string {
	n.t.Helper()
	var f struct {
		Nodes []struct {
			ID   string
			This bool
		}
	}
	if status := n.call(http.MethodGet, "/larder/fleet", "", &f); status != http.StatusOK || len(f.Nodes) != 1 || !f.Nodes[0].This {
		n.t.Fatalf("the nodes: %d %+v", status, f)
	}
	return f.Nodes[0].ID
}

// TestFleetHasAFileInSlices: a slice that one node has fetched the other has, and a purge takes the
// file on both, whatever of it is shared.
func TestFleetHasAFileInSlices(t *testing.T) {
	t.Parallel()
	const length = 9 << 20
	var version atomic.Int32
	version.Store(1)
	var asked atomic.Int32
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Etag", `"the same"`) // so that a purge alone tells the versions apart
		http.ServeContent(w, r, "film.mp4", time.Time{}, bytes.NewReader(bytes.Repeat([]byte{byte(version.Load())}, length)))
	})
	redis := startRedis(t)
	nodes := newFleet(t, 2, fmt.Sprintf("shared redis://127.0.0.1:%d {\ntimeout 10s\n}", redis.port), o)
	for _, n := range nodes {
		n.start()
		n.awaits("held")
	}
	wants := func(n *fleetNode, from int, version byte, times int32) {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, "http://"+n.site+"/film.mp4", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "fleet.test"
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+9))
		response, err := n.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusPartialContent || !bytes.Equal(text, bytes.Repeat([]byte{version}, 10)) {
			t.Errorf("%d at %s: %d %v, %v, %s; want version %d", from, n.site, response.StatusCode, text, err, response.Header.Get("Cache-Status"), version)
		}
		if got := asked.Load(); got != times {
			t.Errorf("%d at %s: the origin was asked %d times, want %d; %s", from, n.site, got, times, response.Header.Get("Cache-Status"))
		}
	}
	shares := func(n *fleetNode, records int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d records are shared", records), func() bool {
			return strings.Contains(n.metrics(), fmt.Sprintf("\ncaddy_larder_shared_requests_total{op=\"put\",outcome=\"done\",zone=\"default\"} %d\n", records))
		})
	}
	a, b := nodes[0], nodes[1]
	wants(a, 0, 1, 1)
	wants(a, 5<<20, 1, 2)
	shares(a, 3) // the head, and two slices
	wants(b, 5<<20, 1, 2)
	wants(b, 10, 1, 2)
	wants(b, 8<<20, 1, 3)
	shares(b, 1)
	wants(a, 8<<20, 1, 3)

	version.Store(2)
	if status, p := b.purges(`{"urls":["http://fleet.test/film.mp4"]}`); status != http.StatusOK || p.Matched != 1 {
		t.Errorf("the purge: %d %+v", status, p)
	}
	wants(a, 5<<20, 2, 4)
	shares(a, 5)
	wants(b, 5<<20, 2, 4)
	wants(b, 0, 2, 5)
}
