package e2e

import (
	"encoding/json"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// compose is what docker-compose.yml may have here.
type compose struct {
	Services map[string]composeService
	Volumes  map[string]struct{}
}

type composeService struct {
	Image, Build, Hostname, Command string
	DependsOn                       []string `yaml:"depends_on"`
	Environment                     map[string]string
	Volumes, Ports                  []string
}

// composeVariable is ${NAME:-default}.
var composeVariable = regexp.MustCompile(`\$\{\w+:-([^}]*)\}`)

// TestExampleCompose reads the example for containers, without Docker: what it refers to is there,
// the server takes the options that it gives, and each Caddy the file that it mounts.
func TestExampleCompose(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(treeRoot, "testdata/examples/fleet")
	file, err := os.Open(filepath.Join(folder, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var c compose
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(c.Services)), []string{"a", "b", "origin", "valkey"}; !slices.Equal(got, want) {
		t.Fatalf("the services are %q, want %q", got, want)
	}
	mounted := make(map[string]map[string]string) // by service and path in the container
	for name, s := range c.Services {
		mounted[name] = c.check(t, folder, name, &s)
	}
	for _, name := range []string{"origin", "a", "b"} {
		t.Run(name, func(t *testing.T) { c.checkCaddy(t, name, mounted[name]) })
	}
	t.Run("valkey", func(t *testing.T) {
		words := strings.Fields(c.Services["valkey"].Command)
		r := startRedis(t, words[1:]...)
		for name, want := range map[string]string{"appendonly": "yes", "maxmemory": "536870912", "maxmemory-policy": "volatile-lru"} {
			if got := strings.Fields(r.says("CONFIG", "GET", name)); words[0] != "valkey-server" || len(got) != 2 || got[1] != want {
				t.Errorf("%s is %q, want %s", name, got, want)
			}
		}
	})
}

// check checks what a service refers to, and returns the folders that it mounts, by path in the
// container. A file that is mounted alone goes on to be the old one when an editor has replaced it.
func (c *compose) check(t *testing.T, folder, name string, s *composeService) map[string]string {
	t.Helper()
	if (s.Image == "") == (s.Build == "") {
		t.Errorf("%s has an image %q and builds %q, want one of them", name, s.Image, s.Build)
	}
	if s.Build != "" {
		text, err := os.ReadFile(filepath.Join(folder, s.Build, "Dockerfile"))
		if err != nil || !strings.Contains(string(text), "xcaddy build --with github.com/larder-cache/larder\n") {
			t.Errorf("%s: the Dockerfile builds no Larder: %v", name, err)
		}
	}
	for _, other := range s.DependsOn {
		if _, there := c.Services[other]; !there {
			t.Errorf("%s depends on %s, which is no service", name, other)
		}
	}
	folders := make(map[string]string)
	for _, volume := range s.Volumes {
		parts := strings.Split(volume, ":")
		if !strings.HasPrefix(parts[0], ".") {
			if _, there := c.Volumes[parts[0]]; !there {
				t.Errorf("%s mounts %s, which is no volume", name, parts[0])
			}
			continue
		}
		folders[parts[1]] = filepath.Join(folder, parts[0])
		if info, err := os.Stat(folders[parts[1]]); err != nil || !info.IsDir() {
			t.Errorf("%s mounts %s, which is no folder: %v", name, parts[0], err)
		}
	}
	return folders
}

// adaptedFleet is what the checks look at of a configuration.
type adaptedFleet struct {
	Apps struct {
		HTTP struct {
			Servers map[string]struct{ Listen []string }
		}
		Larder struct {
			Disk   struct{ Path string }
			Shared struct{ URLs []string }
		}
	}
}

// checkCaddy adapts and validates the file that a service runs, with its environment.
func (c *compose) checkCaddy(t *testing.T, name string, folders map[string]string) {
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	s := c.Services[name]
	words := strings.Fields(s.Command)
	inside := words[len(words)-1]
	config := filepath.Join(folders[filepath.Dir(inside)], filepath.Base(inside))
	text, err := os.ReadFile(config)
	if err != nil || !slices.Equal(words[:3], []string{"caddy", "run", "--config"}) {
		t.Fatalf("it runs %q: %v", words, err)
	}
	dir := t.TempDir()
	environment := append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	for variable, value := range s.Environment {
		if !strings.Contains(string(text), "{$"+variable+":") {
			t.Errorf("%s is not in %s", variable, config)
		}
		environment = append(environment, variable+"="+composeVariable.ReplaceAllString(value, "$1"))
	}
	var out []byte
	for _, command := range []string{"validate", "adapt"} {
		cmd := exec.Command(binary, command, "--config", config)
		cmd.Env = environment
		if out, err = cmd.Output(); err != nil {
			t.Fatalf("caddy %s: %v", command, err)
		}
	}
	var adapted adaptedFleet
	if err := json.Unmarshal(out, &adapted); err != nil {
		t.Fatal(err)
	}
	c.checkAdapted(t, &s, &adapted, string(out))
}

func (c *compose) checkAdapted(t *testing.T, s *composeService, adapted *adaptedFleet, text string) {
	t.Helper()
	var ports []string
	for _, server := range adapted.Apps.HTTP.Servers {
		for _, listen := range server.Listen {
			ports = append(ports, listen[strings.LastIndexByte(listen, ':')+1:])
		}
	}
	for _, published := range s.Ports {
		if _, port, _ := strings.Cut(published, ":"); !slices.Contains(ports, port) {
			t.Errorf("it publishes %s and listens at %q", published, ports)
		}
	}
	if len(s.Environment) == 0 { // the origin
		if !slices.Equal(ports, []string{"9000"}) {
			t.Errorf("it listens at %q", ports)
		}
		return
	}
	store := adapted.Apps.Larder.Disk.Path
	if !slices.ContainsFunc(s.Volumes, func(v string) bool {
		_, path, _ := strings.Cut(v, ":")
		return strings.HasPrefix(store, path+"/")
	}) {
		t.Errorf("the store %q is in none of %q", store, s.Volumes)
	}
	for _, address := range adapted.Apps.Larder.Shared.URLs {
		u, err := url.Parse(address)
		if _, there := c.Services[u.Hostname()]; err != nil || !there {
			t.Errorf("it shares by %s, which is no service: %v", address, err)
		}
	}
	host, port, _ := net.SplitHostPort(s.Environment["ORIGIN"])
	if _, there := c.Services[host]; !there || port != "9000" || !strings.Contains(text, `"dial":"`+s.Environment["ORIGIN"]+`"`) {
		t.Errorf("its origin is %s", s.Environment["ORIGIN"])
	}
}
