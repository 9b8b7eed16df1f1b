package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mediaSite is a site whose origin has a film that nothing has asked for yet, and a page that plays
// it.
type mediaSite struct {
	*instance
	film   []byte
	folder string
	done   chan string // what the page has to tell
}

func newMediaSite(t *testing.T, film []byte) *mediaSite {
	t.Helper()
	s := &mediaSite{film: film, folder: t.TempDir(), done: make(chan string, 16)}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/film.mp4":
			w.Header().Set("Cache-Control", "max-age=600")
			w.Header().Set("Etag", `"v1"`)
			http.ServeContent(w, r, "film.mp4", time.Time{}, bytes.NewReader(film))
		case "/page":
			w.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprint(w, seekingPage)
		case "/done":
			s.done <- r.URL.Query().Get("says")
		default:
			http.NotFound(w, r)
		}
	})
	s.instance = start(t, withDisk(t, block("slice 1MiB")), o)
	t.Cleanup(func() {
		fetched := map[string]int{}
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, r := range o.seen {
			if asked := r.Header.Get("Range"); r.URL.Path == "/film.mp4" && r.Method == http.MethodGet {
				if fetched[asked]++; fetched[asked] > 1 {
					t.Errorf("the origin was asked twice for %q", asked)
				}
			}
		}
		t.Logf("%d requests reached the origin", len(fetched))
	})
	return s
}

// run runs a client and returns what it prints. {url} and {folder} are replaced in its arguments.
func (s *mediaSite) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for i, arg := range args {
		arg = strings.ReplaceAll(arg, "{url}", fmt.Sprintf("http://localhost:%d/film.mp4", s.port))
		args[i] = strings.ReplaceAll(arg, "{folder}", s.folder)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// wantFile compares a file that a client has written.
func (s *mediaSite) wantFile(t *testing.T, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(s.folder, "film.mp4"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the client has %d bytes, %v; want the %d of the film", len(got), err, len(want))
	}
}

// begun writes the first part of the film, as a client does that was stopped.
func (s *mediaSite) begun(t *testing.T, length int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.folder, "film.mp4"), s.film[:length], 0o600); err != nil {
		t.Fatal(err)
	}
}

const seekingPage = `<!doctype html><video src="/film.mp4" muted preload="metadata"></video><script>
const v = document.querySelector("video"), tell = s => fetch("/done?says=" + encodeURIComponent(s));
v.onerror = () => tell("error " + v.error.code + " " + v.error.message);
v.onloadedmetadata = () => { v.currentTime = v.duration * 0.9 };
v.onseeked = () => tell("seeked " + (v.currentTime / v.duration).toFixed(1));
</script>`

// Programs that ask for parts of large files get them from a cold cache, and each byte of the file
// is fetched once. LARDER_CLIENTS=all runs this, as .ci/long does: it needs them all.
func TestClientsOfLargeFiles(t *testing.T) {
	if os.Getenv("LARDER_CLIENTS") == "" {
		t.Skip("LARDER_CLIENTS is not set")
	}
	download := largePart(0, 9<<20)
	for name, client := range map[string]func(t *testing.T, s *mediaSite){
		"curl -r": func(t *testing.T, s *mediaSite) {
			s.run(t, "curl", "-sSf", "-r", "7000000-7999999", "-o", "{folder}/film.mp4", "{url}")
			s.wantFile(t, download[7_000_000:8_000_000])
		},
		"curl -C": func(t *testing.T, s *mediaSite) {
			s.begun(t, 3_000_001)
			s.run(t, "curl", "-sSf", "-C", "-", "-o", "{folder}/film.mp4", "{url}")
			s.wantFile(t, download)
		},
		"wget -c": func(t *testing.T, s *mediaSite) {
			s.begun(t, 5_000_001)
			s.run(t, "wget", "-q", "-c", "-P", "{folder}", "{url}")
			s.wantFile(t, download)
		},
		"aria2c -x 8": func(t *testing.T, s *mediaSite) {
			s.run(t, "aria2c", "-q", "-x", "8", "-s", "8", "-k", "1M", "-d", "{folder}", "-o", "film.mp4", "{url}")
			s.wantFile(t, download)
		},
	} {
		t.Run(name, func(t *testing.T) { client(t, newMediaSite(t, download)) })
	}
	film := newFilm(t)
	t.Run("ffprobe", func(t *testing.T) {
		s := newMediaSite(t, film)
		if got := s.run(t, "ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", "{url}"); !strings.HasPrefix(got, "60.") {
			t.Errorf("ffprobe says %q, want a minute", got)
		}
	})
	t.Run("ffmpeg -ss", func(t *testing.T) {
		s := newMediaSite(t, film)
		s.run(t, "ffmpeg", "-v", "error", "-ss", "50", "-i", "{url}", "-frames:v", "1", "{folder}/frame.png")
		if info, err := os.Stat(filepath.Join(s.folder, "frame.png")); err != nil || info.Size() == 0 {
			t.Errorf("ffmpeg has no frame: %v", err)
		}
	})
	t.Run("video in Chromium", func(t *testing.T) {
		s := newMediaSite(t, film)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--user-data-dir="+s.folder,
			fmt.Sprintf("http://localhost:%d/page", s.port))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case says := <-s.done:
			if says != "seeked 0.9" {
				t.Errorf("the page says %q", says)
			}
		case <-ctx.Done():
			t.Error("the page has said nothing")
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for _, version := range [][]string{
		{"curl", "--version"}, {"wget", "--version"}, {"aria2c", "--version"}, {"ffmpeg", "-version"}, {"chromium", "--version"},
	} {
		out, err := exec.CommandContext(context.Background(), version[0], version[1]).Output()
		line, _, _ := strings.Cut(string(out), "\n")
		t.Logf("%s (%v)", line, err)
	}
}

// newFilm makes a film of a minute with its index at its end.
func newFilm(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "film.mp4")
	cmd := exec.CommandContext(context.Background(), "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=duration=60:size=640x360:rate=10",
		"-c:v", "libx264", "-preset", "ultrafast", "-b:v", "2M", "-minrate", "2M", "-bufsize", "1M", "-pix_fmt", "yuv420p", path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	film, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return film
}
