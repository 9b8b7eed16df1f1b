package caddyfile

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// SharedConfig is what a configuration says of a fleet, whatever engine it has. An engine's module
// embeds it beside its own fields.
type SharedConfig struct {
	// The name of the fleet: nodes with the same name share, others on the same server keep apart.
	// Letters, digits, dots, hyphens and underscores, at most 64. Default: `larder`.
	Name string `json:"name,omitempty"`

	// How long a node answers from what it has stored without contact to the server. A purge waits
	// at most so long for a node that does not answer. From 1s to 24h. Default: 10s.
	Fence caddy.Duration `json:"fence,omitempty"`

	// What a node does that has been without contact for longer than `fence`. Default: it asks the
	// origin before it answers from what it has stored.
	Lost *LostConfig `json:"lost,omitempty"`

	// For how many replicas of the server a purge waits, at most 1000. Default: 0.
	Replicas int `json:"replicas,omitempty"`

	// How long a look-up on the server may take; then it is a miss. At most 1h. Default: 100ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// The largest body that is shared, in bytes. Default: 4 MiB.
	MaxBody Size `json:"max_body,omitempty"`

	// The longest time that a response stays on the server. At most 8760h. Default: 24h.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// How many purges the server keeps for nodes that come late. A node that has missed more of
	// them validates all that it has. Default: 100000.
	History int `json:"history,omitempty"`

	// Whether responses are shared. Otherwise only purges and fetches under way are. Default: true.
	Store *bool `json:"store,omitempty"`

	// A text that all nodes have and nobody else. What is read from the server is authenticated by
	// it. Placeholders such as {file./run/secrets/larder} are allowed. Default: none.
	Secret string `json:"secret,omitempty"`
}

// LostConfig says what a node does that may have missed a purge.
type LostConfig struct {
	// Whether a node without contact asks the origin before it answers from what it has stored. It
	// excludes `serve`. Default: true, unless `serve` is given.
	Validate bool `json:"validate,omitempty"`

	// For how long such a node goes on to answer as before. The answer to a purge names it as
	// uncertain then. At most 24h. Default: 0, not at all.
	Serve caddy.Duration `json:"serve,omitempty"`
}

// RedisEngine is the name of the engine for Redis and Valkey: its module is larder.shared.redis.
const RedisEngine = "redis"

// RedisConfig is what a configuration says of a fleet on Redis or Valkey.
type RedisConfig struct {
	SharedConfig

	// The addresses: redis://user:password@host:6379/0, rediss:// for TLS. Several are those of a
	// Cluster, or of the Sentinels. They have the same user, password and number. Placeholders such
	// as {env.REDIS_PASSWORD} are allowed; what they stand for is percent-encoded as in any URL.
	URLs []string `json:"urls,omitempty"`

	// The name of the master that the Sentinels at the addresses know. Default: no Sentinels. User
	// and password are the master's; Sentinels that want some get the same.
	Sentinel string `json:"sentinel,omitempty"`

	// Certificates, for rediss://. Default: the system's authorities, and no certificate of its
	// own.
	TLS *TLSConfig `json:"tls,omitempty"`
}

// TLSConfig names files in PEM. Placeholders are allowed.
type TLSConfig struct {
	// The file of the authorities that may have signed the server's certificate. Default: the
	// system's.
	CA string `json:"ca,omitempty"`

	// The file of the certificate of this node. Default: none.
	Cert string `json:"cert,omitempty"`

	// The file of the key of that certificate. It is given with it, or neither is. Default: none.
	Key string `json:"key,omitempty"`
}

// Defaults of SharedConfig. DefaultSharedMaxBody is in bytes, DefaultHistory in purges.
const (
	DefaultSharedName    = "larder"
	DefaultFence         = 10 * time.Second
	DefaultSharedTimeout = 100 * time.Millisecond
	DefaultSharedMaxBody = 4 << 20
	DefaultSharedTTL     = 24 * time.Hour
	DefaultHistory       = 100_000
)

