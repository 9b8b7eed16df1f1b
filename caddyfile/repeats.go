package caddyfile

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/larder-cache/larder/httpcache"
)

// RepeatsConfig says when a client repeats itself, and what becomes of it.
type RepeatsConfig struct {
	// How many times a client may ask for the same thing; at least one, and at most 65534.
	Count int `json:"count"`

	// In what time they count, from the first request on; more than zero.
	Within caddy.Duration `json:"within"`

	// What tells clients apart, with at least one placeholder. A request for which it is empty is
	// not counted. Default: `{http.request.remote.host}`, the address of the connection.
	By string `json:"by,omitempty"`

	// Whether further requests are refused, with 429 and Retry-After. Default: false, client and
	// origin are told by a field Larder-Repeats.
	Refuse bool `json:"refuse,omitempty"`
}

const (
	repeatsUsage  = "repeats <n> <duration> [<by>] [refuse]"
	repeatsRefuse = "refuse"
	// remoteHost is what {remote_host} stands for in a Caddyfile.
	remoteHost = "{http.request.remote.host}"
)

func repeatsInto(field **RepeatsConfig) func([]string) error {
	return func(args []string) (err error) {
		if len(args) < 2 || len(args) > 4 {
			return errUsage
		}
		if err := checkCountFirst(args); err != nil {
			return err
		}
		c := &RepeatsConfig{}
		*field = c
		if c.Count, err = parseCount(args[0]); err != nil {
			return err
		}
		if c.Within, err = parseDuration(args[1]); err != nil {
			return err
		}
		rest := args[2:]
		if n := len(rest); n > 0 && rest[n-1] == repeatsRefuse {
			c.Refuse, rest = true, rest[:n-1]
		}
		switch len(rest) {
		case 0:
			return nil
		case 1:
			if c.By = rest[0]; c.By == repeatsRefuse {
				return errors.New("refuse stands twice; write it once")
			}
			return c.checkBy()
		}
		return fmt.Errorf("%q is not refuse; write it so, or by what clients are told apart in quotation marks", rest[1])
	}
}

func (c *RepeatsConfig) check() error {
	switch {
	case c == nil:
		return nil
	case c.Count < 1:
		return fmt.Errorf("repeats: %d is no number of requests; write one from 1 up", c.Count)
	case c.Count > httpcache.MaxRepeats:
		return fmt.Errorf("repeats: %d requests are more than are counted; write at most %d", c.Count, httpcache.MaxRepeats)
	case c.Within <= 0:
		return errors.New("repeats: the time is not more than zero; write one such as 1m")
	case c.By == "":
		return nil
	}
	if err := c.checkBy(); err != nil {
		return fmt.Errorf("repeats: %w", err)
	}
	return nil
}

// checkBy looks whether there is anything that differs from client to client.
func (c *RepeatsConfig) checkBy() error {
	if _, rest, opened := strings.Cut(c.By, "{"); !opened || !strings.Contains(rest, "}") {
		return fmt.Errorf("%q is the same for all clients; write a placeholder such as {client_ip} or {header.Authorization}, or refuse", c.By)
	}
	return nil
}

// rules are what the cache is given. It knows the address by itself.
func (c *RepeatsConfig) rules() httpcache.RepeatRules {
	if c == nil {
		return httpcache.RepeatRules{}
	}
	r := httpcache.RepeatRules{Count: c.Count, Within: time.Duration(c.Within), By: c.By, Refuse: c.Refuse}
	if r.By == remoteHost {
		r.By = ""
	}
	return r
}
