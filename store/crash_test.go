package store

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// crashDir names the folder in which the test binary, started again by TestKill, writes until it is
// killed.
const crashDir = "LARDER_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		writeUntilKilled(dir)
		return
	}
	verifyNoLeaks(m)
}

// crashTier is more than a writer fills before it is killed, however late that is: what the budget
// evicts is not lost by the crash, and cannot be told from it afterwards.
var crashTier = Settings{Memory: 1 << 20, Disk: 4 << 30}

// crashBody is the body of the writer's entry i: mostly inline or one chunk, now and then several.
func crashBody(url string, i int) []byte {
	n := 1 + (i*i)%1_000
	if i%25 == 7 {
		n = 1 + (i*i)%30_000
	}
	return bytes.Repeat([]byte(url), n)
}

// writeUntilKilled stores entries, and reports on standard output those that Sync has vouched for
// and the purges that were answered.
func writeUntilKilled(dir string) {
	s := New(Config{Path: dir, Required: true}, crashTier)
	if err := s.Open(); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for i := 0; ; i++ {
		url := fmt.Sprintf("http://example.com/%d/%d", os.Getpid(), i)
		s.Put(testEntry(s, url, crashBody(url, i), fmt.Sprintf("t%d", i%50)), 0)
		if i%20 == 19 {
			if err := s.Sync(); err == nil {
				fmt.Println("synced", i, os.Getpid())
			}
			if n := s.counts.evictions[DiskTier][Capacity].Load(); n > 0 {
				fmt.Println("error: the budget has evicted", n)
			}
		}
		if i%50 == 49 {
			tag := fmt.Sprintf("t%d", (i/50)%50)
			if _, err := s.Purge(Selectors{Tags: []string{tag}}, PurgeOptions{}); err == nil {
				fmt.Println("purged", tag, i, os.Getpid())
			}
		}
	}
}

// TestKill kills a writing process at random moments. What it had reported is true afterwards.
func TestKill(t *testing.T) {
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	rng := seeded(t)
	dir := t.TempDir()
	for round := range rounds {
		synced, purged, pid := killedWriter(t, dir, time.Duration(100+rng.IntN(300))*time.Millisecond)
		s := openStore(t, Config{Path: dir, Required: true}, crashTier)
		if aside := asideFiles(t, dir); len(aside) > 0 {
			t.Fatalf("round %d: set aside %q", round, aside)
		}
		missing := 0
		for i := range synced + 1 {
			url := fmt.Sprintf("http://example.com/%d/%d", pid, i)
			until, gone := purged[fmt.Sprintf("t%d", i%50)]
			n := hits(t, s, []string{url})
			if gone && i <= until {
				if n != 0 {
					t.Errorf("round %d: %s is back after its purge", round, url)
				}
			} else if n == 0 {
				missing++
			}
		}
		// A purge may have been committed whose answer the kill cut off: one tag, of those synced.
		if missing > synced/50+1 {
			t.Errorf("round %d: %d of %d synced entries are missing %+v", round, missing, synced+1, s.Stats())
		}
		checkAgreement(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// killedWriter runs a writer, kills it, and returns what it had reported: the number of the last
// entry synced, and for each tag purged that of the last entry before the purge.
func killedWriter(t *testing.T, dir string, after time.Duration) (synced int, purged map[string]int, pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, synced, purged = cmd.Process.Pid, -1, map[string]int{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "ready":
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		case "synced":
			synced, _ = strconv.Atoi(words[1])
		case "purged":
			purged[words[1]], _ = strconv.Atoi(words[2])
		default:
			t.Errorf("writer: %s", lines.Text())
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the writer ended by itself")
	}
	return synced, purged, pid
}
