package larder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/store"
)

func init() { caddy.RegisterModule(new(memoryEngine)) }

// memoryEngine is an engine without a server.
type memoryEngine struct {
	cfg.SharedConfig
}

// memoryServer is what it opens next, and memoryOpened counts.
var (
	memoryServer atomic.Pointer[fleettest.Server]
	memoryOpened atomic.Int64
)

func (*memoryEngine) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "larder.shared.memory", New: func() caddy.Module { return new(memoryEngine) }}
}

func (e *memoryEngine) Fleet() cfg.SharedConfig { return e.WithDefaults() }

func (e *memoryEngine) Open(*slog.Logger) (fleet.Engine, error) {
	memoryOpened.Add(1)
	return memoryServer.Load().Clients(1)[0], nil
}

// provisionApp provisions an app, and cleans it up at the end.
func provisionApp(t *testing.T, config string) (*App, error) {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{moduleName: json.RawMessage(config)},
	})
	if err != nil {
		return nil, err
	}
	app, err := ctx.App(moduleName)
	if err != nil {
		return nil, err
	}
	return app.(*App), nil
}

// A reload that says the same of the fleet goes on with the same node, one that says something else
// does not, and the last configuration that goes takes the node along.
func TestAFleetOutlivesConfigurations(t *testing.T) {
	memoryServer.Store(fleettest.NewServer())
	opened := memoryOpened.Load()
	first, err := provisionApp(t, `{"disk":{"off":true},"shared":{"engine":"memory","fence":"5s"}}`)
	if err != nil {
		t.Fatal(err)
	}
	same, err := provisionApp(t, `{"disk":{"off":true},"memory":1048576,"shared":{"fence":5000000000,"engine":"memory"}}`)
	if err != nil {
		t.Fatal(err)
	}
	other, err := provisionApp(t, `{"disk":{"off":true},"shared":{"engine":"memory","fence":"6s"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if first.node == nil || same.node != first.node || other.node == first.node || other.node == nil {
		t.Errorf("nodes %p, %p, %p: want the same twice, and another", first.node, same.node, other.node)
	}
	if n := memoryOpened.Load() - opened; n != 2 {
		t.Errorf("%d engines are open, want 2", n)
	}
	if nodes := *first.cache.nodes.Load(); len(nodes) != 2 {
		t.Errorf("the cache answers by %d nodes, want both", len(nodes))
	}
	for _, app := range []*App{first, other, same} {
		if err := app.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	fleets.Range(func(key, _ any) bool {
		t.Errorf("%v outlives its configurations", key)
		return true
	})
	awaitClosedCaches(t)
}

// What is provisioned and not started, as by `caddy validate`, asks the server for nothing.
func TestValidateAsksNoServer(t *testing.T) {
	server := fleettest.NewServer()
	memoryServer.Store(server)
	app, err := provisionApp(t, `{"disk":{"off":true},"shared":{"engine":"memory"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Cleanup(); err != nil {
		t.Error(err)
	}
	nodes, state, err := server.Clients(1)[0].Nodes(t.Context())
	if err != nil || len(nodes) != 0 || nodesJoined.Load() != 0 {
		t.Errorf("nodes %v, %v, %v", nodes, state, err)
	}
	awaitClosedCaches(t)
}

// A shared block that cannot be meant is an error of the configuration.
func TestSharedThatIsWrong(t *testing.T) {
	for config, want := range map[string]string{
		`{"engine":"carrier-pigeon"}`:       "unknown module: larder.shared.carrier-pigeon",
		`{"fence":"1s"}`:                    "engine",
		`{"engine":"memory","fences":"1s"}`: "unknown field",
	} {
		_, err := provisionApp(t, `{"disk":{"off":true},"shared":`+config+`}`)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", config, err, want)
		}
	}
	fleets.Range(func(key, _ any) bool {
		t.Errorf("%v is left", key)
		return true
	})
	awaitClosedCaches(t)
}

// Without contact to the fleet a stored response needs the origin's word.
func TestAHandlerAsksForThePass(t *testing.T) {
	memoryServer.Store(fleettest.NewServer())
	h := newTestHandlerWith(t, `{"disk":{"off":true},"shared":{"engine":"memory"}}`)
	calls := 0
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		calls++
		w.Header().Set("Cache-Control", "max-age=60")
		w.WriteHeader(http.StatusOK)
		return nil
	})
	n, err := newNode(new(memoryEngine)) // that has never joined
	if err != nil {
		t.Fatal(err)
	}
	h.app.cache.nodes.Store(&[]*node{n})
	for range 2 {
		w := &nullWriter{make(http.Header)}
		if err := h.ServeHTTP(w, newTestRequest(w), next); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 2 {
		t.Errorf("a node that has no pass asks the origin %d times for two requests", calls)
	}
}

// awaitPass returns when a node has a pass.
func awaitPass(t *testing.T, n *node) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !n.Pass(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("the node has no pass: %+v", n.Stats())
		}
	}
}

