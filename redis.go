package larder

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/caddyserver/caddy/v2"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/redis"
)

// Redis joins the caches of several machines to one, by Redis 7 or later, or by Valkey: one server,
// one with Sentinels, or a Cluster.
type Redis struct {
	cfg.RedisConfig
}

// CaddyModule returns the Caddy module information.
func (*Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "larder.shared." + cfg.RedisEngine,
		New: func() caddy.Module { return new(Redis) },
	}
}

// Provision replaces placeholders and checks the configuration. It returns an error if a
// placeholder stands for nothing, or if the configuration says something that cannot be meant. It
// connects to nothing.
func (r *Redis) Provision(caddy.Context) error {
	if err := r.expand(); err != nil {
		return err
	}
	if err := r.Check(); err != nil {
		return err
	}
	return r.config().Validate()
}

// expand replaces the placeholders. One that stands for nothing is an error: it would be a server
// without a password, or records without a secret.
func (r *Redis) expand() error {
	repl := caddy.NewReplacer()
	fields := []*string{&r.Sentinel, &r.Secret}
	for i := range r.URLs {
		fields = append(fields, &r.URLs[i])
	}
	if r.TLS != nil {
		fields = append(fields, &r.TLS.CA, &r.TLS.Cert, &r.TLS.Key)
	}
	for _, field := range fields {
		text, err := repl.ReplaceOrErr(*field, true, true)
		if err != nil {
			return fmt.Errorf("shared: %w", err)
		}
		*field = text
	}
	return nil
}

func (r *Redis) config() redis.Config {
	c := r.WithDefaults()
	config := redis.Config{
		Addresses: r.URLs, Sentinel: r.Sentinel, Name: c.Name, Timeout: time.Duration(c.Timeout), History: c.History,
	}
	if r.TLS != nil {
		config.TLS = redis.TLS{CA: r.TLS.CA, Cert: r.TLS.Cert, Key: r.TLS.Key}
	}
	return config
}

// Fleet implements SharedEngine.
func (r *Redis) Fleet() cfg.SharedConfig { return r.WithDefaults() }

// Open implements SharedEngine. It returns an error for a configuration that Provision would
// refuse, and none for a server that does not answer.
func (r *Redis) Open(*slog.Logger) (fleet.Engine, error) { return redis.New(r.config()) }

// Interface guards.
var (
	_ SharedEngine      = (*Redis)(nil)
	_ caddy.Provisioner = (*Redis)(nil)
)
