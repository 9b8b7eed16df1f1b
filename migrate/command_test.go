package migrate

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/larder-cache/larder/adminapi"
)

// TestCommand runs `caddy larder migrate`: to standard output, and with a file that it changes.
func TestCommand(t *testing.T) {
	name := filepath.Join(testFolder(t), "Caddyfile")
	const before, after = "a.example {\n\tcache\n\trespond a\n}\n", "a.example {\n\tlarder\n\trespond a\n}\n"
	write(t, name, before)
	expectCommand(t, after, "", name, "--global", name)
	expectFile(t, name, before)

	expectCommand(t, "", "", "--write", name, "--global", name)
	expectFile(t, name, after)
	expectFile(t, backupOf(name), before)
	expectCommand(t, "", name+": no cache of cache-handler, so nothing was changed\n", "-w", name)
	expectFile(t, name, after)

	write(t, name, "a.example {\n\tcache {\n\t\tlog_level debug\n\t}\n}\n")
	const miss = "log_level debug: Larder writes to Caddy's log, so set the level of that"
	expectCommand(t, "", "Error: "+backupOf(name)+" is there already; move it away first\n", "--overwrite", name, "--global", name)
	expectCommand(t, "a.example {\n\tlarder {\n\t\t# Not migrated: "+miss+"\n\t}\n}\n",
		name+":3: not migrated: "+miss+"\nError: "+name+": 1 thing has no counterpart; a comment in the file says what to do\n", name, "--global", name)

	write(t, name, "a.example {\n\tcache {\n")
	expectCommand(t, "", "Error: "+name+": line 1: the block that begins here is not closed\n", name)
	expectCommand(t, "", "Error: open "+name+"x: no such file or directory\n", name+"x")
}

// TestFileThatAnotherImports is about a folder of sites, as Debian has it. What the global option
// says in the file that imports them is not dropped without a word, in neither file.
func TestFileThatAnotherImports(t *testing.T) {
	folder := testFolder(t)
	main, site := filepath.Join(folder, "Caddyfile"), filepath.Join(folder, "shop")
	const mainText = "{\n\tcache {\n\t\tttl 1h\n\t\tregex {\n\t\t\texclude ^/admin\n\t\t}\n\t\tkey {\n\t\t\theaders X-Tenant\n\t\t}\n\t}\n}\nimport sites/*\n"
	const siteText = "shop.example {\n\tcache\n\trespond a\n}\n"
	write(t, main, mainText)
	write(t, site, siteText)
	expectCommand(t, "shop.example {\n\tlarder\n\trespond a\n}\n", "Error: "+site+": "+errBare.Error()+"\n", site)
	expectCommand(t, "", "Error: "+site+": "+errBare.Error()+"\n", "--write", site)
	expectFile(t, site, siteText)

	const why = ": no site of this file has a cache. Migrate the files that it imports with --global and the old text of this file; that writes the option into each larder there"
	words := []string{"ttl 1h", "regex { exclude ^/admin }", "key { headers X-Tenant }"}
	var notes strings.Builder
	wrote := "{\n\tlarder {\n"
	for i, word := range words {
		fmt.Fprintf(&notes, "%s:%d: not migrated: %s%s\n", main, []int{3, 4, 7}[i], word, why)
		wrote += "\t\t# Not migrated: " + word + why + "\n"
	}
	wrote += "\t}\n}\nimport sites/*\n"
	expectCommand(t, "", notes.String()+"Error: "+main+": 3 things have no counterpart; comments in the file say what to do\n", "--write", main)
	expectFile(t, main, wrote)

	expectCommand(t, "", "Error: "+site+": the file with the global options is migrated already; name its old text\n", site, "--write", "--global", main)
	expectFile(t, site, siteText)
	const shop = "shop.example {\n\t@larder not vars_regexp {http.request.orig_uri} ^/admin\n\tlarder @larder {\n\t\tttl 1h 200 203 204 300 301 404 405 410 414 501\n" +
		"\t\tkey {\n\t\t\theader X-Tenant\n\t\t}\n\t}\n\trespond a\n}\n"
	var out, stderr bytes.Buffer
	if err := execute(t, &out, &stderr, site, "--global", backupOf(main)); err != nil || out.String() != shop {
		t.Errorf("%q, %q, %v; want %q", &out, &stderr, err, shop)
	}
	const own = "{\n\tcache {\n\t\tttl 5m\n\t}\n}\nshop.example {\n\tcache\n\trespond a\n}\nimport sites/*\n"
	write(t, site, own)
	out.Reset()
	stderr.Reset()
	if err := execute(t, &out, &stderr, site, "--global", backupOf(main)); err != nil || !strings.Contains(out.String(), "ttl 5m 200") ||
		!strings.Contains(stderr.String(), "note: cache: sites in other files (import sites/*) inherit it too; ") {
		t.Errorf("%q, %q, %v", &out, &stderr, err)
	}
}

