package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/cputime"
	"github.com/larder-cache/larder/internal/frames/framestest"
)

// corpora are bodies such as sites send: answers of an API, pages of a shop, and this repository's
// own pages.
func corpora(t testing.TB) map[string][][]byte {
	t.Helper()
	all := map[string][][]byte{}
	for seed := range uint64(40) {
		size := 4<<10 + int(seed)*3<<10 // up to 121 KiB
		all["json"] = append(all["json"], framestest.JSON(size, seed))
		all["html"] = append(all["html"], framestest.HTML(size, seed))
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, name := range pages {
		page, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all["docs"] = append(all["docs"], page)
	}
	all["together"] = slices.Concat(all["json"], all["html"], all["docs"])
	return all
}

// TestRoomOfCompressedBodies: JSON and HTML, and these with this repository's pages, take at most
// 0.35 of the room. What counts is what the budget counts: the pages of the file.
func TestRoomOfCompressedBodies(t *testing.T) {
	fillsByLength(t)
	for name, bodies := range corpora(t) {
		room := map[Compression]float64{}
		for _, compression := range []Compression{CompressOff, CompressZstd} {
			settings := packing
			settings.Compress = compression
			s := openStore(t, Config{Path: t.TempDir(), Required: true}, settings)
			empty := s.Stats().Disk.Bytes
			for i, body := range bodies {
				s.Put(page(s, fmt.Sprintf("http://example.com/%d", i), body), 0)
			}
			must(t, s.Sync())
			st := s.Stats()
			if int(st.Disk.Entries) != len(bodies) {
				t.Fatalf("%s: %d of %d are there", name, st.Disk.Entries, len(bodies))
			}
			room[compression] = float64(st.Disk.Bytes - empty)
			must(t, s.Close())
		}
		ratio := room[CompressZstd] / room[CompressOff]
		t.Logf("%s: %d bodies take %.3f of the room", name, len(bodies), ratio)
		if ratio > 0.35 && name != "docs" { // prose alone takes more
			t.Errorf("%s: %.3f of the room", name, ratio)
		}
	}
}

// TestCompressedBodiesKeepToTheBudget: more of them are there, as what they take counts, and all
// that is counted agrees with what is there. What waits for the disk counts in memory and is given
// back.
func TestCompressedBodiesKeepToTheBudget(t *testing.T) {
	settings := Settings{Memory: 1 << 20, Disk: 4 << 20, Compress: CompressZstd}
	text := framestest.HTML(310_000, 1)
	for _, policy := range []Eviction{LRU, None} {
		settings.Eviction = policy
		s := openStore(t, Config{Path: t.TempDir(), Required: true}, settings)
		for i := range 2000 {
			size := 2000 + i%20*1000
			if i%100 == 0 {
				size = 300_000
			}
			s.Put(page(s, fmt.Sprintf("http://example.com/%d", i), text[i:][:size]), 0)
			if i%50 == 0 {
				must(t, s.Sync())
			}
		}
		must(t, s.Sync())
		st := s.Stats()
		if plain := st.Disk.Entries * 11_500; st.Disk.Bytes > settings.Disk || plain < 2*settings.Disk {
			t.Errorf("%v: %d entries in %d bytes", policy, st.Disk.Entries, st.Disk.Bytes)
		}
		checkAgreement(t, s)
		must(t, s.Close())
		if used := s.memory.used.Load(); used != 0 {
			t.Errorf("%v: %d bytes count in memory after the end", policy, used)
		}
	}
}

// BenchmarkLookupDiskHitCompressed looks up pages of 16 KiB on disk, each time another, in a store
// with compression and in one without, in turns: what disturbs the machine disturbs both. It
// reports what compression takes more of the processor, for each look-up.
func BenchmarkLookupDiskHitCompressed(b *testing.B) {
	const pages = 1000
	var stores [2]*Store
	keys := make([]Key, pages)
	for i, compression := range []Compression{CompressOff, CompressZstd} {
		s := openStore(b, Config{Path: b.TempDir(), Required: true}, Settings{Memory: 1 << 20, Disk: 1 << 30, Compress: compression})
		for n := range pages {
			e := page(s, fmt.Sprintf("http://example.com/%d", n), framestest.HTML(16<<10, uint64(n)))
			s.Put(e, 0)
			keys[n] = e.Key
		}
		if err := s.Sync(); err != nil {
			b.Fatal(err)
		}
		stores[i] = s
	}
	var took [2]time.Duration
	for n := 0; b.Loop(); n++ {
		for i, s := range stores {
			used := cputime.Used()
			for k := range 100 {
				r := s.Lookup(keys[(n*100+k)%pages], matchAny)
				if r.Entry == nil {
					b.Fatal("miss")
				}
				r.Release()
			}
			took[i] += cputime.Used() - used
		}
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(b.N) / 100 }
	b.ReportMetric(each(took[0]), "off-cpu-ns")
	b.ReportMetric(each(took[1]), "zstd-cpu-ns")
	b.ReportMetric(each(took[1]-took[0]), "more-cpu-ns")
}
