package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"go.etcd.io/bbolt"
)

// startStored starts a site whose pages are numbered, tagged "a" and fresh for ten minutes, and has
// the first one stored, which says "1".
func startStored(t *testing.T, s setup) (*instance, *origin) {
	t.Helper()
	o := newOrigin(t, numbered("Cache-Control", "max-age=600", "Surrogate-Key", "a"))
	in := start(t, s, o)
	in.get("/").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	return in, o
}

func TestRestartIsWarm(t *testing.T) {
	s := withDisk(t, "larder")
	in, o := startStored(t, s)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	in.load(s, o)
	hit := in.get("/")
	hit.want(t, 200, "1", "")
	if !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
		t.Errorf("after a restart: %q", hit.cacheStatus())
	}
	if got := in.purge(`{"tags":["a"]}`); got != 1 {
		t.Errorf("a tag purged after a restart matched %d", got)
	}
	in.get("/").want(t, 200, "2", "")
}

func TestPurgeSurvivesARestart(t *testing.T) {
	s := withDisk(t, "larder")
	in, o := startStored(t, s)
	if got := in.purge(`{"tags":["a"]}`); got != 1 {
		t.Errorf("matched %d", got)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	in.load(s, o)
	in.get("/").want(t, 200, "2", "Larder; fwd=uri-miss; stored")
}

func TestReloadLosesNothing(t *testing.T) {
	for name, disk := range map[string]string{"memory": "", "disk": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			s := proxied("larder")
			s.disk = disk
			in, o := startStored(t, s)
			for i := range 5 {
				s.options = fmt.Sprintf("memory %dMiB", 16+i)
				in.load(s, o)
				in.get("/").want(t, 200, "1", "")
			}
			if n := in.stats().Memory.Budget; n != 20<<20 {
				t.Errorf("memory budget %d after the last reload, want 20 MiB", n)
			}
		})
	}
}

func TestFailedReloadChangesNothing(t *testing.T) {
	s := withDisk(t, "larder")
	s.options = "memory 32MiB"
	in, o := startStored(t, s)

	bad := s
	bad.options = "memory 1MiB"
	// An address this machine does not have.
	bad.more = "http://localhost:1 {\n\tbind 203.0.113.1\n}"
	if err := in.tryLoad(bad, o); err == nil {
		t.Fatal("the reload should have failed")
	}
	in.get("/").want(t, 200, "1", "")
	if n := in.stats().Memory.Budget; n != 32<<20 {
		t.Errorf("memory budget %d after a reload that failed, want 32 MiB", n)
	}
}

func TestSwitchedDiskPathBeginsAnEmptyStore(t *testing.T) {
	s := withDisk(t, "larder")
	in, o := startStored(t, s)
	first := s.disk
	s.disk = t.TempDir()
	in.load(s, o)
	in.get("/").want(t, 200, "2", "Larder; fwd=uri-miss; stored")
	eventually(t, "the old store is closed", func() bool { return canLock(filepath.Join(first, "larder.db")) })
	s.disk = first
	in.load(s, o)
	in.get("/").want(t, 200, "1", "")
}

// canLock reports whether no process holds the database.
func canLock(file string) bool {
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: 1})
	if err != nil {
		return false
	}
	return db.Close() == nil
}

func TestDiskFolderThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	locked := t.TempDir()
	db, err := bbolt.Open(filepath.Join(locked, "larder.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	for name, tc := range map[string]struct{ disk, names, cause string }{
		"a file":    {file, file, "director"},
		"in a file": {filepath.Join(file, "sub"), file, "director"},
		"locked":    {locked, filepath.Join(locked, "larder.db"), "lock"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, numbered())
			s := proxied("larder")
			s.disk = tc.disk
			in := &instance{t: t, port: freePort(t), admin: fmt.Sprintf("localhost:%d", freePort(t))}
			stopAtEnd(t)
			err := in.tryLoad(s, o)
			if err == nil {
				t.Fatal("Caddy started")
			}
			if !strings.Contains(err.Error(), tc.names) || !strings.Contains(err.Error(), tc.cause) {
				t.Errorf("error %q names not %s and %s", err, tc.names, tc.cause)
			}
		})
	}
}

