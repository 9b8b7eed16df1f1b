package caddyfile

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/larder-cache/larder/origin"
)

// OriginConfig says what the origin behind a handler can take. Handlers that give the same name
// share one origin; one of them at least says what it can take.
type OriginConfig struct {
	// The name by which handlers share it. Metrics and errors have it. Up to 64 visible characters,
	// no braces, quotes or backslashes. Default: none, the origin is that of this handler alone.
	Name string `json:"name,omitempty"`

	// How many requests may be under way: misses, refreshes and what is passed on. Default: any
	// number.
	MaxConcurrent int `json:"max_concurrent,omitempty"`

	// How many requests may begin in a time. Default: any number.
	Rate *RateConfig `json:"rate,omitempty"`

	// How many requests wait for a place, and how long. Default: 1000, each for up to 10s.
	Queue *QueueConfig `json:"queue,omitempty"`

	// For how long an origin that fails is left alone. Default: 1s, doubling up to 1m.
	Backoff *BackoffConfig `json:"backoff,omitempty"`
}

// RateConfig is a number of requests in a time.
type RateConfig struct {
	// How many requests may begin; at least one.
	Count int `json:"count"`

	// In what time they may begin. Default: 1s.
	Per caddy.Duration `json:"per,omitempty"`

	// How many may begin together after a rest. Default: as many as in a second, at least one.
	Burst int `json:"burst,omitempty"`
}

// QueueConfig says how requests wait for a place.
type QueueConfig struct {
	// How many may wait; 0 is no queue. Default: 1000.
	Length *int `json:"length,omitempty"`

	// How long each may wait. Default: 10s.
	Wait caddy.Duration `json:"wait,omitempty"`
}

// BackoffConfig says for how long an origin that fails is left alone by refreshes, and by requests
// that have a stale response. A Retry-After of up to an hour holds where it is longer.
type BackoffConfig struct {
	// For how long after the first failure. Default: 1s.
	Min caddy.Duration `json:"min,omitempty"`

	// The longest, after failures that each double the time. Default: 1m, or `min` where that is
	// longer.
	Max caddy.Duration `json:"max,omitempty"`
}

// Limits returns what the origin can take. ok is false if the configuration does not say, because
// it has a name alone and another handler says.
func (c *OriginConfig) Limits() (limits origin.Limits, ok bool) {
	limits = origin.Limits{
		MaxConcurrent: c.MaxConcurrent, Queue: origin.DefaultQueue, Wait: origin.DefaultWait, Pauses: true,
	}
	if c.Rate != nil {
		limits.Rate = origin.Rate{
			Count: c.Rate.Count, Per: time.Duration(orDefault(c.Rate.Per, caddy.Duration(time.Second))), Burst: c.Rate.Burst,
		}
	}
	if c.Queue != nil {
		limits.Wait = time.Duration(orDefault(c.Queue.Wait, caddy.Duration(origin.DefaultWait)))
		if c.Queue.Length != nil {
			limits.Queue = *c.Queue.Length
		}
	}
	if c.Backoff != nil {
		limits.BackoffMin, limits.BackoffMax = time.Duration(c.Backoff.Min), time.Duration(c.Backoff.Max)
	}
	return limits.WithDefaults(), c.MaxConcurrent != 0 || c.Rate != nil || c.Queue != nil || c.Backoff != nil
}

func (c *OriginConfig) check() error {
	if c == nil {
		return nil
	}
	return firstError(
		c.checkName(),
		checkNumber("origin max_concurrent", c.MaxConcurrent),
		c.Rate.check(),
		c.Queue.check(),
		c.Backoff.check(),
	)
}

// checkWhole finds what is wrong only if nothing more follows.
func (c *OriginConfig) checkWhole() error {
	if c == nil || c.Name != "" {
		return nil
	}
	if _, ok := c.Limits(); !ok {
		return fmt.Errorf("origin: it has neither a name nor a limit; write at least one of: %s", names(originWords(c)))
	}
	return nil
}

// maxOriginName is the length of the longest name of an origin, in bytes.
const maxOriginName = 64

func (c *OriginConfig) checkName() error {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("{}\"'`\\", r) }
	switch {
	case strings.ContainsFunc(c.Name, odd):
		return fmt.Errorf("origin: %q is not a name; write visible ASCII without braces, quotes and backslashes, such as api", c.Name)
	case len(c.Name) > maxOriginName:
		return fmt.Errorf("origin: a name of %d bytes is too long; write at most %d", len(c.Name), maxOriginName)
	}
	return nil
}

func checkNumber(field string, n int) error {
	if n < 0 {
		return fmt.Errorf("%s: %d is negative; write a whole number from 1 up, or leave the line out", field, n)
	}
	return nil
}

func (r *RateConfig) check() error {
	switch {
	case r == nil:
		return nil
	case r.Count < 1:
		return fmt.Errorf("origin rate: %d is no number of requests; write one from 1 up, or leave the line out", r.Count)
	case r.Per < 0:
		return errors.New("origin rate: the time is negative; write one such as 1s, 1m or 1h")
	}
	return checkNumber("origin rate: burst", r.Burst)
}

