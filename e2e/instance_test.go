package e2e

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/larder-cache/larder"
)

// instance is a running Caddy with Larder.
type instance struct {
	t      *testing.T
	port   int
	admin  string
	disk   string // folder, "" for none
	client *http.Client
	file   string // the Caddyfile as it is loaded
}

// setup describes a Caddyfile with one site.
type setup struct {
	options string // inside the global larder block, besides disk
	disk    string // folder; "" means off
	budget  string // of the disk tier; "" means 64MiB
	global  string // further global options
	log     string // what Caddy's default log is; "" means errors on stderr
	site    string // the site's body; {{origin}} stands for the upstream's address
	more    string // further sites
	routes  string // named routes, before the site
}

// start loads a Caddyfile and stops Caddy at the end of the test.
func start(t *testing.T, s setup, o *origin) *instance {
	t.Helper()
	in := &instance{t: t, port: freePort(t), admin: fmt.Sprintf("localhost:%d", freePort(t)), disk: s.disk}
	in.client = &http.Client{
		Transport:     newRenewable(&http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       patience,
	}
	t.Cleanup(in.client.CloseIdleConnections)
	stopAtEnd(t)
	in.load(s, o)
	return in
}

// stopAtEnd stops Caddy when the test has ended, and its stores with it: one that is closed a
// little later would write to a folder of the test that is being removed.
func stopAtEnd(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		_ = caddy.Stop()
		awaitClosedStores(t)
	})
}

// proxied is a site with the directive in front of the origin.
func proxied(directive string) setup {
	return setup{site: directive + "\n\treverse_proxy {{origin}}"}
}

// block is the directive with lines in its block.
func block(lines ...string) string { return "larder {\n" + strings.Join(lines, "\n") + "\n}" }

// patientFlights is the directive of tests that gather clients at a fetch: on a busy machine that
// takes longer than a follower waits otherwise.
const patientFlights = "larder {\ncoalesce wait 2m\n}"

// rankedIn is withDisk in a zone of its own. What a test ranks there is not lost among what other
// tests of the process ask for: a ranking keeps a thousand URLs.
func rankedIn(t *testing.T, zone string, lines ...string) setup {
	s := withDisk(t, block(append([]string{"zone " + zone}, lines...)...))
	s.options = "zone " + zone
	return s
}

// withDisk is a proxied site with a disk tier.
func withDisk(t *testing.T, directive string) setup {
	s := proxied(directive)
	s.disk = t.TempDir()
	return s
}

// startTLS starts one site twice, in clear text and with a certificate of its own.
func startTLS(t *testing.T, o *origin) (plain, secure *instance) {
	t.Helper()
	clearPort, port := freePort(t), freePort(t)
	s := setup{
		site: "respond unused",
		more: fmt.Sprintf("http://:%d {\nlarder\nreverse_proxy {{origin}}\n}\nhttps://localhost:%d, https://example.com:%d {\ntls internal\nlarder\nreverse_proxy {{origin}}\n}",
			clearPort, port, port),
		global: "skip_install_trust\nlocal_certs\nstorage file_system " + t.TempDir(),
	}
	plain = start(t, s, o)
	plain.port = clearPort
	loadOver(t, strings.Replace(plain.file, "auto_https off", "auto_https disable_redirects", 1), clearPort, port)
	transport := &http.Transport{
		// The certificate is the test's own.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"},
	}
	t.Cleanup(transport.CloseIdleConnections)
	copied := *plain
	secure = &copied
	secure.port = port
	secure.client = &http.Client{Transport: overTLS{transport}, CheckRedirect: plain.client.CheckRedirect, Timeout: patience}
	eventually(t, "the certificate is made", func() bool {
		conn, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", port), transport.TLSClientConfig.Clone())
		return err == nil && conn.Close() == nil
	})
	return plain, secure
}

// overTLS sends what is made for http by https.
type overTLS struct{ *http.Transport }

func (o overTLS) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme = "https"
	return o.Transport.RoundTrip(r)
}

// load replaces the configuration, as `caddy reload` does.
func (in *instance) load(s setup, o *origin) {
	in.t.Helper()
	if err := in.tryLoad(s, o); err != nil {
		in.t.Fatal(err)
	}
	awaitHandOver(in.t, fmt.Sprintf(":%d", in.port), in.admin)
	awaitAdmin(in.t, in.admin)
	in.client.CloseIdleConnections() // those of the configuration that has gone
	http.DefaultClient.CloseIdleConnections()
}

func (in *instance) tryLoad(s setup, o *origin) error {
	in.t.Helper()
	in.write(s, o)
	return loadCaddyfile(in.t, in.file)
}

// write writes the Caddyfile.
func (in *instance) write(s setup, o *origin) {
	disk := "off"
	if s.disk != "" {
		disk = s.disk + " " + cmp.Or(s.budget, "64MiB")
	}
	in.file = fmt.Sprintf(`{
	admin %s
	auto_https off
	persist_config off
	grace_period 2s
	log {
		%s
	}
	larder {
		disk %s
		%s
	}
	%s
}
%s
http://localhost:%d {
	%s
}
%s
`, in.admin, cmp.Or(s.log, "level ERROR"), disk, s.options, s.global, s.routes, in.port, s.site, s.more)
	if o != nil {
		in.file = strings.ReplaceAll(in.file, "{{origin}}", strings.TrimPrefix(o.URL, "http://"))
	}
}

// loadOver loads a Caddyfile, and waits until what ran before has left the ports: until then it
// may answer there.
func loadOver(t *testing.T, file string, ports ...int) {
	t.Helper()
	if err := loadCaddyfile(t, file); err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	for _, port := range ports {
		awaitHandOver(t, fmt.Sprintf(":%d", port))
	}
}

func loadCaddyfile(t *testing.T, file string) error {
	t.Helper()
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(file), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			t.Logf("adapt: %s", w.Message)
		}
	}
	return caddy.Load(config, true)
}
