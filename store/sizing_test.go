package store

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"
)

// TestSizingOfThePage holds the table in docs/operating.md of what a response takes, in memory and
// on disk, to what the budgets count.
func TestSizingOfThePage(t *testing.T) {
	fillsByLength(t)
	text, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	size := `(\d+(?:\.\d)? [KM]iB)`
	rows := regexp.MustCompile(`(?m)^\| `+size+` \| `+size+` \| `+size+` \|`).FindAllStringSubmatch(string(text), -1)
	if len(rows) < 5 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		var said [3]uint64 // bytes of the body, in memory, on disk
		for i := range said {
			if said[i], err = humanize.ParseBytes(row[1+i]); err != nil {
				t.Fatal(err)
			}
		}
		memory, disk := taken(t, int(said[0]))
		t.Logf("%s: %.0f bytes in memory, %.0f on disk", row[1], memory, disk)
		for i, got := range []float64{memory, disk} {
			if want := float64(said[1+i]); got < 0.9*want || got > 1.1*want {
				t.Errorf("a body of %s takes %.0f bytes, the page says %s", row[1], got, row[2+i])
			}
		}
	}
}

// taken is what a response with a body of so many bytes takes on average, in bytes of each budget:
// one with a URL, header and tags as sites send them.
func taken(t *testing.T, size int) (memory, disk float64) {
	t.Helper()
	n := min(400, 8<<20/size)
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 128 << 20, Disk: 256 << 20})
	before := s.Stats()
	for i := range n {
		e := testEntry(s, fmt.Sprintf("https://www.example.com/products/%d?view=full", i), []byte(strings.Repeat("x", size)),
			fmt.Sprintf("product-%d", i), fmt.Sprintf("category-%d", i%50), "site")
		e.Header = http.Header{
			"Content-Type": {"text/html; charset=utf-8"}, "Cache-Control": {"public, max-age=600"}, "Etag": {fmt.Sprintf(`"%032x"`, i)},
			"Date": {"Sun, 29 Nov 2026 10:00:00 GMT"}, "Last-Modified": {"Sat, 28 Nov 2026 10:00:00 GMT"}, "Server": {"nginx"},
		}
		s.Put(e, 0)
		if i%(n/4) == 0 {
			must(t, s.Sync())
		}
	}
	must(t, s.Sync())
	after := s.Stats()
	if int(after.Memory.Entries) != n || int(after.Disk.Entries) != n {
		t.Fatalf("%d in memory and %d on disk of %d", after.Memory.Entries, after.Disk.Entries, n)
	}
	must(t, s.Close())
	return float64(after.Memory.Bytes-before.Memory.Bytes) / float64(n), float64(after.Disk.Bytes-before.Disk.Bytes) / float64(n)
}
