package store

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// origin is a page whose content is its version.
type origin struct{ version atomic.Int64 }

// TestPurgeHistory has readers, fetchers and purgers at the same pages at once. After a purge is in
// force, and after it has answered, no look-up that begins later may see a version that was current
// before the purge began: a fetch reads the version after its ticket has begun, and every purge is
// preceded by a new version.
func TestPurgeHistory(t *testing.T) {
	for _, tt := range []struct {
		name     string
		disk     bool
		settings Settings
	}{
		{"memory only", false, Settings{Memory: 16 << 20}},
		{"disk under a tiny memory", true, Settings{Memory: 4 << 10, Disk: 64 << 20}},
		{"both", true, Settings{Memory: 16 << 20, Disk: 64 << 20}},
		{"both, always evicting", true, Settings{Memory: 40 << 10, Disk: 1 << 20}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Required: true}
			if tt.disk {
				cfg.Path = t.TempDir()
			}
			h := &history{t: t, s: openStore(t, cfg, tt.settings)}
			rounds := 400
			if testing.Short() {
				rounds = 100
			}
			h.run(seeded(t), rounds)
			checkAgreement(t, h.s)
		})
	}
}

const historyPages = 8

type history struct {
	t       *testing.T
	s       *Store
	pages   [historyPages]origin
	least   [historyPages]atomic.Int64 // the lowest version that may still be seen
	purging [historyPages]sync.Mutex
}

func (h *history) run(rng *rand.Rand, rounds int) {
	var purgers, others sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		seed := rng.Uint64()
		others.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 2))
			for {
				select {
				case <-stop:
					return
				default:
					h.get(rng.IntN(historyPages))
				}
			}
		})
	}
	for range 2 {
		seed := rng.Uint64()
		purgers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 3))
			for range rounds {
				h.purge(rng)
			}
		})
	}
	purgers.Wait()
	close(stop)
	others.Wait()
}

func historyURL(page int) string { return fmt.Sprintf("http://h%d.example/%d", page%2, page) }

// get is a request: a look-up, and a fetch when that misses.
func (h *history) get(page int) {
	least := h.least[page].Load()
	url := historyURL(page)
	r := h.s.Lookup(keyOf(url), matchAny)
	defer r.Release()
	if r.Entry != nil {
		version, err := strconv.ParseInt(r.Entry.Header.Get("Version"), 10, 64)
		if err != nil || (version < least && r.Severity == NotPurged) {
			h.t.Errorf("page %d: version %d (%v) from %v; %d was purged before the request", page, version, err, r.Tier, least)
		}
		return
	}
	ticket := h.s.Begin()
	defer ticket.End()
	version := h.pages[page].version.Load()
	e := testEntry(h.s, url, make([]byte, 3000), "all", fmt.Sprintf("page%d", page))
	e.Header = map[string][]string{"Version": {strconv.FormatInt(version, 10)}}
	e.Generation = ticket.Generation()
	h.s.Put(e, 0)
}

// purge makes a new version of a page and purges the old one in one of many ways.
func (h *history) purge(rng *rand.Rand) {
	page := rng.IntN(historyPages)
	h.purging[page].Lock()
	defer h.purging[page].Unlock()
	version := h.pages[page].version.Add(1)
	sel := []Selectors{
		{Tags: []string{fmt.Sprintf("page%d", page)}},
		{URLs: []string{historyURL(page)}},
		{Prefixes: []string{historyURL(page)[:12]}},
		{Hosts: []string{fmt.Sprintf("h%d.example", page%2)}},
		{All: true},
	}[rng.IntN(5)]
	req, err := h.s.BeginPurge(sel, PurgeOptions{Severity: Severity(rng.IntN(4))})
	if err != nil {
		h.t.Errorf("BeginPurge: %v", err)
		return
	}
	inForce := rng.IntN(2) == 0
	if inForce {
		h.least[page].Store(version)
	}
	if _, err := req.Wait(); err != nil {
		h.t.Errorf("Wait: %v", err)
	}
	if !inForce {
		h.least[page].Store(version)
	}
}
