package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

// TestMessagesOfTroubleshooting makes the errors that docs/troubleshooting.md explains, and holds
// the page to their words. What stands for … differs from case to case.
func TestMessagesOfTroubleshooting(t *testing.T) {
	table := section(t, readPages(t, "docs/troubleshooting.md"), "When it does not start or answer")
	var explained []*regexp.Regexp
	for _, span := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1) {
		explained = append(explained, regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(span[1]), "…", ".+")))
	}
	taken := t.TempDir()
	lock, err := bbolt.Open(filepath.Join(taken, "larder.db"), 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for name, message := range map[string]func() error{
		"no Caddy":        func() error { return statsAt(t, freeAddress(t)) },
		"no larder":       func() error { return statsAt(t, withoutLarder(t)) },
		"locked":          func() error { return loadWithDisk(t, taken) },
		"no folder":       func() error { return loadWithDisk(t, "/dev/null/larder") },
		"no such handler": func() error { return loadCaddyfile(t, "http://localhost:1 {\n\tcache\n}\n") },
	} {
		t.Run(name, func(t *testing.T) {
			err := message()
			if err == nil {
				t.Fatal("no error")
			}
			for _, words := range explained {
				if words.MatchString(err.Error()) {
					return
				}
			}
			t.Errorf("the page does not explain %q", err)
		})
	}
}

// statsAt is what `caddy larder stats` fails with.
func statsAt(t *testing.T, address string) error {
	t.Helper()
	before := adminapitest.Address
	adminapitest.Address = address
	defer func() { adminapitest.Address = before }()
	_, stderr, err := adminapitest.Larder(t, "stats")
	if err != nil {
		err = fmt.Errorf("%w %s", err, stderr)
	}
	return err
}

// withoutLarder is the admin API of a Caddy whose configuration has none.
func withoutLarder(t *testing.T) string {
	t.Helper()
	in := start(t, setup{site: "respond unused"}, newOrigin(t, numbered()))
	if err := loadCaddyfile(t, fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n}\n", in.admin)); err != nil {
		t.Fatal(err)
	}
	return in.admin
}

// loadWithDisk loads a configuration with a folder for its store.
func loadWithDisk(t *testing.T, folder string) error {
	t.Helper()
	in := start(t, setup{site: "respond unused"}, newOrigin(t, numbered()))
	return in.tryLoad(setup{site: "respond unused", disk: folder}, newOrigin(t, numbered()))
}
