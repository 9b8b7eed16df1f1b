package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/larder-cache/larder"

// Goroutines are found by the functions that they are in. TestWatchedFunctionsExist holds these
// names to the tree, so that no renamed function is waited for in vain, or taken to be over.
const (
	waitingForAFetch = "coalesce.(*Member).Wait"
	fetching         = "httpcache.(*Fetch).run"
	serving          = "httpcache.(*Route).Serve"
	readingAFlight   = "httpcache.(*flightBody).next"
	awaitingTheStore = "httpcache.(*flightBody).awaitStored"
)

// goroutinesIn counts the goroutines that are in function.
func goroutinesIn(function string) int { return goroutinesUnder(function + "(") }

// goroutinesUnder counts the stack frames of functions whose name begins with prefix.
func goroutinesUnder(prefix string) int {
	for size := 256 << 10; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return strings.Count(string(buf[:n]), prefix)
		}
	}
}

// parked waits until n requests, the leader among them, wait for a flight's decision.
func parked(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d requests wait for a fetch", n), func() bool {
		return goroutinesIn(waitingForAFetch) == n
	})
}

// settled waits until nothing is left of any flight.
func settled(t *testing.T, in *instance) {
	t.Helper()
	in.client.CloseIdleConnections()
	eventually(t, "all fetches are over", func() bool {
		return in.stats().InFlight == 0 && goroutinesIn(fetching) == 0 && goroutinesIn(waitingForAFetch) == 0
	})
}

// awaitClosedStores waits until no store is open. An open store has a goroutine that writes to its
// file. It outlives its configuration until its last request and fetch have ended, so that another
// test could find what the last one stored.
func awaitClosedStores(t *testing.T) {
	t.Helper()
	if !within(patience, func() bool { return goroutinesUnder(module+"/store.") == 0 }) {
		t.Error("a store outlives its configuration")
	}
}

// TestWatchedFunctionsExist looks for the declarations of the functions above.
func TestWatchedFunctionsExist(t *testing.T) {
	for _, name := range []string{waitingForAFetch, fetching, readingAFlight, awaitingTheStore} {
		folder, method, _ := strings.Cut(name, ".")
		if folder == "larder" {
			folder = ""
		}
		receiver, method, _ := strings.Cut(method, ").")
		declared := regexp.MustCompile(`(?m)^func \(\w* ?` + regexp.QuoteMeta(strings.TrimPrefix(receiver, "(")) + `(\[\w+\])?\) ` + method + `\(`)
		files, err := filepath.Glob(filepath.Join(treeRoot, folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no sources in %q: %v", folder, err)
		}
		if !slices.ContainsFunc(files, func(file string) bool {
			source, err := os.ReadFile(file)
			return err == nil && declared.Match(source)
		}) {
			t.Errorf("%s is declared nowhere", name)
		}
	}
}