// WithDefaults returns a copy in which everything that was left out has its default. Lost and Store
// are never nil.
func (c SharedConfig) WithDefaults() SharedConfig {
	c.Name = orDefault(c.Name, DefaultSharedName)
	c.Fence = orDefault(c.Fence, caddy.Duration(DefaultFence))
	c.Lost = copyOrNew(c.Lost)
	c.Lost.Validate = c.Lost.Serve == 0
	c.Timeout = orDefault(c.Timeout, caddy.Duration(DefaultSharedTimeout))
	c.MaxBody = orDefault(c.MaxBody, DefaultSharedMaxBody)
	c.TTL = orDefault(c.TTL, caddy.Duration(DefaultSharedTTL))
	c.History = orDefault(c.History, DefaultHistory)
	if c.Store == nil {
		c.Store = new(bool)
		*c.Store = true
	}
	return c
}

// minFence is the shortest time without contact. With a shorter one a node would be lost at every
// pause of its own or of the server.
const minFence = time.Second

// The longest times. A fleet multiplies what it is given, and none of it may overflow: a purge
// waits for 1.05 times fence and serve, and an upload takes up to 10 times the timeout.
const (
	maxFence         = 24 * time.Hour
	maxServe         = 24 * time.Hour
	maxSharedTimeout = time.Hour
	maxSharedTTL     = 365 * 24 * time.Hour
)

// maxReplicas is more than any server has.
const maxReplicas = 1000

// Check returns an error that names the field if the configuration says something that cannot be
// meant.
func (c *SharedConfig) Check() error {
	return firstError(
		c.checkName(),
		c.checkFence(),
		c.Lost.check(),
		checkCount("replicas", c.Replicas, maxReplicas),
		checkUpTo("timeout", c.Timeout, maxSharedTimeout),
		checkBudget("max_body", c.MaxBody, 1),
		checkUpTo("ttl", c.TTL, maxSharedTTL),
		checkCount("history", c.History, 1<<31-1),
	)
}

var sharedName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// checkName keeps out braces above all: in a Cluster they say which part of a key decides where it
// is, and the name is in every key.
func (c *SharedConfig) checkName() error {
	if c.Name != "" && !sharedName.MatchString(c.Name) {
		return fmt.Errorf("name: %q is no name of a fleet; write up to 64 letters, digits, dots, hyphens and underscores", c.Name)
	}
	return nil
}

func (c *SharedConfig) checkFence() error {
	if c.Fence != 0 && time.Duration(c.Fence) < minFence {
		return fmt.Errorf("fence: %s is too short; write at least %s", time.Duration(c.Fence), minFence)
	}
	return checkUpTo("fence", c.Fence, maxFence)
}

func (l *LostConfig) check() error {
	switch {
	case l == nil:
		return nil
	case l.Validate && l.Serve != 0:
		return errors.New("lost: both validate and serve; keep one of the two")
	}
	return checkUpTo("lost serve", l.Serve, maxServe)
}

func checkUpTo(field string, d caddy.Duration, most time.Duration) error {
	if time.Duration(d) > most {
		return fmt.Errorf("%s: %s is too long; write at most %s", field, time.Duration(d), most)
	}
	return checkWindow(field, d)
}

func checkCount(field string, n, most int) error {
	if n < 0 || n > most {
		return fmt.Errorf("%s: %d is not a number from 0 to %d", field, n, most)
	}
	return nil
}

// Check returns an error that names the field if the configuration says something that cannot be
// meant.
func (c *RedisConfig) Check() error { return firstError(c.checkLines(), c.checkWhole()) }

// checkLines finds what no further line can put right.
func (c *RedisConfig) checkLines() error {
	return firstError(c.checkURLs(), c.SharedConfig.Check(), c.TLS.checkLines())
}

// checkWhole finds what is wrong only if nothing more follows.
func (c *RedisConfig) checkWhole() error {
	if len(c.URLs) == 0 {
		return errors.New("shared: no address; write one such as redis://localhost:6379")
	}
	if c.laterKnown() {
		return c.TLS.checkWhole()
	}
	first, err := parseRedisURL(c.URLs[0])
	if err != nil {
		return err
	}
	switch {
	case c.TLS != nil && first.Scheme != "rediss" && first.Scheme != "valkeys":
		return fmt.Errorf("tls: %s is an address without TLS; write rediss://", first.Redacted())
	case c.Sentinel == "" && len(c.URLs) > 1 && redisDatabase(first) != "0":
		return fmt.Errorf("shared: %s names a database, and a Cluster has none; leave %s out", first.Redacted(), first.Path)
	}
	return c.TLS.checkWhole()
}

