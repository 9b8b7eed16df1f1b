package store

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the randomised tests; 0 takes one from the clock")

// seeded returns a source of randomness whose seed a failure prints.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// testClock is a clock that goes on when told.
type testClock struct{ nanos atomic.Int64 }

func newTestClock() *testClock {
	c := &testClock{}
	c.nanos.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *testClock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *testClock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

func openStore(t testing.TB, cfg Config, settings Settings) *Store {
	t.Helper()
	s := New(cfg, inAll(settings))
	if err := s.Open(); err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func keyOf(url string) Key { return sha256.Sum256([]byte(url)) }

func matchAny(*Variant) int { return 1 }

// testEntry is an entry of the current generation, kept for an hour.
func testEntry(s *Store, url string, body []byte, tags ...string) *Entry {
	now := s.now()
	header := http.Header{"A": {"b"}}
	if compressAll {
		header.Set("Content-Type", "text/plain")
	}
	return &Entry{
		Key: keyOf(url), URL: url, Method: http.MethodGet, Status: http.StatusOK, Header: header,
		Tags: tags, RequestTime: now, ResponseTime: now, FreshUntil: now.Add(time.Minute), KeepUntil: now.Add(time.Hour),
		Generation: s.purges.last.Load(), Body: NewBody([][]byte{body}),
	}
}

func bodyOf(t testing.TB, e *Entry) []byte {
	t.Helper()
	var out []byte
	for off := int64(0); off < e.Body.Len(); {
		c, err := e.Body.Chunk(off)
		if err != nil {
			t.Fatalf("Chunk(%d): %v", off, err)
		}
		out = append(out, c...)
		off += int64(len(c))
	}
	return out
}

// modelEntry is what the model knows of one response.
type modelEntry struct {
	url, variant string
	tags         []string
	body         []byte
	keepUntil    time.Time
	severity     Severity
	entry        *Entry
}

// simulation drives a store and a map side by side.
type simulation struct {
	t     *testing.T
	rng   *rand.Rand
	clock *testClock
	cfg   Config
	s     *Store
	model map[string]*modelEntry // by URL and variant
	sets  Settings
	// history has what was done lately, for the log of a failure.
	history []string
}

func TestSimulation(t *testing.T) {
	for _, tt := range []struct {
		name     string
		disk     bool
		settings Settings
	}{
		{"memory only", false, Settings{Memory: 256 << 20}},
		{"disk under a tiny memory", true, Settings{Memory: 16 << 10, Disk: 256 << 20}},
		{"both", true, Settings{Memory: 256 << 20, Disk: 256 << 20}},
		{"both, lfu", true, Settings{Memory: 64 << 10, Disk: 256 << 20, Eviction: LFU}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sim := &simulation{t: t, rng: seeded(t), clock: newTestClock(), model: map[string]*modelEntry{}, sets: tt.settings}
			sim.cfg = Config{Required: true, Now: sim.clock.now}
			if tt.disk {
				sim.cfg.Path = t.TempDir()
			}
			sim.s = openStore(t, sim.cfg, tt.settings)
			steps := 3000
			if testing.Short() {
				steps = 500
			}
			for i := range steps {
				sim.step(i)
				if t.Failed() {
					t.Log(strings.Join(sim.history[max(0, len(sim.history)-200):], "\n"))
					t.Fatalf("step %d", i)
				}
			}
			sim.checkAll()
		})
	}
}

func (m *simulation) step(i int) {
	switch n := m.rng.IntN(1000); {
	case n < 400:
		m.put(i)
	case n < 850:
		m.lookup(m.randomURL(), m.randomVariant())
	case n < 920:
		m.purge()
	case n < 940:
		m.remove()
	case n < 960:
		m.note("advance")
		m.clock.advance(time.Duration(m.rng.IntN(600)) * time.Second)
	case n < 975:
		if err := m.s.Sync(); err != nil {
			m.t.Errorf("Sync: %v", err)
		}
	case n < 990:
		m.checkList()
	case n < 995:
		m.reopen()
	default:
		m.checkAll()
	}
}

func (m *simulation) note(format string, args ...any) {
	m.history = append(m.history, fmt.Sprintf(format, args...))
}

func (m *simulation) randomURL() string {
	return simulated(m.rng.IntN(3), m.rng.IntN(4), m.rng.IntN(4))
}

// simulated is one of two URLs, at one of two listeners.
func simulated(host, folder, n int) string {
	return URLAt(fmt.Sprintf("http://h%d.example/%d/%d", host, folder, n/2), []string{"80", "8080"}[n%2])
}

func (m *simulation) randomVariant() string { return fmt.Sprint(m.rng.IntN(2)) }

func (m *simulation) put(i int) {
	url, variant := m.randomURL(), m.randomVariant()
	size := m.rng.IntN(4000)
	if m.rng.IntN(20) == 0 {
		size = m.rng.IntN(700_000)
	}
	body := bytes.Repeat(fmt.Appendf(nil, "%s %s %d|", url, variant, i), size/20+1)
	var tags []string
	for range m.rng.IntN(4) {
		tags = append(tags, fmt.Sprintf("t%d", m.rng.IntN(10)))
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	e := testEntry(m.s, url, body, tags...)
	e.Variant = Variant{Names: []string{"V"}, Values: []string{variant}}
	e.KeepUntil = m.clock.now().Add(time.Duration(1+m.rng.IntN(3600)) * time.Second)
	if m.sets.Disk > 0 && m.rng.IntN(20) == 0 {
		d := writtenBody(m.t, m.s, m.rng, body)
		defer d.Close()
		e.Body = d.Body()
		m.note("body writer %d", d.id)
	}
	if r := m.s.Put(e, 0); r != Stored {
		m.t.Errorf("Put = %v", r)
		return
	}
	m.note("put %s %s tags %q keep %d gen %d id %d", url, variant, tags, nanos(e.KeepUntil), e.Generation, e.ID)
	m.model[url+" "+variant] = &modelEntry{url: url, variant: variant, tags: tags, body: body, keepUntil: e.KeepUntil, entry: e}
}

// live is the model's entry, unless it has expired.
func (m *simulation) live(name string) *modelEntry {
	if e := m.model[name]; e != nil && m.clock.now().Before(e.keepUntil) {
		return e
	}
	return nil
}

func (m *simulation) lookup(url, variant string) {
	m.t.Helper()
	want := m.live(url + " " + variant)
	r := m.s.Lookup(keyOf(url), func(v *Variant) int {
		if v.Values[0] == variant {
			return 1
		}
		return 0
	})
	defer r.Release()
	switch {
	case (r.Entry == nil) != (want == nil):
		m.t.Errorf("%s %s: found %v, want %v; %+v", url, variant, r.Entry != nil, want != nil, r.Entry)
	case want == nil:
	case r.Severity != want.severity:
		m.t.Errorf("%s %s: %v, want %v", url, variant, r.Severity, want.severity)
	default:
		if got := bodyOf(m.t, r.Entry); !bytes.Equal(got, want.body) {
			m.t.Errorf("%s %s: body %.60q, want %.60q", url, variant, got, want.body)
		}
	}
}

func (m *simulation) purge() {
	var sel Selectors
	for sel.check() != nil {
		switch m.rng.IntN(16) {
		case 0:
			sel.All = m.rng.IntN(4) == 0
		case 1, 2, 3:
			sel.Prefixes = append(sel.Prefixes, fmt.Sprintf("http://h%d.example/%d", m.rng.IntN(3), m.rng.IntN(4)))
		case 4:
			sel.Hosts = append(sel.Hosts, fmt.Sprintf("h%d.example", m.rng.IntN(3)))
		case 5, 6, 7:
			sel.URLs = append(sel.URLs, m.randomURL())
			if m.rng.IntN(2) == 0 { // at every listener
				sel.URLs[0] = BareURL(sel.URLs[0])
			}
		default:
			for range 1 + m.rng.IntN(2) {
				sel.Tags = append(sel.Tags, fmt.Sprintf("t%d", m.rng.IntN(10)))
			}
		}
	}
	opts := PurgeOptions{Severity: []Severity{Soft, Invalid, Hard, NotPurged}[m.rng.IntN(4)], DryRun: m.rng.IntN(4) == 0}
	want := 0
	for name := range m.model {
		e := m.live(name)
		if e == nil || !sel.match(e.url, e.tags) || e.severity >= opts.severity() {
			continue
		}
		want++
		switch {
		case opts.DryRun:
		case opts.severity() == Hard:
			delete(m.model, name)
		default:
			e.severity = opts.severity()
		}
	}
	got, err := m.s.Purge(sel, opts)
	m.note("purge %+v %+v matched %d", sel, opts, got)
	if err != nil || got != want {
		m.t.Errorf("Purge(%+v, %+v) = %d, %v; want %d", sel, opts, got, err, want)
	}
}

func (m *simulation) remove() {
	url := m.randomURL()
	r := m.s.Lookup(keyOf(url), matchAny)
	defer r.Release()
	if r.Entry == nil {
		return
	}
	m.note("remove %s id %d", url, r.Entry.ID)
	m.s.Remove(r.Entry)
	delete(m.model, url+" "+r.Entry.Variant.Values[0])
}

func (m *simulation) checkList() {
	m.t.Helper()
	var got, want []string
	for cursor := ""; ; {
		items, next, err := m.s.List(Filter{}, 1+m.rng.IntN(20), cursor)
		if err != nil {
			m.t.Fatalf("List: %v", err)
		}
		for _, it := range items {
			got = append(got, it.URL+" "+it.Variant.Values[0])
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	for name := range m.model {
		if e := m.live(name); e != nil {
			want = append(want, BareURL(e.url)+" "+e.variant)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.t.Errorf("listed %d entries, want %d:\n%q\n%q", len(got), len(want), got, want)
	}
}

func (m *simulation) reopen() {
	if m.cfg.Path == "" {
		return
	}
	m.note("reopen")
	if err := m.s.Close(); err != nil {
		m.t.Fatalf("Close: %v", err)
	}
	if n := m.s.memory.used.Load(); n != 0 {
		m.t.Errorf("%d bytes are counted in a closed store", n)
	}
	m.s = openStore(m.t, m.cfg, m.sets)
}

// checkAll looks everything up, and counts in the end what Stats counts.
func (m *simulation) checkAll() {
	m.t.Helper()
	for h := range 3 {
		for a := range 4 {
			for b := range 4 {
				for v := range 2 {
					m.lookup(simulated(h, a, b), fmt.Sprint(v))
				}
			}
		}
	}
	m.checkList()
	if err := m.s.Sync(); err != nil {
		m.t.Errorf("Sync: %v", err)
	}
	checkAgreement(m.t, m.s)
}