// A file that is opened while a node runs may be of before what the node has applied: what is in it
// needs the origin's word once.
func TestAFileOpenedInAFleetIsSuspect(t *testing.T) {
	memoryServer.Store(fleettest.NewServer())
	calls := 0
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		calls++
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Etag", `"v"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		w.WriteHeader(http.StatusOK)
		return nil
	})
	const shared = `"shared":{"engine":"memory","store":false}`
	inMemory := newTestHandlerWith(t, `{"disk":{"off":true},`+shared+`}`)
	awaitPass(t, inMemory.app.node)
	disk := `{"disk":{"path":` + strconv.Quote(t.TempDir()) + `},` + shared + `}`
	for _, want := range []string{"Larder; fwd=uri-miss; stored", "Larder; fwd=stale; fwd-status=304; stored"} {
		h := startTestHandler(t, disk)
		if h.app.node != inMemory.app.node {
			t.Fatal("it is another node")
		}
		for _, want := range []string{want, "Larder; hit"} {
			w := &nullWriter{make(http.Header)}
			if err := h.ServeHTTP(w, newTestRequest(w), next); err != nil {
				t.Fatal(err)
			}
			if got := w.header.Get("Cache-Status"); !strings.HasPrefix(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if err := h.app.Cleanup(); err != nil {
			t.Error(err)
		}
		for cachesInUse() > 1 {
			runtime.Gosched()
		}
	}
	if calls != 2 {
		t.Errorf("the origin was asked %d times, want 2", calls)
	}
}

// Of unsafe requests the other nodes hear, whether what they name is stored here or not: they may
// have what this node has not. Of a dry run they do not.
func TestInvalidationsTravel(t *testing.T) {
	server := fleettest.NewServer()
	memoryServer.Store(server)
	h := newTestHandlerWith(t, `{"disk":{"off":true},"shared":{"engine":"memory","store":false}}`)
	awaitPass(t, h.app.node)
	named := &Handler{HandlerConfig: cfg.HandlerConfig{Invalidate: []cfg.InvalidateRule{{Tags: []string{"a"}}}}}
	if err := named.Provision(h.app.ctx); err != nil {
		t.Fatal(err)
	}
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=600")
		w.WriteHeader(http.StatusOK)
		return nil
	})
	log, after := server.Clients(1)[0], fleet.Generation(0)
	for _, tc := range []struct {
		name    string
		handler *Handler
		method  string
		travels bool
	}{
		{"nothing is stored", h, http.MethodPut, true},
		{"a rule names it", named, http.MethodPut, true},
		{"it is stored", h, http.MethodGet, false},
		{"now it is", h, http.MethodPut, true},
	} {
		_, state, err := log.Read(t.Context(), fleet.Place{}, after, 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		for h.app.node.Stats().Applied < state.Tail { // or what is stored now goes by the record before
			runtime.Gosched()
		}
		w := &nullWriter{make(http.Header)}
		r := newTestRequest(w)
		r.Method = tc.method
		if err := tc.handler.ServeHTTP(w, r, next); err != nil {
			t.Fatal(err)
		}
		wait := 10 * invalidationsGather
		if tc.travels {
			wait = 2 * time.Minute
		}
		records, _, err := log.Read(t.Context(), fleet.Place{}, state.Tail, 1000, wait)
		if err != nil || len(records) > 0 != tc.travels {
			t.Errorf("%s: %d records, %v", tc.name, len(records), err)
		}
	}
	_, state, err := log.Read(t.Context(), fleet.Place{}, after, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	dry := httpcache.PurgeOptions{PurgeOptions: store.PurgeOptions{DryRun: true}}
	if _, err := h.app.cache.Purge(t.Context(), store.Selectors{All: true}, dry); err != nil {
		t.Error(err)
	}
	if records, _, err := log.Read(t.Context(), fleet.Place{}, state.Tail, 1000, 10*invalidationsGather); err != nil || len(records) > 0 {
		t.Errorf("a dry run: %d records, %v", len(records), err)
	}
}

// What another node has shared is not the answer to a request that comes after an unsafe one,
// whether this node had it or not, and whatever the server does with what follows.
func TestAnUnsafeRequestReachesTheSharedTier(t *testing.T) {
	server := fleettest.NewServer()
	memoryServer.Store(server)
	h := newTestHandlerWith(t, `{"disk":{"off":true},"shared":{"engine":"memory"}}`)
	awaitPass(t, h.app.node)
	version := 0
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if r.Method == http.MethodPut {
			version++
		}
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Version", strconv.Itoa(version))
		w.WriteHeader(http.StatusOK)
		return nil
	})
	ask := func(method string) http.Header {
		w := &nullWriter{make(http.Header)}
		r := newTestRequest(w)
		r.Method = method
		if err := h.ServeHTTP(w, r, next); err != nil {
			t.Fatal(err)
		}
		return w.header
	}
	forget := func() { // this node's copy, as an eviction does
		if _, err := h.app.cache.Store().Purge(store.Selectors{All: true}, store.PurgeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, held := range []bool{true, false} {
		server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{} })
		version++
		forget()
		for deadline := time.Now().Add(2 * time.Minute); ; runtime.Gosched() { // until it is in the shared tier
			ask(http.MethodGet)
			forget()
			if strings.Contains(ask(http.MethodGet).Get("Cache-Status"), "hit") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("nothing comes to the shared tier")
			}
		}
		server.SetFault(func(c fleettest.Call) fleettest.Fault {
			if c.Method == "Append" {
				return fleettest.Fault{Err: fleet.ErrReadOnly}
			}
			return fleettest.Fault{}
		})
		if !held {
			forget()
		}
		ask(http.MethodPut)
		if got := ask(http.MethodGet).Get("Version"); got != strconv.Itoa(version) {
			t.Errorf("held here %v: version %s after an unsafe request, want %d", held, got, version)
		}
	}
}