// laterKnown reports whether an address is known only when its placeholder is replaced, and checked
// then: {env.REDIS_URL}.
func (c *RedisConfig) laterKnown() bool {
	return slices.ContainsFunc(c.URLs, func(raw string) bool { return strings.HasPrefix(raw, "{") })
}

// checkURLs looks at each address, and that they are alike but for the host.
func (c *RedisConfig) checkURLs() error {
	if c.laterKnown() {
		return nil
	}
	var first *url.URL
	seen := make(map[string]bool)
	for _, raw := range c.URLs {
		u, err := parseRedisURL(raw)
		switch {
		case err != nil:
			return err
		case seen[u.Host]:
			return fmt.Errorf("shared: %s stands twice; write it once", u.Host)
		case first == nil:
			first = u
		case u.Scheme != first.Scheme, u.User.String() != first.User.String(), redisDatabase(u) != redisDatabase(first):
			return fmt.Errorf("shared: %s and %s differ in more than the host; write addresses of one Cluster, or of Sentinels", first.Redacted(), u.Redacted())
		}
		seen[u.Host] = !strings.Contains(raw, "{") // placeholders may stand for two hosts
	}
	return nil
}

// sharedPlaceholder matches what Caddy's replacer may take for a placeholder.
var sharedPlaceholder = regexp.MustCompile(`\{[^{}]*\}`)

// redisSchemes are those of addresses. Redis and Valkey speak the same protocol.
var redisSchemes = []string{"redis", "rediss", "valkey", "valkeys"}

// parseRedisURL parses an address. What placeholders stand for is not known yet, so a 1 stands in
// for each: it may be a host, a port and a number. No error shows a password.
func parseRedisURL(raw string) (*url.URL, error) {
	u, err := url.Parse(sharedPlaceholder.ReplaceAllString(raw, "1"))
	if err != nil { // its text may have the password
		return nil, errors.New("shared: an address is no URL; write one such as redis://user:password@localhost:6379/0, with what is special percent-encoded")
	}
	database, err := strconv.Atoi(redisDatabase(u))
	port, portErr := strconv.Atoi(u.Port())
	switch {
	case !slices.Contains(redisSchemes, u.Scheme):
		return nil, errNoChoice(u.Scheme, fmt.Sprintf("shared: %q is no scheme of an address", u.Scheme), "redis:// or rediss://", redisSchemes...)
	case u.Hostname() == "":
		return nil, fmt.Errorf("shared: %s has no host; write an address such as redis://localhost:6379", u.Redacted())
	case u.Port() != "" && (portErr != nil || port < 1 || port > 65535):
		return nil, fmt.Errorf("shared: %s has no port from 1 to 65535", u.Redacted())
	case err != nil || database < 0:
		return nil, fmt.Errorf("shared: %s names no database by a number; write an address such as redis://localhost:6379/0", u.Redacted())
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("shared: %s has a query or a fragment; leave it out", u.Redacted())
	}
	return u, nil
}

// redisDatabase is the number that an address ends with.
func redisDatabase(u *url.URL) string {
	if path := strings.TrimPrefix(u.Path, "/"); path != "" {
		return path
	}
	return "0"
}

// checkLines looks at the files that are named.
func (t *TLSConfig) checkLines() error {
	if t == nil {
		return nil
	}
	return firstError(checkFile("tls ca", t.CA), checkFile("tls cert", t.Cert), checkFile("tls key", t.Key))
}

func (t *TLSConfig) checkWhole() error {
	if t != nil && (t.Cert == "") != (t.Key == "") {
		return errors.New("tls: of cert and key one is missing; write both, or none")
	}
	return nil
}

// checkFile accepts a path with a placeholder: what that stands for is not known yet.
func checkFile(field, path string) error {
	if path == "" || sharedPlaceholder.MatchString(path) {
		return nil
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", field, err)
	case info.IsDir():
		return fmt.Errorf("%s: %s is a folder; write the path of a file", field, path)
	}
	return nil
}
