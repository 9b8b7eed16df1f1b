package backends

import (
	"errors"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
)

func open(t *testing.T, server *fleettest.Server) fleet.Engine {
	t.Helper()
	keeper := server.Clients(1)[0]
	web := httptest.NewServer(Handler(keeper))
	t.Cleanup(func() {
		_ = keeper.Close()
		web.Close()
	})
	e := NewEngine(web.URL)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestConformance(t *testing.T) {
	t.Parallel()
	fleettest.TestEngine(t, func(t *testing.T) []fleet.Engine {
		server := fleettest.NewServer()
		return []fleet.Engine{open(t, server), open(t, server)}
	})
	fleettest.TestLosses(t, func(t *testing.T) ([]fleet.Engine, fleettest.Losses) {
		s := fleettest.NewServer()
		return []fleet.Engine{open(t, s), open(t, s)}, fleettest.Losses{
			Flush: s.Flush, Restart: s.Restart, LoseNodes: s.LoseNodes, LoseLog: s.LoseLog,
		}
	})
}

func TestReadOnly(t *testing.T) {
	server := fleettest.NewServer()
	e := open(t, server)
	server.SetReadOnly(true)
	if _, err := e.Append(t.Context(), fleet.Place{}, []byte("x"), 0); !errors.Is(err, fleet.ErrReadOnly) {
		t.Error(err)
	}
}

// TestThePageShowsIt: what docs/backends.md prints is in these files, to the letter.
func TestThePageShowsIt(t *testing.T) {
	page, err := os.ReadFile("../backends.md")
	if err != nil {
		t.Fatal(err)
	}
	var code string
	for _, name := range []string{"backends.go", "backends_test.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code += string(text)
	}
	blocks := strings.Split(string(page), "```golang\n")[1:]
	if len(blocks) < 3 {
		t.Fatalf("the page has %d blocks of Go", len(blocks))
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		for part := range strings.SplitSeq(block, "\n\n") {
			if !strings.Contains(code, strings.TrimSpace(part)) {
				t.Errorf("these files have not:\n%s", part)
			}
		}
	}
}
