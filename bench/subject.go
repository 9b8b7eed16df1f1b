package main

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"
)

// kind is what a subject is.
type kind string

// The kinds. The last two are other programs and take part where they are installed.
const (
	ceilingKind kind = "ceiling"
	larderKind  kind = "larder"
	proxyKind   kind = "reverse_proxy"
	nginxKind   kind = "nginx"
	varnishKind kind = "varnish"
)

// subjectOf describes a server to be measured.
type subjectOf struct {
	name   string
	kind   kind
	memory string // budget of larder's memory tier
	disk   bool
	budget string // of the disk tier; 8GiB where empty
	block  string // of the larder directive, in braces; none where empty
	global string // lines of the global option
	shared string // in the global option; none where empty
	host   string // it listens at; 127.0.0.1 where empty
	port   string // a free one where empty
	// origin is the address behind it; the bench's own where empty.
	origin string
	// patience is how long the proxy waits for the header of an answer; for ever where 0.
	patience time.Duration
	// free: not pinned to the server's core.
	free bool
}

// subject is a server under measurement.
type subject struct {
	subjectOf
	h1, h2  string // base URLs
	admin   string
	folder  string // its files
	address string
	secure  string
	process *process
}

// serve starts a subject and waits until it answers, a node of a fleet until it does so from what
// it has.
func (b *bench) serve(ctx context.Context, of subjectOf) (*subject, error) {
	s, err := b.place(of)
	if err != nil {
		return nil, err
	}
	return s, b.run(ctx, s)
}

// place gives a subject its folder and its addresses.
func (b *bench) place(of subjectOf) (*subject, error) {
	b.served++
	s := &subject{subjectOf: of, folder: filepath.Join(b.dir, fmt.Sprintf("%s-%d", of.name, b.served))}
	if err := os.MkdirAll(s.folder, 0o700); err != nil {
		return nil, err
	}
	var admin string
	for _, address := range []*string{&s.address, &s.secure, &admin} {
		var err error
		if *address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	if of.port != "" {
		s.address = net.JoinHostPort(of.host, of.port)
	}
	s.h1, s.admin = "http://"+s.address, "http://"+admin
	s.h2 = "https://localhost:" + portOf(s.secure)
	return s, nil
}

func (s *subject) diskFolder() string { return filepath.Join(s.folder, "disk") }

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// run starts the program of s, anew after a stop, and waits as serve does.
func (b *bench) run(ctx context.Context, s *subject) error {
	if err := b.launch(s); err != nil {
		return err
	}
	return b.awaitUp(ctx, s)
}

// launch starts the program of s.
func (b *bench) launch(s *subject) error {
	argv, env, err := b.command(s)
	if err != nil {
		return err
	}
	core := serverCore
	if s.free {
		core = ""
	}
	s.process, err = b.start(filepath.Base(s.folder), core, env, argv...)
	return err
}

// awaitUp waits until s answers as it will.
func (b *bench) awaitUp(ctx context.Context, s *subject) error {
	if err := b.await(ctx, s.process, s.h1+"/1024/up?nostore"); err != nil || s.shared == "" {
		return err
	}
	return b.awaitPass(ctx, s)
}

// command writes the configuration of s and returns what runs it.
func (b *bench) command(s *subject) (argv, env []string, err error) {
	if !s.free {
		env = []string{"GOMAXPROCS=1"}
	}
	env = append(env, "XDG_DATA_HOME="+s.folder, "XDG_CONFIG_HOME="+s.folder)
	file := filepath.Join(s.folder, "config")
	switch s.kind {
	case nginxKind:
		argv = []string{"nginx", "-p", s.folder, "-c", file, "-e", filepath.Join(s.folder, "error.log")}
		return argv, env, os.WriteFile(file, []byte(b.nginxConfig(s)), 0o600)
	case varnishKind:
		return []string{
			"varnishd", "-j", "none", "-F", "-a", s.address, "-b", b.originAddress, "-s", "malloc,1g", "-n", s.folder,
			"-p", "thread_pools=1", "-p", "default_grace=0",
		}, env, nil
	case ceilingKind, larderKind, proxyKind:
	}
	argv = []string{b.server, "run", "--config", file, "--adapter", "caddyfile"}
	return argv, env, os.WriteFile(file, []byte(b.caddyfile(s)), 0o600)
}

// caddyfile is the configuration of the three subjects that are Caddy. They differ in the middle
// alone.
func (b *bench) caddyfile(s *subject) string {
	var options, handlers string
	patience := ""
	if s.patience > 0 {
		patience = fmt.Sprintf("\t\t\tresponse_header_timeout %s\n", s.patience)
	}
	proxy := fmt.Sprintf("\treverse_proxy %s {\n\t\ttransport http {\n\t\t\tkeepalive_idle_conns_per_host 1024\n%s\t\t}\n\t}\n",
		cmp.Or(s.origin, b.originAddress), patience)
	switch s.kind {
	case larderKind:
		disk := "off"
		if s.disk {
			disk = s.diskFolder() + " " + cmp.Or(s.budget, "8GiB")
		}
		options = fmt.Sprintf("\tlarder {\n\t\tmemory %s\n\t\tdisk %s\n%s%s\t}\n", s.memory, disk, s.global, s.shared)
		handlers = "\tlarder " + s.block + "\n" + proxy
	case ceilingKind:
		handlers = "\troute {\n" + b.ceilingDirective + proxy + "\t}\n"
	case proxyKind, nginxKind, varnishKind:
		handlers = proxy
	}
	site := s.address
	if s.shared != "" {
		site = ":" + portOf(s.address) // any Host
	}
	host := cmp.Or(s.host, "127.0.0.1")
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
%s}
http://%s {
	bind %s
%s}
https://localhost:%s {
	bind %s
	tls %s %s