func (q *QueueConfig) check() error {
	switch {
	case q == nil:
		return nil
	case q.Length != nil && *q.Length < 0:
		return fmt.Errorf("origin queue: %d is negative; write how many may wait, or 0 for no queue", *q.Length)
	case q.Length != nil && *q.Length == 0 && q.Wait != 0:
		return errors.New("origin queue: nobody waits in a queue of 0, so leave the duration out")
	}
	return checkWindow("origin queue", q.Wait)
}

func (b *BackoffConfig) check() error {
	if b == nil {
		return nil
	}
	if b.Max != 0 && b.Max < b.Min {
		return errors.New("origin backoff: the longest pause is shorter than the first; write the shorter one first")
	}
	return firstError(checkWindow("origin backoff", b.Min), checkWindow("origin backoff", b.Max))
}

// origin parses `origin [<name>] [{ … }]`.
func (p *handlerParser) origin() error {
	here := fmt.Sprintf("%s:%d", p.h.File(), p.h.Line())
	c := &OriginConfig{}
	p.config.Origin = c
	switch args := p.h.RemainingArgs(); {
	case len(args) > 1:
		return p.h.Errf("origin: %w; write origin [<name>] { … }", errUsage)
	case len(args) == 1 && args[0] == "":
		return p.h.Err("origin: the name is empty; write a word, or leave it out")
	case len(args) == 1:
		c.Name = args[0]
	}
	if err := c.checkName(); err != nil {
		return p.h.WrapErr(err)
	}
	if err := parseBlock(p.h.Dispenser, "origin", originWords(c), p.config.checkLines); err != nil {
		return err
	}
	if err := firstError(c.checkWhole(), p.checkSame(c, here)); err != nil {
		return p.h.WrapErr(err)
	}
	return nil
}

func originWords(c *OriginConfig) []word {
	return []word{
		{name: "max_concurrent", usage: "max_concurrent <n>", args: countInto(&c.MaxConcurrent)},
		{name: "rate", usage: "rate <n>/<s|m|h> [<burst>]", args: rateInto(&c.Rate)},
		{name: "queue", usage: "queue <n> [<duration>]", args: queueInto(&c.Queue)},
		{name: "backoff", usage: "backoff <min> [<max>]", args: backoffInto(&c.Backoff)},
	}
}

// definedOrigin is a named origin as one directive of the file has it.
type definedOrigin struct {
	limits origin.Limits
	place  string
}

// checkSame refuses limits that differ from those of another directive for the same name.
func (p *handlerParser) checkSame(c *OriginConfig, here string) error {
	const key = "larder.origins"
	limits, ok := c.Limits()
	if c.Name == "" || !ok || p.h.State == nil {
		return nil
	}
	defined, _ := p.h.State[key].(map[string]definedOrigin)
	if defined == nil {
		defined = make(map[string]definedOrigin)
		p.h.State[key] = defined
	}
	before, again := defined[c.Name]
	if again && before.limits != limits {
		return fmt.Errorf("origin: %s has other limits at %s than at %s; write the same at both, or the name alone at one of them",
			c.Name, here, before.place)
	}
	if !again {
		defined[c.Name] = definedOrigin{limits, here}
	}
	return nil
}

func rateInto(field **RateConfig) func([]string) error {
	return func(args []string) error {
		if len(args) < 1 || len(args) > 2 {
			return errUsage
		}
		rate := &RateConfig{}
		count, per, _ := strings.Cut(args[0], "/")
		unit, known := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[per]
		n, err := parseCount(count)
		if err == nil && args[0] == count {
			return fmt.Errorf("%q has no unit; write %s/s if it is for each second, or a rate such as 100/m or 1000/h", count, count)
		}
		if err != nil || !known {
			return fmt.Errorf("%q is not a rate; write one such as 5/s, 100/m or 1000/h", args[0])
		}
		rate.Count, rate.Per = n, caddy.Duration(unit)
		if len(args) == 2 {
			if rate.Burst, err = parseCount(args[1]); err != nil {
				return err
			}
		}
		*field = rate
		return nil
	}
}

func queueInto(field **QueueConfig) func([]string) error {
	return func(args []string) error {
		if len(args) < 1 || len(args) > 2 {
			return errUsage
		}
		if err := checkCountFirst(args); err != nil {
			return err
		}
		length := 0
		if args[0] != "0" {
			n, err := parseCount(args[0])
			if err != nil {
				return fmt.Errorf("%q is not how many may wait; write a whole number, or 0 for no queue", args[0])
			}
			length = n
		}
		*field = &QueueConfig{Length: &length}
		if len(args) == 1 {
			return nil
		}
		return durationInto(&(*field).Wait)(args[1:])
	}
}

func backoffInto(field **BackoffConfig) func([]string) error {
	return func(args []string) error {
		if len(args) < 1 || len(args) > 2 {
			return errUsage
		}
		*field = &BackoffConfig{}
		if err := durationInto(&(*field).Min)(args[:1]); err != nil || len(args) == 1 {
			return err
		}
		return durationInto(&(*field).Max)(args[1:])
	}
}
