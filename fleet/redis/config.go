package redis

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Config says which Redis, and what is kept there.
type Config struct {
	// Addresses are URLs: redis://user:password@host:6379/0, or rediss:// for TLS (valkey:// and
	// valkeys:// are the same). User, password, port and the number of the database may be left
	// out. Several are servers of a Cluster, or Sentinels; then each has the same user, password,
	// scheme and database as the first, or none.
	Addresses []string
	// Sentinel is the name of the primary that the Addresses watch as Sentinels. User and password
	// are the primary's. Sentinels are asked without, and those that want a user and a password get
	// the same.
	Sentinel string
	// Name keeps fleets of one Redis apart. Letters, digits, dot, dash and underscore, at most 64.
	// Default "larder".
	Name string
	// Timeout is how long one look-up may take. A server that has said nothing for ten times as
	// long, and for two seconds, has lost its connections. Default 100 ms.
	Timeout time.Duration
	// History is about how many records of the log are kept, and of long ones fewer, see
	// fleet.HistoryBytes. Default 100,000.
	History int
	// TLS is for rediss.
	TLS TLS
}

// TLS are files in PEM. All may be empty: then the system's authorities are trusted, and no
// certificate is shown.
type TLS struct {
	CA   string // who is trusted instead of the system's authorities
	Cert string // what is shown, with Key
	Key  string // of Cert
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func (c Config) name() string {
	if c.Name == "" {
		return "larder"
	}
	return c.Name
}

func (c Config) history() int { return cmp.Or(c.History, 100_000) }

// Validate names what is wrong. It reads the files of TLS, and connects to nothing.
func (c Config) Validate() error {
	_, err := c.option()
	return err
}

// option is the configuration of both clients.
func (c Config) option() (rueidis.ClientOption, error) {
	var none rueidis.ClientOption
	if !nameForm.MatchString(c.name()) {
		return none, fmt.Errorf("name %q: 1 to 64 letters, digits, dots, dashes or underscores", c.Name)
	}
	if c.Timeout < 0 || c.History < 0 {
		return none, errors.New("timeout and history are above 0")
	}
	servers, err := c.servers()
	if err != nil {
		return none, err
	}
	security, err := c.security(servers.tls)
	if err != nil {
		return none, err
	}
	patience := max(2*time.Second, 10*c.Timeout)
	dialer := net.Dialer{Timeout: patience, KeepAlive: time.Second}
	return rueidis.ClientOption{
		InitAddress: servers.addresses, Username: servers.user, Password: servers.password, SelectDB: servers.database,
		ClientName: "larder:" + c.name(), ClientSetInfo: rueidis.DisableClientSetInfo,
		TLSConfig: security, Dialer: dialer,
		Sentinel: rueidis.SentinelOption{
			MasterSet: c.Sentinel, TLSConfig: security, Dialer: dialer,
			// A switch that was missed is never noticed otherwise.
			TopologyRefreshInterval: 5 * time.Second,
		},
		// A command that is late outside of a pipeline takes its connection with it.
		AlwaysPipelining: true,
		// One connection for each link: what is slow to send goes another way, and Redis is one
		// thread.
		PipelineMultiplex: -1,
		// A record is asked for once, and who asks decides what an error means.
		DisableRetry: true, DisableCache: true,
		ConnWriteTimeout: patience,
		// Bodies have chunks of 256 KiB; the default is as much again.
		ReadBufferEachConn: 64 << 10, WriteBufferEachConn: 64 << 10,
		ClusterOption: rueidis.ClusterOption{ShardsRefreshInterval: 5 * time.Second, MaxMovedRedirections: 3},
	}, nil
}

// servers are the parts of the addresses.
type servers struct {
	addresses      []string
	user, password string
	database       int
	tls            bool
}

func (c Config) servers() (servers, error) {
	var all servers
	if len(c.Addresses) == 0 {
		return all, errors.New("no address")
	}
	for i, text := range c.Addresses {
		one, err := serverOf(text)
		if err != nil {
			return all, fmt.Errorf("address %d: %w", i+1, err)
		}
		if i == 0 {
			all = one
			continue
		}
		if one.tls != all.tls {
			return all, fmt.Errorf("address %d: some are for TLS and some are not", i+1)
		}
		if (one.user != "" || one.password != "") && (one.user != all.user || one.password != all.password) ||
			one.database != 0 && one.database != all.database {
			return all, fmt.Errorf("address %d: another user, password or database than the first one's", i+1)
		}
		all.addresses = append(all.addresses, one.addresses...)
	}
	if len(all.addresses) > 1 && c.Sentinel == "" && all.database != 0 {
		return all, errors.New("a Cluster has no database but 0")
	}
	return all, nil
}

// serverOf reads one address. No error has a part of it: it may have a password.
func serverOf(text string) (servers, error) {
	var s servers
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.RawQuery != "" || u.Fragment != "" {
		return s, errors.New("not of the form redis://user:password@host:port/database")
	}
	switch u.Scheme {
	case "redis", "valkey":
	case "rediss", "valkeys":
		s.tls = true
	default:
		return s, errors.New("begins with neither redis:// nor rediss://")
	}
	host, port := u.Hostname(), u.Port()
	if host == "" || strings.ContainsAny(host, "[]") {
		return s, errors.New("no host, or not of the form [::1] with brackets")
	}
	if port == "" {
		port = "6379"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return s, errors.New("no port has this number")
	}
	s.addresses = []string{net.JoinHostPort(host, port)}
	s.user = u.User.Username()
	s.password, _ = u.User.Password()
	if database := strings.TrimPrefix(u.Path, "/"); database != "" {
		n, err := strconv.ParseUint(database, 10, 16)
		if err != nil {
			return s, errors.New("the database is no number")
		}
		s.database = int(n)
	}
	return s, nil
}

// security reads the files of TLS.
func (c Config) security(on bool) (*tls.Config, error) {
	if !on {
		if c.TLS != (TLS{}) {
			return nil, errors.New("tls: the addresses begin with redis://; rediss:// is for TLS")
		}
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLS.CA != "" {
		pem, err := os.ReadFile(c.TLS.CA)
		if err != nil {
			return nil, fmt.Errorf("tls ca: %w", err)
		}
		if out.RootCAs = x509.NewCertPool(); !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls ca: %s has no certificate", c.TLS.CA)
		}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		return nil, errors.New("tls: cert and key go together")
	}
	if c.TLS.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
		if err != nil {
			return nil, fmt.Errorf("tls cert and key: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}