%s}
`, strings.TrimPrefix(s.admin, "http://"), options, site, host, handlers, portOf(s.secure), host, b.cert, b.key, handlers)
}

// ceilingHeader writes the directive of the ceiling: the fields that a hit has.
func ceilingHeader(hit http.Header) string {
	var d strings.Builder
	d.WriteString("\tbench_ceiling 1024 16384 102400 {\n")
	for name, values := range hit {
		// The one differs, the other is Caddy's own.
		if name == "Content-Length" || name == "Server" {
			continue
		}
		for _, v := range values {
			fmt.Fprintf(&d, "\t\t%s `%s`\n", name, v)
		}
	}
	d.WriteString("\t}\n")
	return d.String()
}

// nginxConfig caches in files, as nginx does. sendfile and Nagle's algorithm do not go together
// well on loopback.
func (b *bench) nginxConfig(s *subject) string {
	account := ""
	if current, err := user.Current(); err == nil && os.Geteuid() == 0 {
		account = "user " + current.Username + ";\n" // its own could not enter the folder
	}
	return account + fmt.Sprintf(`daemon off;
worker_processes 1;
pid %[1]s/pid;
events { worker_connections 4096; }
http {
	access_log off;
	keepalive_requests 1000000000;
	tcp_nopush on;
	tcp_nodelay on;
	sendfile on;
	proxy_cache_path %[1]s/cache levels=1:2 keys_zone=z:256m max_size=8g inactive=1d;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/temp;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	upstream origin { server %[2]s; keepalive 1024; }
	server {
		listen %[3]s;
		location / {
			proxy_pass http://origin;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_cache z;
			proxy_cache_lock on;
		}
		location ~ ^/film/[0-9]+/large {
			proxy_pass http://origin;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_cache z;
			proxy_cache_lock on;
		}
		location /film/ {
			slice 4m;
			proxy_pass http://origin;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Range $slice_range;
			proxy_cache z;
			proxy_cache_lock on;
			proxy_cache_key $uri$slice_range;
			proxy_cache_valid 200 206 1h;
		}
	}
}
`, s.folder, b.originAddress, s.address)
}

// installed reports whether another program can take part.
func installed(k kind) bool {
	program := map[kind]string{nginxKind: "nginx", varnishKind: "varnishd"}[k]
	if program == "" {
		return true
	}
	_, err := exec.LookPath(program)
	return err == nil
}

// certify makes a certificate for localhost, for HTTP/2.
func (b *bench) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b.cert, b.key = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem")
	for file, block := range map[string]*pem.Block{b.cert: {Type: "CERTIFICATE", Bytes: cert}, b.key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// cacheStats is the part of GET /larder/stats that the bench reads.
type cacheStats struct {
	Memory, Disk struct{ Entries, Bytes, Budget int64 }
	Requests     map[string]int64
	Queue        int64 `json:"queue_bytes"`
	Skipped      int64 `json:"disk_writes_skipped"`
	Pending      int   `json:"purges_pending"`
	InFlight     int   `json:"in_flight"`
	Shared       *sharedStats
}

// sharedStats is what they have of a fleet.
type sharedStats struct {
	State       string
	Nodes       int
	Masks       int
	MaskBytes   int64 `json:"mask_bytes"`
	UploadBytes int64 `json:"upload_bytes"`
	Skipped     int64
	Breaker     string
}

func (b *bench) stats(ctx context.Context, s *subject) (cacheStats, error) {
	a, err := b.request(ctx, http.MethodGet, s.admin+"/larder/stats")
	if err != nil {
		return cacheStats{}, err
	}
	var st cacheStats
	if err := json.Unmarshal(a.body, &st); err != nil {
		return cacheStats{}, fmt.Errorf("larder stats: %w", err)
	}
	return st, nil
}

// poll asks for the stats until ok accepts them.
func (b *bench) poll(ctx context.Context, s *subject, ok func(cacheStats) bool) (cacheStats, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		st, err := b.stats(ctx, s)
		if err != nil || ok(st) {
			return st, err
		}
		select {
		case <-ctx.Done():
			return st, fmt.Errorf("%s: still %+v: %w", s.name, st, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// settledFetches is fetches once those have come that were under way when the generator stopped.
func (b *bench) settledFetches(ctx context.Context) (int64, error) {
	return b.settled(ctx, "/fetches", 50*time.Millisecond)
}

// settled is a number of the origin's once it has not grown for a while.
func (b *bench) settled(ctx context.Context, path string, quiet time.Duration) (int64, error) {
	for last := int64(-1); ; {
		n, err := b.askOrigin(ctx, path)
		if err != nil || n == last {
			return n, err
		}
		last = n
		select {
		case <-ctx.Done():
			return n, ctx.Err()
		case <-time.After(quiet):
		}
	}
}

// fetches is how many requests have reached the origin.
func (b *bench) fetches(ctx context.Context) (int64, error) { return b.askOrigin(ctx, "/fetches") }

// askOrigin asks the origin for a number.
func (b *bench) askOrigin(ctx context.Context, path string) (int64, error) {
	a, err := b.request(ctx, http.MethodGet, "http://"+b.originAddress+path)
	if err != nil {
		return 0, err
	}
	var n int64
	_, err = fmt.Sscan(string(a.body), &n)
	return n, err
}
