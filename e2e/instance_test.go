package e2e

import (
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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
	t.Cleanup(func() {
		_ = caddy.Stop()
		awaitClosedStores(t)
	})
	in.load(s, o)
	return in
}

// renewable is a transport that leaves all its connections behind where an http.Transport closes
// those that are idle: one that is still being dialled may have been taken by a server that goes,
// which would answer a later request by its own configuration.
type renewable struct {
	current atomic.Pointer[http.Transport]
}

func newRenewable(first *http.Transport) *renewable {
	n := new(renewable)
	n.current.Store(first)
	return n
}

// RoundTrip implements http.RoundTripper.
func (n *renewable) RoundTrip(r *http.Request) (*http.Response, error) {
	return n.current.Load().RoundTrip(r)
}

// CloseIdleConnections is what http.Client calls by the method of its own with this name.
func (n *renewable) CloseIdleConnections() {
	last := n.current.Load()
	n.current.Store(last.Clone())
	last.CloseIdleConnections()
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
	if err := loadCaddyfile(t, strings.Replace(plain.file, "auto_https off", "auto_https disable_redirects", 1)); err != nil {
		t.Fatal(err)
	}
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
	in.client.CloseIdleConnections() // those of the configuration that has gone
	http.DefaultClient.CloseIdleConnections()
}

// awaitHandOver waits until the configuration that goes has closed its listeners at addresses where
// the new one listens too, as load does for that of the instance. Caddy returns when the goroutines
// that do this have begun, and counts a listener as gone before it closes it. Until then the kernel
// gives the old servers some of the connections that are new, and resets them.
func awaitHandOver(t *testing.T, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		eventually(t, "the configuration that goes has closed its listener", func() bool {
			return caddy.ListenerUsage("tcp", address) <= 1 && listening(t, address) <= 1
		})
	}
}

// listening is how many sockets listen at an address, as far as the system tells: 0 where it does
// not.
func listening(t *testing.T, address string) (count int) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	const every4, every6 = "00000000", "00000000000000000000000000000000" // in the kernel's form
	at := map[string]bool{every4: true, every6: true}
	if host != "" {
		ips, err := net.LookupIP(host)
		if err != nil {
			t.Fatal(err)
		}
		at = make(map[string]bool)
		for _, ip := range ips {
			at[kernelForm(ip)] = true
		}
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, _ := os.ReadFile(file)
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			if len(fields) < 4 || fields[3] != "0A" { // which is the state of those that listen
				continue
			}
			if ip, its, _ := strings.Cut(fields[1], ":"); at[ip] && its == fmt.Sprintf("%04X", number) {
				count++
			}
		}
	}
	return count
}

// kernelForm is an address as /proc/net has it: words of 32 bits in the order of the machine.
func kernelForm(ip net.IP) (text string) {
	if four := ip.To4(); four != nil {
		ip = four
	}
	for word := range slices.Chunk(ip, 4) {
		text += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(word))
	}
	return text
}

func (in *instance) tryLoad(s setup, o *origin) error {
	in.t.Helper()
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
	return loadCaddyfile(in.t, in.file)
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

// handedOut are the ports that freePort has returned.
var handedOut sync.Map

// freePort returns a port that nothing listens at. It is none of those that the kernel gives to
// connections and to listeners at port 0, nor of those that the tests of fleet/redis use: one of
// them might have it before it is used.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + rand.IntN(10_000)
		l, err := net.Listen("tcp", fmt.Sprintf("localhost:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		if _, taken := handedOut.LoadOrStore(port, true); !taken {
			return port
		}
	}
	t.Fatal("no free port from 10000 to 19999")
	return 0
}

// adminCall calls the admin API and decodes its JSON. As in do, what is safe to ask for is asked
// for again where a server that goes has closed the connection.
func (in *instance) adminCall(method, path, body string, into any) int {
	in.t.Helper()
	resp, err := in.tryAdmin(method, path, body)
	for attempt := 1; err != nil && attempt < 3 && method == http.MethodGet && droppedUnanswered(err); attempt++ {
		in.t.Logf("asking again for %s: %v", path, err)
		resp, err = in.tryAdmin(method, path, body)
	}
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		in.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode
}