// TestDiskFolderWithPlaceholders has a folder named as log files may be, and refuses one that would
// lie elsewhere than was meant.
func TestDiskFolderWithPlaceholders(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("LARDER_TEST_STATE", dir)
	s := proxied("larder")
	s.disk = "{env.LARDER_TEST_STATE}/store"
	in := start(t, s, newOrigin(t, numbered()))
	if _, err := os.Stat(filepath.Join(dir, "store", "larder.db")); err != nil {
		t.Error(err)
	}
	s.disk = "{env.LARDER_TEST_UNSET}/store"
	if err := in.tryLoad(s, newOrigin(t, numbered())); err == nil || !strings.Contains(err.Error(), "disk: ") || !strings.Contains(err.Error(), "LARDER_TEST_UNSET") {
		t.Errorf("error %v", err)
	}
}

func TestCorruptFileIsSetAside(t *testing.T) {
	s := withDisk(t, "larder")
	if err := os.WriteFile(filepath.Join(s.disk, "larder.db"), []byte(strings.Repeat("no database", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	in, _ := startStored(t, s)
	aside, err := filepath.Glob(filepath.Join(s.disk, "larder.db.corrupt-*"))
	if err != nil || len(aside) != 1 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
	if st := in.stats().Disk.State; st != "open" {
		t.Errorf("disk tier %q", st)
	}
}

func TestValidateOpensNoStore(t *testing.T) {
	s := withDisk(t, "larder")
	in, _ := startStored(t, s)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(in.file), nil)
	if err != nil {
		t.Fatal(err)
	}
	var parsed caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &parsed); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&parsed); err != nil {
		t.Errorf("validating beside the running server: %v", err)
	}

	s.disk = filepath.Join(t.TempDir(), "never")
	other := strings.ReplaceAll(in.file, in.disk, s.disk)
	config, _, err = caddyconfig.GetAdapter("caddyfile").Adapt([]byte(other), nil)
	if err != nil {
		t.Fatal(err)
	}
	parsed = caddy.Config{}
	if err := caddy.StrictUnmarshalJSON(config, &parsed); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&parsed); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.disk); !os.IsNotExist(err) {
		t.Errorf("validate made %s", s.disk)
	}
}

// TestFaultReloads reloads under load, with budgets of both tiers and the policy changing: no miss
// is added, every answer is right, and neither goroutines nor memory are left behind. It goes round
// 30 times, or 1,000 where LARDER_FAULTS is "long".
func TestFaultReloads(t *testing.T) {
	rounds := 30
	if os.Getenv("LARDER_FAULTS") == "long" {
		rounds = 1000
	}
	const urls = 20
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=86400")
		_, _ = w.Write([]byte(strings.Repeat(r.URL.Path+" ", 1000)))
	})
	s := withDisk(t, "larder")
	in := start(t, s, o)
	for i := range urls {
		in.get(fmt.Sprintf("/%d", i))
	}
	before := runtime.NumGoroutine()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var answers atomic.Int64
	for c := range 4 {
		clients.Go(func() {
			for i := c; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				path := fmt.Sprintf("/%d", i%urls)
				a, err := in.try(t.Context(), http.MethodGet, path, "")
				if err != nil {
					continue // the old listener closed an idle connection under us
				}
				if answers.Add(1); a.StatusCode != 200 || a.err != nil || a.body != strings.Repeat(path+" ", 1000) {
					t.Errorf("%s: %d, %d bytes, %v", path, a.StatusCode, len(a.body), a.err)
					return
				}
			}
		})
	}
	var early uint64
	for i := range rounds {
		s.budget = fmt.Sprintf("%dMiB", 32+i%5)
		s.options = fmt.Sprintf("memory %dMiB\neviction %s", 8+i%3, []string{"lru", "lfu", "fifo", "none"}[i%4])
		in.load(s, o)
		if i == rounds/5 {
			early = heapInUse()
		}
	}
	close(stop)
	clients.Wait()
	if n := o.count(); n != urls || answers.Load() == 0 {
		t.Errorf("the origin was asked %d times for %d URLs and %d answers", n, urls, answers.Load())
	}
	eventually(t, "all are on disk", func() bool { return in.stats().Disk.Entries == urls })
	if st := in.stats(); st.Disk.Budget != int64(32+(rounds-1)%5)<<20 {
		t.Errorf("after the last reload: %+v", st.Disk)
	}
	in.client.CloseIdleConnections()
	eventually(t, "goroutines are back", func() bool { return runtime.NumGoroutine() < before+20 })
	late := heapInUse()
	t.Logf("%d reloads, %d answers, heap %d KiB early on and %d KiB in the end", rounds, answers.Load(), early>>10, late>>10)
	if late > early+16<<20 {
		t.Errorf("the heap grew from %d to %d bytes", early, late)
	}
}

