package fleet_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/store"
)

// testLog is the log, as all test nodes have applied it: it has purges, and gives passes.
type testLog struct {
	masks   store.Masks
	applied atomic.Uint64
	noPass  atomic.Bool
	epoch   atomic.Pointer[string]
}

func (l *testLog) Begin() (fleet.Stamp, bool) {
	return fleet.Stamp{Epoch: *l.epoch.Load(), Generation: fleet.Generation(l.applied.Load())}, !l.noPass.Load()
}

func (l *testLog) Judge(s fleet.Stamp, url string, tags []string) (store.Severity, bool) {
	return l.masks.Judge(url, tags, uint64(s.Generation)), s.Epoch == *l.epoch.Load()
}

// position is a node's place in it.
type position struct {
	*testLog
	ahead time.Duration // the server's clock, of this node's
}

func (p *position) Ahead() (least, most time.Duration) { return p.ahead, p.ahead }

// site is some nodes before one origin.
type site struct {
	t      *testing.T
	server *fleettest.Server
	log    *testLog
	nodes  []*node
	calls  atomic.Int64 // of the origin
	origin atomic.Pointer[http.HandlerFunc]

	mu       sync.Mutex
	puts     []putCall
	chunks   []string     // the ids of bodies whose first chunk was put
	uploaded atomic.Int64 // bytes of records and chunks
}

// putCall is a call of PutRecord.
type putCall struct {
	key, variant string
	record, row  []byte
}

// recording notes the records that nodes put.
type recording struct {
	fleet.Engine
	site *site
}

func (r recording) PutRecord(ctx context.Context, key, variant string, record, row []byte, ttl time.Duration) error {
	r.site.mu.Lock()
	r.site.uploaded.Add(int64(len(record)))
	r.site.puts = append(r.site.puts, putCall{key, variant, bytes.Clone(record), bytes.Clone(row)})
	r.site.mu.Unlock()
	return r.Engine.PutRecord(ctx, key, variant, record, row, ttl)
}

func (r recording) ReplaceRecord(
	ctx context.Context, key, variant string, seen, record, row []byte, ttl time.Duration,
) (ok bool, err error) {
	r.site.mu.Lock()
	r.site.uploaded.Add(int64(len(record)))
	r.site.puts = append(r.site.puts, putCall{key, variant, bytes.Clone(record), bytes.Clone(row)})
	r.site.mu.Unlock()
	return r.Engine.ReplaceRecord(ctx, key, variant, seen, record, row, ttl)
}

func (r recording) PutChunk(ctx context.Context, id string, number int, chunk []byte, ttl time.Duration) error {
	r.site.uploaded.Add(int64(len(chunk)))
	if number == 0 {
		r.site.mu.Lock()
		r.site.chunks = append(r.site.chunks, id)
		r.site.mu.Unlock()
	}
	return r.Engine.PutChunk(ctx, id, number, chunk, ttl)
}

// node is a machine of a site.
type node struct {
	http.Handler
	site    *site
	store   *store.Store
	cache   *httpcache.Cache
	tier    *fleet.SharedTier
	log     *position
	metrics *testMetrics

	compress bool // what it uploads
}

// testMetrics counts by words.
type testMetrics struct {
	mu    sync.Mutex
	count map[string]int
}

func (m *testMetrics) add(word string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count[word]++
}

func (m *testMetrics) of(word string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count[word]
}

func (m *testMetrics) SharedRequest(op fleet.Op, outcome fleet.Outcome, _ time.Duration) {
	m.add(op.String() + " " + outcome.String())
}

func (m *testMetrics) Lease(outcome fleet.LeaseOutcome) { m.add("lease " + outcome.String()) }

// newSite makes a site of n nodes. change may be nil.
func newSite(t *testing.T, n int, origin http.HandlerFunc, change func(*fleet.TierConfig, *httpcache.Rules)) *site {
	t.Helper()
	s := &site{t: t, server: fleettest.NewServer(), log: new(testLog)}
	epoch := "epoch"
	s.log.epoch.Store(&epoch)
	s.origin.Store(&origin)
	for i, engine := range s.server.Clients(n) {
		s.add(i, engine, change)
	}
	t.Cleanup(s.close)
	return s
}

