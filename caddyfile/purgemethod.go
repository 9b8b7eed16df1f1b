package caddyfile

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// PurgeMethodConfig has the handler answer PURGE, as plugins for Varnish and nginx send it. It says
// who may purge: Allow or Token, and where both are given both must hold.
type PurgeMethodConfig struct {
	// The addresses and ranges that may purge, as Caddy's client address: where the server has
	// trusted proxies, what these say of it. Default: any address, and then a token is needed.
	Allow []string `json:"allow,omitempty"`

	// The token that a PURGE has to present, in `Authorization: Bearer` or in X-Purge-Token.
	// Placeholders are expanded at each PURGE, but for what the request itself says. Default: none,
	// and then addresses are needed.
	Token string `json:"token,omitempty"`

	// Request headers that carry tags. Surrogate-Key and xkey are split at white space, Cache-Tag
	// at commas, others at both. A PURGE without one purges its URL. Default: xkey, Surrogate-Key,
	// Cache-Tags, X-Cache-Tags and X-Key.
	Tags []string `json:"tags,omitempty"`
}

// defaultPurgeFields are the request headers that carry tags unless the operator names others.
var defaultPurgeFields = []string{"Xkey", "Surrogate-Key", "Cache-Tags", "X-Cache-Tags", "X-Key"}

func (p *handlerParser) purgeMethod() error {
	c := &PurgeMethodConfig{}
	p.config.PurgeMethod = c
	if err := parseFullBlock(p.h.Dispenser, "purge_method", purgeMethodWords(c), p.config.checkLines, "allow token"); err != nil {
		return err
	}
	if err := c.checkWhole(); err != nil {
		return p.h.WrapErr(err)
	}
	return nil
}

func purgeMethodWords(c *PurgeMethodConfig) []word {
	return []word{
		{name: "allow", usage: "allow <address|range>...", args: allowInto(&c.Allow)},
		{name: "token", usage: "token <text>", args: textInto(&c.Token)},
		{name: "tags", usage: "tags <header>...", args: listInto(&c.Tags)},
	}
}

// privateRanges is Caddy's word for private ranges, as its own matchers of addresses know it.
const privateRanges = "private_ranges"

// allowInto replaces that word by the ranges.
func allowInto(field *[]string) func([]string) error {
	return func(args []string) error {
		if i := slices.Index(args, privateRanges); i >= 0 {
			args = slices.Replace(args, i, i+1, caddyhttp.PrivateRangesCIDR()...)
		}
		return listInto(field)(args)
	}
}

func (c *PurgeMethodConfig) check() error {
	if c == nil {
		return nil
	}
	return firstError(
		checkList("purge_method allow", c.Allow, func(text string) error {
			_, err := parseRange(text)
			return err
		}),
		checkToken(c.Token),
		checkHeaders("purge_method tags", c.Tags),
	)
}

func (c *PurgeMethodConfig) checkWhole() error {
	if c != nil && len(c.Allow) == 0 && c.Token == "" {
		return errors.New("purge_method: every client could purge; write allow with addresses, or token")
	}
	return nil
}

// checkToken looks at a token as it is written. All placeholders of the HTTP app are made of the
// request: a matcher's groups and vars, too.
func checkToken(token string) error {
	switch {
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("purge_method token: it has white space or what is not ASCII; write what can stand in a header")
	case strings.Contains(token, "{http."):
		return errors.New("purge_method token: a request says itself what stands for this placeholder; write one such as {env.PURGE_TOKEN}")
	}
	return nil
}

// parseRange reads an address, which is a range of one, or a range.
func parseRange(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, errNoChoice(text, fmt.Sprintf("%q is no address and no range", text), "one such as 192.0.2.7 or 10.0.0.0/8", privateRanges)
	}
	return p.Masked(), nil
}

// Prefixes returns the ranges of Allow. The receiver has passed Check.
func (c *PurgeMethodConfig) Prefixes() (prefixes []netip.Prefix) {
	for _, text := range c.Allow {
		if p, err := parseRange(text); err == nil {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes
}

func purgeMethodWithDefaults(c *PurgeMethodConfig) *PurgeMethodConfig {
	if c == nil {
		return nil
	}
	c = copyOrNew(c)
	c.Tags = canonical(orList(c.Tags, defaultPurgeFields...))
	return c
}

// WithoutPlaceholders returns those of texts that are the same at every request.
func WithoutPlaceholders(texts []string) (constant []string) {
	for _, text := range texts {
		if !strings.Contains(text, "{") {
			constant = append(constant, text)
		}
	}
	return constant
}