// heapInUse is what is live on the heap.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestPurgeReachesTheStoreOfTheOldConfiguration: after a reload with another disk path the old
// store answers on until its last request has ended. A purge, and what an unsafe request
// invalidates, reach it.
func TestPurgeReachesTheStoreOfTheOldConfiguration(t *testing.T) {
	for name, purge := range map[string]func(t *testing.T, in *instance){
		"purge": func(t *testing.T, in *instance) {
			if n := in.purge(`{"all":true}`); n != 1 {
				t.Errorf("matched %d, want the one in the old store", n)
			}
		},
		"unsafe request": func(t *testing.T, in *instance) { in.do("POST", "/", "").want(t, 200, "2", "") },
	} {
		t.Run(name, func(t *testing.T) {
			o, arrived, release := heldOrigin(t)
			s := withDisk(t, "larder")
			in := start(t, s, o)
			in.get("/").want(t, 200, "1", "")
			slow := make(chan struct{})
			go func() {
				defer close(slow)
				_, _ = in.try(t.Context(), "GET", "/slow", "")
			}()
			<-arrived
			first := s.disk
			s.disk = t.TempDir()
			in.load(s, o)
			purge(t, in)
			s.disk = first // its store is still there, as /slow is being fetched into it
			in.load(s, o)
			close(release)
			<-slow
			if got := in.get("/"); got.body == "1" {
				t.Error("what was purged is answered by the old store")
			}
		})
	}
}

// TestRevertedDiskPathHasMissedNoPurge: between two configurations that name a disk path its store
// is closed. What is purged or invalidated meanwhile is not there when it comes back.
func TestRevertedDiskPathHasMissedNoPurge(t *testing.T) {
	for name, purge := range map[string]func(in *instance){
		"purge":          func(in *instance) { in.purge(`{"urls":["` + "http://localhost" + `/other"]}`) },
		"unsafe request": func(in *instance) { in.do("POST", "/", "") },
	} {
		t.Run(name, func(t *testing.T) {
			s := withDisk(t, "larder")
			in, o := startStored(t, s)
			first := s.disk
			s.disk = t.TempDir()
			in.load(s, o)
			eventually(t, "the old store is closed", func() bool { return canLock(filepath.Join(first, "larder.db")) })
			purge(in)
			s.disk = first
			in.load(s, o)
			if got := in.get("/"); got.body == "1" {
				t.Errorf("the file was used although it has missed a purge: %q", got.cacheStatus())
			}
		})
	}
}

// TestDiskPathBehindALink: the folder is made when the store is opened. Its links were followed
// only from then on, so that the next reload took it for another folder and found the file locked,
// by itself.
func TestDiskPathBehindALink(t *testing.T) {
	s := withDisk(t, "larder")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(s.disk, link); err != nil {
		t.Skipf("no links here: %v", err)
	}
	s.disk = filepath.Join(link, "state", "larder")
	in, o := startStored(t, s)
	s.options = "memory 32MiB"
	in.load(s, o)
	in.get("/").want(t, 200, "1", "")
}