func (in *instance) tryAdmin(method, path, body string) (*http.Response, error) {
	r, err := http.NewRequest(method, "http://"+in.admin+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return http.DefaultClient.Do(r)
}

// purge purges and returns how many responses matched.
func (in *instance) purge(body string) int {
	in.t.Helper()
	var answer struct {
		Matched int    `json:"matched"`
		Error   string `json:"error"`
	}
	if status := in.adminCall(http.MethodPost, "/larder/purge", body, &answer); status != http.StatusOK {
		in.t.Fatalf("purge %s: %d %s", body, status, answer.Error)
	}
	return answer.Matched
}

// listing is the answer of GET /larder/entries.
type listing struct {
	Entries []struct {
		ID     string              `json:"id"`
		Header map[string][]string `json:"header"`
		URL    string              `json:"url"`
		Status int                 `json:"status"`
		Size   int64               `json:"size"`
		Age    int64               `json:"age"`
		TTL    int64               `json:"ttl"`
		Tags   []string            `json:"tags"`
		Tier   string              `json:"tier"`
	} `json:"entries"`
	Next string `json:"next"`
}

func (in *instance) entries(query string) listing {
	in.t.Helper()
	var l listing
	if status := in.adminCall(http.MethodGet, "/larder/entries"+query, "", &l); status != http.StatusOK {
		in.t.Fatalf("entries%s: %d", query, status)
	}
	return l
}

// awaitDisk returns when so many entries are on disk.
func (in *instance) awaitDisk(n int) {
	in.t.Helper()
	eventually(in.t, "all is on disk", func() bool { return in.stats().Disk.Entries == int64(n) })
}

// stats is GET /larder/stats.
type stats struct {
	Memory, Disk struct {
		Entries, Bytes, Budget int64
		State                  string
	}
	Requests      map[string]uint64
	InFlight      int `json:"in_flight"`
	PurgesPending int `json:"purges_pending"`
}

func (in *instance) stats() stats {
	in.t.Helper()
	var s stats
	if status := in.adminCall(http.MethodGet, "/larder/stats", "", &s); status != http.StatusOK {
		in.t.Fatalf("stats: %d", status)
	}
	return s
}

// scrape returns what Prometheus would get.
func (in *instance) scrape() string {
	in.t.Helper()
	resp, err := http.Get("http://" + in.admin + "/metrics")
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		in.t.Fatal(err)
	}
	return string(body)
}

// inZone adds the label that every metric of Larder's has to the others, which come before it.
func inZone(labels string) string {
	if labels != "" {
		labels += ","
	}
	return "{" + labels + `zone="default"}`
}

// metric is the value of one series, 0 if there is none. Its zone is not among labels.
func (in *instance) metric(name, labels string) float64 {
	in.t.Helper()
	name += inZone(labels)
	for line := range strings.Lines(in.scrape()) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				in.t.Fatalf("%s: %v", line, err)
			}
			return n
		}
	}
	return 0
}

// series is the value of a series that has to exist. Its zone is not among its labels.
func (in *instance) series(name string) float64 {
	in.t.Helper()
	bare, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	if !strings.Contains(in.scrape(), "\n"+bare+inZone(labels)+" ") {
		in.t.Errorf("no series %s", name)
	}
	return in.metric(bare, labels)
}

// accessLog is a JSON log in a file that a test can read.
type accessLog struct{ file string }

func newAccessLog(t *testing.T) accessLog {
	return accessLog{filepath.Join(t.TempDir(), "access.log")}
}

func (l accessLog) directive() string {
	return "log {\noutput file " + l.file + "\nformat json\n}\n"
}

// entry waits for the access-log line of the first request for uri.
func (l accessLog) entry(t *testing.T, method, uri string) map[string]any {
	t.Helper()
	var found map[string]any
	eventually(t, "a log line of "+uri, func() bool {
		text, err := os.ReadFile(l.file)
		if err != nil {
			return false
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) != nil {
				continue
			}
			if request, ok := fields["request"].(map[string]any); ok && request["uri"] == uri && request["method"] == method {
				found = fields
				return true
			}
		}
		return false
	})
	return found
}

// warnings loads a site and returns what it has larder warn of, each as its server, route, message
// and hint.
func warnings(t *testing.T, s setup, o *origin) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "larder.log")
	s.global += "\nlog larder {\noutput file " + file + "\nformat json\ninclude larder\nlevel WARN\n}"
	start(t, s, o)
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		var entry struct{ Msg, Server, Route, Hint string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, entry.Server+" "+entry.Route+": "+entry.Msg+": "+entry.Hint)
	}
	return all
}