// add adds a node.
func (s *site) add(i int, engine fleet.Engine, change func(*fleet.TierConfig, *httpcache.Rules)) {
	config, rules := fleet.TierConfig{Node: fmt.Sprint("node", i), Logger: slog.New(slog.DiscardHandler)}, httpcache.Rules{Status: httpcache.StatusFull}
	nd := &node{site: s, log: &position{testLog: s.log}, metrics: &testMetrics{count: map[string]int{}}}
	config.Metrics = nd.metrics
	if change != nil {
		change(&config, &rules)
	}
	nd.store = store.New(store.Config{}, store.Settings{Memory: 64 << 20, MaxBody: 32 << 20})
	if err := nd.store.Open(); err != nil {
		s.t.Fatal(err)
	}
	nd.tier = fleet.NewSharedTier(recording{engine, s}, nd.log, config)
	nd.tier.Start()
	nd.cache = httpcache.New(httpcache.Options{Store: nd.store, Remote: func() httpcache.RemoteFetch {
		if f := nd.tier.Begin(); f != nil {
			f.Compress(nd.compress)
			return f
		}
		return nil
	}})
	cached := httpcache.Middleware(nd.cache.NewRoute(rules, nil))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		(*s.origin.Load())(w, r)
	}))
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(i+1)), Port: 80} // each machine has its own, and the same port
	nd.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cached.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(at))))
	})
	s.nodes = append(s.nodes, nd)
}

func (s *site) close() {
	for _, nd := range s.nodes {
		nd.tier.Close()
		nd.awaitIdle()
		if err := nd.store.Close(); err != nil {
			s.t.Error(err)
		}
	}
}

// awaitIdle waits until no request and no fetch is under way, and nothing waits to be uploaded.
func (nd *node) awaitIdle() {
	for deadline := time.Now().Add(time.Minute); nd.cache.Users() > 0 || nd.tier.Stats().UploadBytes > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			nd.site.t.Fatalf("%d requests and fetches, %+v", nd.cache.Users(), nd.tier.Stats())
		}
	}
}

// purge purges all nodes: the masks first, the caches second.
func (s *site) purge(sel store.Selectors, severity store.Severity) {
	s.t.Helper()
	s.log.masks.Add(s.log.applied.Load()+1, sel, severity)
	for _, nd := range s.nodes {
		if _, err := nd.cache.Purge(s.t.Context(), sel, httpcache.PurgeOptions{PurgeOptions: store.PurgeOptions{Severity: severity}}); err != nil {
			s.t.Error(err)
		}
	}
	s.log.applied.Add(1)
}

// forget has a node lose what it has stored, and not what the fleet has.
func (nd *node) forget() {
	nd.site.t.Helper()
	if _, err := nd.cache.Purge(nd.site.t.Context(), store.Selectors{All: true}, httpcache.PurgeOptions{}); err != nil {
		nd.site.t.Error(err)
	}
}

// answer is what a client gets.
type answer struct {
	status int
	body   string
	cache  string // Cache-Status without ttl and key
	header http.Header
	broken bool // off, by closing the connection
}

func (a answer) String() string {
	if len(a.body) > 40 {
		a.body = fmt.Sprintf("%s…%d", a.body[:20], len(a.body))
	}
	return fmt.Sprintf("%d %s %s", a.status, a.body, a.cache)
}

// get asks a node for a path, with header fields given as pairs.
func (nd *node) get(path string, header ...string) answer {
	r := httptest.NewRequestWithContext(nd.site.t.Context(), http.MethodGet, "http://example.com"+path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	broken := false
	func() {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				broken = true
			default:
				panic(v)
			}
		}()
		nd.ServeHTTP(w, r)
	}()
	var cache []string
	for part := range strings.SplitSeq(strings.TrimPrefix(w.Header().Get("Cache-Status"), "Larder; "), "; ") {
		if !strings.HasPrefix(part, "ttl=") && !strings.HasPrefix(part, "key=") {
			cache = append(cache, part)
		}
	}
	return answer{w.Code, w.Body.String(), strings.Join(cache, "; "), w.Header(), broken}
}

// want checks an answer and how often the origin has been asked so far.
func (s *site) want(got answer, want string, calls int64) {
	s.t.Helper()
	if got.String() != want || s.calls.Load() != calls {
		s.t.Errorf("%v after %d calls of the origin, want %s after %d", got, s.calls.Load(), want, calls)
	}
}

// page answers with a text that is fresh for a minute.
func page(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "page")
		_, _ = io.WriteString(w, text)
	}
}