// invalidationsGather is about how long they gather until they are appended.
const invalidationsGather = 10 * time.Millisecond

// replicasOf is an engine that answers, after a failure, how many replicas its server has.
type replicasOf struct{ has, asked int }

func (r *replicasOf) Replicas(context.Context) (int, error) {
	if r.asked++; r.asked == 1 {
		return 0, errors.New("no connection")
	}
	return r.has, nil
}

// A purge that waits for more replicas than there are is never done, so that is said at the start.
func TestReplicasThatAreMissing(t *testing.T) {
	for has, want := range []string{"replicas=2 has=0", "replicas=2 has=1", ""} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			warnOfReplicas(t.Context(), &replicasOf{has: has}, 2, slog.New(slog.NewTextHandler(&log, nil)))
			if got := log.String(); want == "" && got != "" || !strings.Contains(got, want) {
				t.Errorf("of %d replicas: %q, want %q in it", has, got, want)
			}
		})
	}
}

// A Redis block is checked when it is provisioned, with what its placeholders stand for.
func TestProvisionRedis(t *testing.T) {
	t.Setenv("LARDER_TEST_REDIS", "redis://:pa55w0rd@localhost:6379")
	t.Setenv("LARDER_TEST_EMPTY", "")
	for block, want := range map[string]string{
		`"urls":["{env.LARDER_TEST_REDIS}"]`:                              "",
		`"urls":["redis://localhost"],"secret":"{env.LARDER_TEST_EMPTY}"`: "is empty",
		`"urls":["{env.LARDER_TEST_REDIS}/x"]`:                            "names no database by a number",
		`"urls":["rediss://localhost"],"tls":{"ca":"/nonexistent"}`:       "tls ca",
		`"urls":["rediss://localhost"],"tls":{"ca":"shared_test.go"}`:     "has no certificate",
		`"urls":["redis://localhost"],"fence":"10ms"`:                     "fence",
	} {
		app, err := provisionApp(t, `{"disk":{"off":true},"shared":{"engine":"redis",`+block+`}}`)
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q in it", block, err, want)
		case err != nil && strings.Contains(err.Error(), "pa55w0rd"):
			t.Errorf("%s: the error has the password: %v", block, err)
		case err == nil:
			if err := app.Cleanup(); err != nil {
				t.Error(err)
			}
		}
	}
	awaitClosedCaches(t)
}

// The nodes of a fleet share what came in by the same ports, whatever addresses they have. Servers
// of one node are kept apart all the same.
func TestSharedServerNames(t *testing.T) {
	name := func(of string, others ...string) string {
		server := &caddyhttp.Server{Listen: strings.Fields(of)}
		all := map[string]*caddyhttp.Server{"srv0": server}
		for _, other := range others {
			all[other] = &caddyhttp.Server{Listen: strings.Fields(other)}
		}
		return sharedServerName(server, all)
	}
	for _, tc := range []struct {
		one, two string
		same     bool
	}{
		{name("10.0.0.1:443"), name("10.0.0.2:443"), true},
		{name("10.0.0.1:443"), name(":443"), true},
		{name("10.0.0.1:443 10.0.0.1:80"), name("[::1]:80 [::1]:443"), true},
		{name("10.0.0.1:443", ":80"), name("10.0.0.2:443", ":80", ":81"), true},
		{name(":443"), name(":8443"), false},
		{name(":443"), name("udp/:443"), false},
		{name("10.0.0.1:443", "10.0.0.9:443"), name("10.0.0.9:443", "10.0.0.1:443"), false},
		{name("unix//run/a.sock"), name("unix//run/b.sock"), false},
		{name("unix//run/a.sock"), name("unix//run/a.sock"), true},
	} {
		if (tc.one == tc.two) != tc.same {
			t.Errorf("%+v", tc)
		}
	}
	if sharedServerName(nil, nil) != "" {
		t.Error("no server has a name")
	}
}
