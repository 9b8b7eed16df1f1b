package inspect

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi/adminapitest"
	"github.com/larder-cache/larder/stats"
)

// hostile is what an origin or a client could write to have a terminal clear itself.
const hostile = "x\x1b[2J\ny\u009b2Jz\t\u202e"

// hostileCache has it in every text that there is.
func hostileCache() *fakeCache {
	entry := Entry{
		ID: testID, URL: hostile, Tags: []string{hostile}, Tier: hostile, Variant: hostile, Header: http.Header{hostile: {hostile}},
	}
	return &fakeCache{
		fleet: Fleet{Name: hostile, Epoch: hostile, Nodes: []Node{{ID: hostile, Name: hostile, Version: hostile, Address: hostile, State: hostile}}},
		pages: map[string]Listing{"": {Entries: []Entry{entry}}},
		rows:  []TopRow{{URL: hostile, Count: 1, Share: 1, Reason: hostile}},
		window: stats.Window{Step: testWindow().Step, Series: map[string]stats.Values{
			SeriesFetches: {1}, SeriesRequests + hostile: {1},
		}},
		seen: ObservedReport{ObservedCounts: ObservedCounts{Requests: 1, Would: map[string]int64{hostile: 1}}, Groups: []ObservedGroup{{
			Group: hostile, Verdict: VerdictWrong, Because: []string{hostile}, Advice: []string{hostile}, Examples: []Example{{URL: hostile, Reason: hostile}},
		}}},
		details: map[string]*Detail{testID: {
			Entry: entry, Vary: map[string]string{hostile: hostile}, Coding: hostile, Purged: hostile,
			Key: EntryKey{Hash: hostile, Parts: []EntryKeyPart{{hostile, []string{hostile}}}},
		}},
	}
}

// TestNothingMovesTheTerminal: no command prints what a terminal acts on, whatever is stored, for
// people or as JSON; and what stands in one line stays in it.
func TestNothingMovesTheTerminal(t *testing.T) {
	use(t, hostileCache())
	withExplainer(t, &fakeExplainer{answer: Explained{
		Verdict: hostile, Steps: []ExplainedStep{{hostile, hostile, hostile}}, Key: &EntryKey{Hash: hostile, Parts: []EntryKeyPart{{hostile, []string{hostile}}}},
	}})
	commands := map[string][]string{
		"stats": nil, "ls": nil, "get": {testID}, "fleet": nil, "top": nil, "observe": nil, "history": nil, "explain": {"http://h/"}, "compact": nil,
	}
	for name, arguments := range commands {
		for _, flags := range [][]string{nil, {"--json"}} {
			args := slices.Concat([]string{name}, flags, arguments)
			stdout, stderr, err := adminapitest.Larder(t, args...)
			if err != nil || stdout == "" {
				t.Errorf("%v printed %q and %q, %v", args, stdout, stderr, err)
			}
			if i := strings.IndexFunc(stdout, acts); i >= 0 {
				t.Errorf("%v printed %q", args, stdout[i:])
			}
			if strings.Contains(stdout, "\ny") {
				t.Errorf("%v printed a line break of a text: %q", args, stdout)
			}
		}
	}
	for _, name := range subcommands(t) {
		if _, tested := commands[name]; !tested {
			t.Errorf("%s is not tested", name)
		}
	}
}

// acts reports whether a terminal acts on a character, but for the ends of lines and what is
// between the columns of ls.
func acts(r rune) bool {
	return r != '\n' && r != '\t' && (unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r))
}

// subcommands are those that are registered.
func subcommands(t *testing.T) (names []string) {
	t.Helper()
	larder := new(cobra.Command)
	caddycmd.Commands()["larder"].CobraFunc(larder)
	for _, c := range larder.Commands() {
		names = append(names, c.Name())
	}
	return names
}

// TestErrorsMoveNoTerminal: what an error quotes is printable, too.
func TestErrorsMoveNoTerminal(t *testing.T) {
	use(t, &fakeCache{})
	for _, args := range [][]string{{"get", hostile}, {"ls", "--prefix", hostile}, {"top", "--by", hostile}, {"stats", "--zone", hostile}} {
		stdout, stderr, err := adminapitest.Larder(t, args...)
		adminapitest.ExpectOneLine(t, stdout, stderr, err, "Error: ")
		if strings.ContainsFunc(stderr, acts) {
			t.Errorf("%q printed %q", args, stderr)
		}
	}
}
