package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"
	"go.yaml.in/yaml/v3"
)

// composeFile is what the test looks at of a file for Docker Compose.
type composeFile struct {
	Services map[string]struct {
		Build           struct{ Context, Dockerfile string }
		Restart         string
		ReadOnly        bool     `yaml:"read_only"`
		CapDrop         []string `yaml:"cap_drop"`
		SecurityOpt     []string `yaml:"security_opt"`
		StopGracePeriod string   `yaml:"stop_grace_period"`
		MemLimit        string   `yaml:"mem_limit"`
		Environment     map[string]string
		Ports, Volumes  []string
	}
	Volumes map[string]struct{}
}

func readCompose(t *testing.T, name string) *composeFile {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c := new(composeFile)
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCompose: contrib/docker/compose.yaml mounts and builds what is there, keeps what has to be
// kept, and gives the container what docs/operating.md says that the default budgets need.
func TestCompose(t *testing.T) {
	const folder = "../contrib/docker"
	c := readCompose(t, filepath.Join(folder, "compose.yaml"))
	caddy := c.Services["caddy"]
	if _, err := os.Stat(filepath.Join(folder, caddy.Build.Context, caddy.Build.Dockerfile)); err != nil {
		t.Error(err)
	}
	mounted := make(map[string]string)
	for _, volume := range caddy.Volumes {
		parts := strings.Split(volume, ":")
		mounted[parts[1]] = parts[0]
	}
	files, err := os.ReadDir(filepath.Join(folder, mounted["/etc/caddy"]))
	if mounted["/etc/caddy"] == "" || err != nil || len(files) != 1 || files[0].Name() != "Caddyfile" {
		t.Errorf("no folder with a Caddyfile alone is mounted: %v %v", files, err)
	}
	if !caddy.ReadOnly || !slices.Equal(caddy.CapDrop, []string{"ALL"}) || !slices.Contains(caddy.SecurityOpt, "no-new-privileges:true") {
		t.Errorf("the container may do more than it needs: %+v", caddy)
	}
	for _, kept := range []string{"/data", "/config"} {
		if _, there := c.Volumes[mounted[kept]]; !there {
			t.Errorf("%s is in no volume", kept)
		}
	}
	limit, heap := bytesOf(t, caddy.MemLimit+"ib"), bytesOf(t, caddy.Environment["GOMEMLIMIT"])
	if want := bytesOf(t, "256MiB")*135/100 + heap; limit < want || limit > want+64<<20 {
		t.Errorf("%d bytes for the container, want %d", limit, want)
	}
}

// TestImageIsOfACleanTree: a file of the repository that a build of the image lacks has its version
// end in +dirty.
func TestImageIsOfACleanTree(t *testing.T) {
	git := exec.CommandContext(t.Context(), "git", "ls-files", "--cached", "--ignored", "--exclude-from=contrib/docker/Dockerfile.dockerignore")
	git.Dir = ".."
	missing, err := git.Output()
	if err != nil {
		t.Skipf("this is no checkout: %v", err)
	}
	if len(missing) > 0 {
		t.Errorf("a build lacks\n%s", missing)
	}
}

func bytesOf(t *testing.T, size string) uint64 {
	t.Helper()
	n, err := humanize.ParseBytes(size)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
