//go:build unix

package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
)

// TestPermissions runs the suite as a user who may do what doc.go says, and nothing else.
func TestPermissions(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	cluster := newCluster(t)
	rules := documentedRules(t)
	// The suite's parts have names of their own.
	for i, word := range rules {
		rules[i] = strings.ReplaceAll(word, ":larder", ":*")
	}
	s.do(append([]string{"ACL", "SETUSER"}, rules...)...)
	url := strings.Replace(s.url(), "://", "://larder:password@", 1)
	fleettest.TestEngine(t, func(t *testing.T) []fleet.Engine {
		return []fleet.Engine{open(t, Config{Addresses: []string{url}, Name: newName()})}
	})
	t.Run("no more of them than needed", func(t *testing.T) {
		for _, command := range []string{"KEYS *", "FLUSHDB", "SCAN 0", "CONFIG GET x"} {
			answer := s.do(append([]string{"ACL", "DRYRUN", "larder"}, strings.Fields(command)...)...)
			if text, err := answer.ToString(); err != nil || !strings.Contains(text, "no permissions") {
				t.Errorf("%s: %q, %v", command, text, err)
			}
		}
	})
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		var config Config
		for _, s := range cluster {
			s.do(append([]string{"ACL", "SETUSER"}, append(rules, "+cluster|slots", "+cluster|shards")...)...)
			config.Addresses = append(config.Addresses, strings.Replace(s.url(), "://", "://larder:password@", 1))
		}
		worksAgain(t, open(t, config))
	})
	t.Run("too few", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		s.do(append([]string{"ACL", "SETUSER"}, append(documentedRules(t), "-info")...)...)
		e := open(t, Config{Addresses: []string{strings.Replace(s.url(), "://", "://larder:password@", 1)}})
		if _, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0); !errors.Is(err, fleet.ErrRefused) {
			t.Errorf("a script that may not INFO: %v", err)
		}
		s.do("ACL", "SETUSER", "larder", "+info")
		worksAgain(t, e)
	})
}

// documentedRules are the words of ACL SETUSER in doc.go.
func documentedRules(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	must(t, err)
	_, rest, found := strings.Cut(string(text), "ACL SETUSER ")
	rules, _, ends := strings.Cut(rest, "//\n")
	if !found || !ends {
		t.Fatal("doc.go has no ACL SETUSER")
	}
	return strings.Fields(strings.ReplaceAll(rules, "//\t", " "))
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.do("CONFIG", "SET", "requirepass", "right")
	for name, user := range map[string]string{"none": "", "wrong": ":wrong@"} {
		t.Run(name, func(t *testing.T) {
			e := open(t, Config{Addresses: []string{"redis://" + user + s.address()}, Name: newName()})
			for range 3 {
				_, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0)
				if !errors.Is(err, fleet.ErrRefused) || strings.Contains(err.Error(), "wrong@") {
					t.Errorf("%v", err)
				}
			}
			if _, _, err := e.Read(within(t), fleet.Place{}, 0, 1, time.Second); !errors.Is(err, fleet.ErrRefused) {
				t.Errorf("Read: %v", err)
			}
			err := e.Listen(within(t), "n", func() {}, func(string, []byte) {})
			if !errors.Is(err, fleet.ErrRefused) {
				t.Errorf("Listen: %v", err)
			}
		})
	}
	e := open(t, Config{Addresses: []string{"redis://:wrong@" + s.address()}})
	if _, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0); !errors.Is(err, fleet.ErrRefused) {
		t.Error(err)
	}
	s.do("CONFIG", "SET", "requirepass", "wrong")
	worksAgain(t, e)
}

// authority signs the certificates of a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("ca", &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	return a
}

