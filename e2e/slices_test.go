package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The handlers behind a slice's fetch are Caddy's own: a file server and a proxy.
func TestSlicesOfALargeFile(t *testing.T) {
	film := largePart(0, 1<<20)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "film.mp4"), film, 0o600); err != nil {
		t.Fatal(err)
	}
	proxy := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		http.ServeContent(w, r, "film.mp4", time.Time{}, bytes.NewReader(film))
	}
	directive := block("slice 64KiB", "ttl 1h", "tags {", "add films", "}")
	for name, s := range map[string]setup{
		"file_server":   {site: directive + "\nroot * " + folder + "\nfile_server"},
		"reverse_proxy": withDisk(t, directive),
	} {
		t.Run(name, func(t *testing.T) {
			in, begun := start(t, s, newOrigin(t, proxy)), time.Now()
			hit := func(a *answer) {
				t.Helper()
				a.wantStatus(t, "Larder; hit; ttl=N")
				a.wantTTL(t, 3600, begun)
			}
			wantPart := func(from, to int, status string) *answer {
				t.Helper()
				a := in.get("/film.mp4", "Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
				a.want(t, 206, string(film[from:to]), status)
				if got, want := a.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(film)); got != want {
					t.Errorf("Content-Range %s, want %s", got, want)
				}
				return a
			}
			// To the end of a slice: its last byte comes when it is stored.
			wantPart(900_000, 14<<16, "Larder; fwd=uri-miss; stored")
			hit(wantPart(901_000, 901_100, ""))
			wantPart(100, 1<<16, "Larder; fwd=partial; stored")
			a := in.get("/film.mp4")
			a.want(t, 200, string(film), "Larder; fwd=partial; fwd-status=206")
			a = in.get("/film.mp4")
			a.want(t, 200, string(film), "")
			hit(a)
			if got := a.Header.Get("Content-Type"); got != "video/mp4" {
				t.Errorf("Content-Type %q", got)
			}
			if got := in.purge(`{"tags":["films"]}`); got != 1 {
				t.Errorf("%d purged, want the file, once", got)
			}
			wantPart(900_000, 900_100, "Larder; fwd=uri-miss; stored")
		})
	}
}

// Parallel readers of one cold file, as download managers are, have each byte fetched once.
func TestParallelDownloadOfAColdFile(t *testing.T) {
	film := largePart(0, 2<<20)
	var mu sync.Mutex
	asked := map[string]int{}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.Header.Get("Range")]++
		mu.Unlock()
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Etag", `"v1"`)
		http.ServeContent(w, r, "film.mp4", time.Time{}, bytes.NewReader(film))
	})
	in := start(t, withDisk(t, block("slice 128KiB")), o)
	const readers = 8
	parts := make([]string, readers)
	var wait sync.WaitGroup
	for n := range readers {
		wait.Go(func() {
			from, length := n*len(film)/readers, len(film)/readers
			parts[n] = in.get("/film.mp4", "Range", fmt.Sprintf("bytes=%d-%d", from, from+length-1)).body
		})
	}
	wait.Wait()
	if sha256.Sum256([]byte(strings.Join(parts, ""))) != sha256.Sum256(film) {
		t.Error("the parts are not the file")
	}
	if len(asked) != 16 {
		t.Errorf("%d slices were fetched, want 16", len(asked))
	}
	for slice, times := range asked {
		if times != 1 {
			t.Errorf("%s was fetched %d times", slice, times)
		}
	}
}

// A Range has nothing stored uncompressed that is compressed without it: `encode` leaves a 206
// alone, and it has no Vary then.
func TestRangeLeavesCompressionAlone(t *testing.T) {
	page := strings.Repeat("<p>a page</p>", 1000)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Content-Type", "text/html")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(page))
	})
	in := start(t, setup{site: "route {\nlarder\nencode gzip\nreverse_proxy {{origin}}\n}"}, o)
	in.get("/", "Range", "bytes=0-").want(t, 206, page, "")
	in.get("/", "Range", "bytes=0-1", "Accept-Encoding", "gzip")
	for range 2 {
		if a := in.get("/", "Accept-Encoding", "gzip"); a.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("uncompressed: %v", a.Header)
		}
	}
}

// A listing shows how long a file in slices is, and what of it is stored.
func TestListingOfAFileInSlices(t *testing.T) {
	film := largePart(0, 300<<10)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Etag", `"v1"`)
		if r.URL.Path == "/film.mp4" {
			http.ServeContent(w, r, "film.mp4", time.Time{}, bytes.NewReader(film))
			return
		}
		_, _ = w.Write(film[:100_000])
	})
	in := start(t, withDisk(t, block("slice 64KiB")), o)
	in.get("/page")
	in.get("/film.mp4", "Range", "bytes=0-65535")
	in.get("/film.mp4", "Range", "bytes=-1")
	type slices struct{ Size, Count, Looked, Stored, Bytes int64 }
	var page struct {
		Entries []struct {
			ID, URL string
			Size    int64
			Slices  *slices
		}
	}
	in.adminCall(http.MethodGet, "/larder/entries?sort=-size", "", &page)
	want := slices{64 << 10, 5, 5, 2, 64<<10 + 44<<10}
	if len(page.Entries) != 2 || !strings.HasSuffix(page.Entries[0].URL, "/film.mp4") || page.Entries[0].Size != 300<<10 ||
		page.Entries[0].Slices == nil || *page.Entries[0].Slices != want || page.Entries[1].Size != 100_000 || page.Entries[1].Slices != nil {
		t.Fatalf("%+v", page.Entries)
	}
	var detail struct {
		Size   int64
		Slices *slices
	}
	in.adminCall(http.MethodGet, "/larder/entries/"+page.Entries[0].ID, "", &detail)
	if detail.Size != 300<<10 || detail.Slices == nil || *detail.Slices != want {
		t.Errorf("%+v", detail)
	}
}