// TestMainFileLast: where all that a file imports is migrated, no option of its own is lost when
// the sites are elsewhere. That was an error for each of them.
func TestMainFileLast(t *testing.T) {
	folder := testFolder(t)
	main, site, more := filepath.Join(folder, "Caddyfile"), filepath.Join(folder, "sites", "shop"), filepath.Join(folder, "more")
	if err := os.Mkdir(filepath.Dir(site), 0o750); err != nil {
		t.Fatal(err)
	}
	const mainText = "{\n\tcache {\n\t\tttl 1h\n\t}\n}\nimport sites/*\n"
	write(t, main, mainText)
	write(t, site, "shop.example {\n\tcache\n\timport ../more\n\trespond a\n}\n")
	write(t, more, "header A b\n")
	lost := func() bool {
		t.Helper()
		var out, stderr bytes.Buffer
		err := execute(t, &out, &stderr, main)
		if missing := strings.Contains(stderr.String(), "not migrated: ttl 1h: "); missing != (err != nil) {
			t.Errorf("%v, %q", err, &stderr)
		}
		return err != nil
	}
	if !lost() {
		t.Error("the site has a cache yet")
	}
	if err := execute(t, io.Discard, io.Discard, "--write", site, "--global", main); err != nil {
		t.Fatal(err)
	}
	if lost() {
		t.Error("the sites are migrated")
	}
	for _, text := range []string{"cache\n", "import ../{$ELSE}\n", "import missing/*\n", "a {\n"} {
		write(t, more, text)
		if migratedText := text == "a {\n"; lost() == migratedText {
			t.Errorf("with %q", text)
		}
	}
	write(t, more, "import more\n") // a circle
	if lost() {
		t.Error("a circle of imports has no cache")
	}
	// Snippets of the main file, and of a file itself, are no files.
	write(t, main, strings.Replace(mainText, "import", "(common) {\n\theader A b\n}\nimport", 1))
	write(t, more, "(own) {\n\theader C d\n}\nimport common\nimport own\n")
	if lost() {
		t.Error("snippets are migrated with the file that defines them")
	}
	write(t, more, "import more\n")
	write(t, main, "{\n\tcache {\n\t\tbadger\n\t}\n}\na.example {\n\tcache\n}\nimport sites/*\n")
	var stderr bytes.Buffer
	if _ = execute(t, io.Discard, &stderr, main); strings.Contains(stderr.String(), "sites in other files") {
		t.Errorf("told to migrate what is migrated: %q", &stderr)
	}
	write(t, main, mainText)
	expectCommand(t, "", main+":3: note: ttl 1h: no site has a cache that would inherit it, so it is left out\n", "--write", main)
	expectFile(t, main, "{\n\tlarder\n}\nimport sites/*\n")
}

// TestBackupInFolderOfSites: `import sites/*` took the backup of a site as one more site, and Caddy
// refused that: unrecognized directive: cache.
func TestBackupInFolderOfSites(t *testing.T) {
	folder := testFolder(t)
	main, site := filepath.Join(folder, "Caddyfile"), filepath.Join(folder, "sites", "shop")
	if err := os.Mkdir(filepath.Dir(site), 0o750); err != nil {
		t.Fatal(err)
	}
	const mainText, siteText = "{\n\tcache\n}\nimport sites/*\n", "shop.example {\n\tcache\n\trespond a\n}\n"
	write(t, main, mainText)
	write(t, site, siteText)
	if err := execute(t, io.Discard, io.Discard, "--write", site, "--global", main); err != nil {
		t.Fatal(err)
	}
	expectFile(t, filepath.Join(folder, "sites", ".shop.before-larder"), siteText)
	blocks, err := caddyfile.Parse(main, []byte(mainText))
	if err != nil || len(blocks) != 2 || blocks[1].Segments[0].Directive() != "larder" {
		t.Errorf("%v, %v; want one site, with larder", blocks, err)
	}
}

// TestLargeBodiesOfImportedSites: each site of an imported file was told to raise the bound of all
// sites, which the migrated file with the global option has. It has it also where its own sites
// say less.
func TestLargeBodiesOfImportedSites(t *testing.T) {
	folder := testFolder(t)
	main, site := filepath.Join(folder, "Caddyfile"), filepath.Join(folder, "shop")
	write(t, main, "{\n\tcache {\n\t\tmax_cacheable_body_bytes 209715200\n\t}\n}\na.example {\n\tcache {\n\t\tmax_cacheable_body_bytes 1024\n\t}\n\trespond a\n}\nimport sites/*\n")
	var out, stderr bytes.Buffer
	if err := execute(t, &out, &stderr, main); err != nil || !strings.HasPrefix(out.String(), "{\n\tlarder {\n\t\tmax_body 200MiB\n\t}\n}\n") {
		t.Errorf("%q, %q, %v", &out, &stderr, err)
	}
	for size, told := range map[string]bool{"": false, "104857600": false, "209715201": true} {
		own := ""
		if size != "" {
			own = " {\n\t\tmax_cacheable_body_bytes " + size + "\n\t}"
		}
		write(t, site, "b.example {\n\tcache"+own+"\n\trespond b\n}\n")
		out.Reset()
		stderr.Reset()
		err := execute(t, &out, &stderr, site, "--global", main)
		if (err != nil) != told || strings.Contains(stderr.String(), "into `larder` of the global options as well") != told || !strings.Contains(out.String(), "\t\tmax_body ") {
			t.Errorf("%q: %q, %q, %v", size, &out, &stderr, err)
		}
	}
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
	err := execute(t, &gotOut, &gotErr, args...)
	if gotOut.String() != out || gotErr.String() != stderr || (err != nil) != strings.Contains(stderr, "Error: ") {
		t.Errorf("%v: %q, %q, %v; want %q, %q", args, &gotOut, &gotErr, err, out, stderr)
	}
}

func execute(t *testing.T, out, stderr io.Writer, args ...string) error {
	t.Helper()
	cmd := command(new(adminapi.Client))
	cmd.SilenceUsage = true // as below `caddy`
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(stderr)
	return cmd.ExecuteContext(t.Context())
}
