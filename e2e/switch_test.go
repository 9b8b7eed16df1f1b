package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// heldOrigin answers at once but for /slow, which waits.
func heldOrigin(t *testing.T) (o *origin, arrived, release chan struct{}) {
	arrived, release = make(chan struct{}, 1), make(chan struct{})
	answer := numbered("Cache-Control", "max-age=600")
	o = newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-release
		}
		answer(w, r)
	})
	return o, arrived, release
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
			o := newOrigin(t, numbered("Cache-Control", "max-age=600"))
			s := withDisk(t, "larder")
			in := start(t, s, o)
			in.get("/").want(t, 200, "1", "")
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
	o := newOrigin(t, numbered("Cache-Control", "max-age=600"))
	s := withDisk(t, "larder")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(s.disk, link); err != nil {
		t.Skipf("no links here: %v", err)
	}
	s.disk = filepath.Join(link, "state", "larder")
	in := start(t, s, o)
	in.get("/").want(t, 200, "1", "")
	s.options = "memory 32MiB"
	in.load(s, o)
	in.get("/").want(t, 200, "1", "")
}
