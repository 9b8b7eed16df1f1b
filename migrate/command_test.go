package migrate

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larder-cache/larder/adminapi"
)

// TestCommand runs `caddy larder migrate`: to standard output, and with a file that it changes.
func TestCommand(t *testing.T) {
	name := filepath.Join(testFolder(t), "Caddyfile")
	const before, after = "a.example {\n\tcache\n\trespond a\n}\n", "a.example {\n\tlarder\n\trespond a\n}\n"
	write(t, name, before)
	expectCommand(t, after, "", name)
	expectFile(t, name, before)

	expectCommand(t, "", "", "--write", name)
	expectFile(t, name, after)
	expectFile(t, name+".before-larder", before)
	expectCommand(t, "", name+": no cache of cache-handler, so nothing was changed\n", "-w", name)
	expectFile(t, name, after)

	write(t, name, "a.example {\n\tcache {\n\t\tlog_level debug\n\t}\n}\n")
	const miss = "log_level debug: Larder writes to Caddy's log, so set the level of that"
	expectCommand(t, "", "Error: "+name+".before-larder is there already; move it away first\n", "--overwrite", name)
	expectCommand(t, "a.example {\n\tlarder {\n\t\t# Not migrated: "+miss+"\n\t}\n}\n",
		name+":3: not migrated: "+miss+"\nError: "+name+": 1 thing has no counterpart; a comment in the file says what to do\n", name)

	write(t, name, "a.example {\n\tcache {\n")
	expectCommand(t, "", "Error: "+name+": line 1: the block that begins here is not closed\n", name)
	expectCommand(t, "", "Error: open "+name+"x: no such file or directory\n", name+"x")
}

// testFolder is a folder for a test, without links on the way to it: errors name the file itself.
func testFolder(t *testing.T) string {
	t.Helper()
	folder, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func expectFile(t *testing.T, name, want string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil || string(text) != want {
		t.Errorf("%s has %q (%v), want %q", name, text, err, want)
	}
}

// expectCommand runs the command, which fails if and only if it says so on standard error.
func expectCommand(t *testing.T, out, stderr string, args ...string) {
	t.Helper()
	var gotOut, gotErr bytes.Buffer
	cmd := command(new(adminapi.Client))
	cmd.SilenceUsage = true // as below `caddy`
	cmd.SetArgs(args)
	cmd.SetOut(&gotOut)
	cmd.SetErr(&gotErr)
	err := cmd.ExecuteContext(t.Context())
	if gotOut.String() != out || gotErr.String() != stderr || (err != nil) != strings.Contains(stderr, "Error: ") {
		t.Errorf("%v: %q, %q, %v; want %q, %q", args, &gotOut, &gotErr, err, out, stderr)
	}
}
