package store

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// TestMasksJudgeLikeAList compares with the purges written down one by one.
func TestMasksJudgeLikeAList(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	url := func() string {
		u := pick("http://", "https://") + pick("a", "b", "b:80", "b:443", "c:8080") + "/" + pick("", "x", "x/y", "x/y?z")
		return URLAt(u, pick("", "", ":80", ":443"))
	}
	type purge struct {
		gen      uint64
		sel      Selectors
		severity Severity
	}
	var purges []purge
	masks, floor := new(Masks), uint64(0)
	for range 4000 {
		switch rng.IntN(12) {
		case 0, 1, 2:
			p := purge{gen: floor + 1 + uint64(rng.IntN(60)), severity: Severity(1 + rng.IntN(3))}
			switch rng.IntN(5) {
			case 0:
				p.sel.Tags = []string{pick("s", "t", "u"), pick("v", "w")}
			case 1:
				p.sel.URLs = []string{url()}
			case 2:
				p.sel.Prefixes = []string{pick("http://a/", "http", "https://b", "http://c:8080/x/")}
			case 3:
				p.sel.Hosts = []string{pick("a", "b", "b:80", "b:443", "c:8080")}
			case 4:
				p.sel.All = rng.IntN(20) == 0
			}
			purges = append(purges, p)
			masks.Add(p.gen, p.sel, p.severity)
		case 3:
			floor += uint64(rng.IntN(20))
			masks.DropUpTo(floor)
			purges = slices.DeleteFunc(purges, func(p purge) bool { return p.gen < floor })
		default:
			u, tags, gen := url(), []string{pick("s", "t", "u", "x"), pick("v", "y")}, floor+uint64(rng.IntN(60))
			want := NotPurged
			for _, p := range purges {
				if p.gen > gen && p.sel.match(u, tags) {
					want = max(want, p.severity)
				}
			}
			if got := masks.Judge(u, tags, gen); got != want {
				t.Fatalf("%q %q of generation %d is %v, want %v", u, tags, gen, got, want)
			}
		}
	}
	masks.DropUpTo(floor + 1000)
	if n, bytes := masks.Size(); n != 0 || bytes != 0 || len(masks.bySelector.lengths) != 0 || masks.bySelector.all != nil {
		t.Errorf("without purges there are %d masks of %d bytes: %+v", n, bytes, masks.bySelector)
	}
}

// TestMasksFit: 100,000 purges by a tag each take no more than 250 bytes each, and what they say
// they take is about what they do.
func TestMasksFit(t *testing.T) {
	const n = 100_000
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	masks := new(Masks)
	add := func(from uint64) {
		for i := range uint64(n) {
			masks.Add(from+i, Selectors{Tags: []string{fmt.Sprintf("product-%08d", i)}}, Hard)
		}
	}
	add(1)
	add(n + 1) // again
	took := heap() - before
	selectors, bytes := masks.Size()
	t.Logf("%d masks take %d bytes each, and say %d", selectors, took/n, bytes/n)
	if selectors != n || took > 250*n || bytes < took*3/4 || bytes > took*3/2 {
		t.Errorf("%d masks take %d bytes and say %d, want at most 250 each", selectors, took, bytes)
	}
	masks.DropUpTo(2*n + 1)
	if selectors, bytes = masks.Size(); selectors != 0 || bytes != 0 {
		t.Errorf("%d masks of %d bytes are left", selectors, bytes)
	}
	runtime.KeepAlive(masks)
}

// TestMasksOver: those that are dropped are the oldest, and no more than have to.
func TestMasksOver(t *testing.T) {
	masks := new(Masks)
	const n = 1000
	for i := range uint64(n) {
		masks.Add(i+1, Selectors{Tags: []string{fmt.Sprintf("%08d", i)}}, Hard)
	}
	masks.Add(n+1, Selectors{Tags: []string{"00000000"}}, Soft) // the oldest is the newest now
	_, all := masks.Size()
	if over := masks.Over(all); over != 0 {
		t.Errorf("where all may stay those up to %d go", over)
	}
	over := masks.Over(all / 2)
	masks.DropUpTo(over)
	if left, bytes := masks.Size(); bytes > all/2 || left != n/2 || over != n/2+1 {
		t.Errorf("up to %d go, and %d of %d bytes are left, want %d", over, left, bytes, n/2)
	}
	if masks.Judge("http://a/", []string{"00000000"}, n/2) != Soft {
		t.Error("a mask is gone that was purged again")
	}
	masks.DropUpTo(masks.Over(0))
	if left, _ := masks.Size(); left != 0 {
		t.Errorf("%d are left where none may be", left)
	}
}

// TestNothingIsJudgedWithoutPurges: the zero value is of use.
func TestNothingIsJudgedWithoutPurges(t *testing.T) {
	var masks Masks
	masks.DropUpTo(5)
	if got := masks.Judge("http://a/", []string{"t"}, 0); got != NotPurged {
		t.Errorf("no purge makes a response %v", got)
	}
	masks.Add(7, Selectors{All: true}, NotPurged)
	if got := masks.Judge("http://a/", nil, 6); got != Hard {
		t.Errorf("a purge without severity makes a response %v, want hard", got)
	}
	if got := masks.Judge("http://a/", nil, 7); got != NotPurged {
		t.Errorf("a purge makes a response of its own generation %v", got)
	}
}

func BenchmarkMasksJudge(b *testing.B) {
	masks := new(Masks)
	for i := range uint64(100_000) {
		masks.Add(i+1, Selectors{Tags: []string{fmt.Sprintf("product-%08d", i)}}, Hard)
	}
	tags := []string{"product-00000007", "other", "third"}
	b.ReportAllocs()
	for b.Loop() {
		if masks.Judge("http://example.com/a/b/c", tags, 50) != NotPurged {
			b.Fatal("it is purged")
		}
	}
}