// sign writes name.crt and name.key.
func (a *authority) sign(name string, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	must(a.t, err)
	cert, err := x509.ParseCertificate(der)
	must(a.t, err)
	secret, err := x509.MarshalECPrivateKey(key)
	must(a.t, err)
	a.write(name+".crt", "CERTIFICATE", der)
	a.write(name+".key", "EC PRIVATE KEY", secret)
	return cert, key
}

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	must(a.t, os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	ca.sign("server", &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.cert, ca.key)
	ca.sign("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca.cert, ca.key)
	s := newTLSServer(t, ca)
	files := TLS{CA: ca.file("ca.crt"), Cert: ca.file("client.crt"), Key: ca.file("client.key")}
	url := strings.Replace(s.url(), "redis:", "rediss:", 1)
	worksAgain(t, open(t, Config{Addresses: []string{url}, TLS: files}))
	heard := make(chan string, 1)
	e := open(t, Config{Addresses: []string{url}, TLS: files})
	go func() {
		_ = e.Listen(t.Context(), "n", func() {
			_, _ = e.Take(t.Context(), "key", "t1", "m", nil, time.Minute)
			_, _ = e.Take(t.Context(), "key", "t2", "n", nil, time.Minute)
			_, _ = e.Release(t.Context(), "key", "t1", []byte("done"), 0)
		}, func(key string, message []byte) { heard <- key + string(message) })
	}()
	if got := <-heard; got != "keydone" {
		t.Errorf("heard %q", got)
	}
	for name, wrong := range map[string]TLS{
		"another authority": {CA: other.file("ca.crt"), Cert: files.Cert, Key: files.Key},
		"the system's":      {Cert: files.Cert, Key: files.Key},
		"no certificate":    {CA: files.CA},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, Config{Addresses: []string{url}, TLS: wrong})
			_, err := e.Append(within(t), fleet.Place{}, []byte("x"), 0)
			// Who shows no certificate may learn of it by a reset alone.
			if err == nil || wrong.Cert != "" && !strings.Contains(err.Error(), "certificate") {
				t.Errorf("%v", err)
			}
		})
	}
	e = open(t, Config{Addresses: []string{s.url()}})
	if err := briefly(t, time.Second, appendWith(e)); err == nil {
		t.Error("appended without TLS")
	}
}

// newTLSServer starts a server that takes TLS alone, and clients with a certificate alone.
func newTLSServer(t *testing.T, ca *authority) *server {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	pair, err := tls.LoadX509KeyPair(ca.file("client.crt"), ca.file("client.key"))
	must(t, err)
	s := &server{t: t, dir: t.TempDir(), binary: serverProgram(t), port: freePort(t)}
	s.args = []string{
		"--save", "", "--logfile", "log", "--port", "0", "--tls-port", fmt.Sprint(s.port),
		"--tls-cert-file", ca.file("server.crt"), "--tls-key-file", ca.file("server.key"), "--tls-ca-cert-file", ca.file("ca.crt"),
	}
	s.connect()
	s.tell.TLSConfig = &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	t.Cleanup(s.end)
	s.start()
	return s
}

func TestConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk")
	must(t, os.WriteFile(junk, []byte("junk"), 0o600))
	one := []string{"redis://host"}
	for name, tt := range map[string]struct {
		config Config
		want   string // of the error
	}{
		"no address":           {Config{}, "no address"},
		"no URL":               {Config{Addresses: []string{"redis://u:secret@host:x"}}, "address 1: not of the form"},
		"a host alone":         {Config{Addresses: []string{"host:6379"}}, "address 1"},
		"another scheme":       {Config{Addresses: []string{"http://host"}}, "neither redis://"},
		"no host":              {Config{Addresses: []string{"redis://:6379"}}, "no host"},
		"a bracket":            {Config{Addresses: []string{"redis://]0"}}, "no host"},
		"port 0":               {Config{Addresses: []string{"redis://host:0"}}, "no port"},
		"port 70000":           {Config{Addresses: []string{"redis://host:70000"}}, "no port"},
		"a database by name":   {Config{Addresses: []string{"redis://host/main"}}, "the database is no number"},
		"a query":              {Config{Addresses: []string{"redis://host/?skip_verify=1"}}, "not of the form"},
		"two schemes":          {Config{Addresses: []string{"redis://a", "rediss://b"}}, "address 2: some are for TLS"},
		"two passwords":        {Config{Addresses: []string{"redis://:a@a", "redis://:secret@b"}}, "address 2: another user"},
		"a Cluster's database": {Config{Addresses: []string{"redis://a/1", "redis://b/1"}}, "a Cluster has no database"},
		"braces":               {Config{Addresses: one, Name: "a{b}"}, `name "a{b}"`},
		"a colon":              {Config{Addresses: one, Name: "a:b"}, `name "a:b"`},
		"a negative timeout":   {Config{Addresses: one, Timeout: -1}, "timeout"},
		"a negative history":   {Config{Addresses: one, History: -1}, "history"},
		"TLS without":          {Config{Addresses: one, TLS: TLS{CA: junk}}, "rediss:// is for TLS"},
		"no such file":         {Config{Addresses: []string{"rediss://a"}, TLS: TLS{CA: dir + "/none"}}, "tls ca: open " + dir + "/none"},
		"no certificate in it": {Config{Addresses: []string{"rediss://a"}, TLS: TLS{CA: junk}}, "has no certificate"},
		"half a pair":          {Config{Addresses: []string{"rediss://a"}, TLS: TLS{Cert: junk}}, "cert and key go together"},
		"no pair":              {Config{Addresses: []string{"rediss://a"}, TLS: TLS{Cert: junk, Key: junk}}, "tls cert and key"},
		"one":                  {Config{Addresses: []string{"redis://user:p%40ss@[::1]:7000/3"}}, ""},
		"a Cluster":            {Config{Addresses: []string{"rediss://:p@a", "rediss://b:7000"}}, ""},
		"Sentinels":            {Config{Addresses: []string{"valkey://a/2", "valkey://b/2"}, Sentinel: "main"}, ""},
	} {
		err := tt.config.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the password: %v", name, err)
		}
	}
	option, err := Config{Addresses: []string{"redis://user:p%40ss@[::1]:7000/3", "redis://[::1]"}, Sentinel: "m"}.option()
	must(t, err)
	got := fmt.Sprint(option.InitAddress, option.Username, option.Password, option.SelectDB)
	if want := "[[::1]:7000 [::1]:6379]userp@ss3"; strings.ReplaceAll(got, " 3", "3") != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"redis://u:secret@h:1/0", "rediss://[::1]:6379", "redis://:secret@h/%zz", "redis:/h", "://", "redis://]0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := serverOf(text)
		if err == nil {
			if host, port, err := net.SplitHostPort(s.addresses[0]); err != nil || host == "" || port == "" {
				t.Errorf("%q: %q", text, s.addresses)
			}
		}
	})
}

func FuzzMessage(f *testing.F) {
	for _, seed := range []string{"3:keymessage", "0:", "-1:x", "9:x", ":", "99999999999999999999:"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, message, ok := cutMessage(text)
		if ok && !strings.HasSuffix(text, ":"+key+string(message)) {
			t.Errorf("%q: %q, %q", text, key, message)
		}
	})
}

func FuzzNode(f *testing.F) {
	for _, seed := range []string{`7 1790000000000000 {"epoch":"e","applied":3}`, "7 8", "", "x y z", `7 8 {"applied":-1}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if n := nodeOf("id", value); n.ID != "id" {
			t.Errorf("%q: %+v", value, n)
		}
	})
}

// A call with a context that has ended connects to nothing.
func TestEndedBeforeItBegan(t *testing.T) {
	t.Parallel()
	e := open(t, Config{Addresses: []string{"redis://127.0.0.1:1"}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Append(ctx, fleet.Place{}, nil, 0); !errors.Is(err, context.Canceled) || e.small.dialing != nil {
		t.Error(err)
	}
}
