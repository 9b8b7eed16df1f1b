package caddyfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/internal/spelling"
)

// parseHandler parses the directive. The matcher behind its name is the adapter's and gone already.
// Syntax:
//
//	larder [<matcher>] {
//	    ttl       <duration> [<status>...]
//	    force_ttl <duration> [<status>...]
//	    max_ttl   <duration>
//	    ignore    <header>...
//	    client_directives obey|ignore
//	    heuristic on|off
//	    deception_guard on|off
//	    stale_while_revalidate <duration>
//	    stale_if_error         <duration>|unlimited [<status>...]
//	    keep      <duration>|unlimited|0
//	    refresh_early          <beta>|off
//	    slice                  <size>|off
//	    key {
//	        query  sort
//	        query  ignore <pattern>...
//	        query  only   <pattern>...
//	        header <name>...
//	        cookie <name>...
//	        add    <text>...
//	        body | json | graphql
//	    }
//	    methods GET HEAD [QUERY] [POST]
//	    safe_post
//	    tags {
//	        from <header>...
//	        add  <text>...
//	        keep_headers
//	    }
//	    invalidate [<matcher>] {
//	        tags <text>...
//	        urls <path>...
//	        soft
//	    }
//	    set_cookie   refuse|strip|store
//	    max_body     <size>
//	    max_variants <n>
//	    coalesce     off
//	    coalesce     wait <duration>
//	    targeted     <field>...
//	    status       short|full|off
//	    origin [<name>] {
//	        max_concurrent <n>
//	        rate           <n>/<s|m|h> [<burst>]
//	        queue          <n> [<duration>]
//	        backoff        <min> [<max>]
//	    }
//	    observe
//	    repeats      <n> <duration> [<by>] [refuse]
//	    batch <path> {
//	        url     <path with {ids}>
//	        join    <text>
//	        window  <duration>
//	        max     <n>
//	        items   <path in the answer>
//	        id      <path in an item>
//	        missing single|404
//	        tags    <text>...
//	    }
//	    purge_method {
//	        allow <address|range>...
//	        token <text>
//	        tags  <header>...
//	    }
//	    zone         <name>
//	    shared       on|off
//	}
//
// ttl, force_ttl, invalidate and batch may stand more than once, as may query with another word
// behind it; every other word stands at most once.
func parseHandler(h httpcaddyfile.Helper) (HandlerConfig, error) {
	h.Next() // the directive's own name
	if args := h.RemainingArgs(); len(args) > 0 {
		return HandlerConfig{}, h.WrapErr(errNoMatcher(args))
	}
	p := handlerParser{h: h}
	if err := parseBlock(h.Dispenser, directiveWords, p.words(), p.config.checkLines); err != nil {
		return HandlerConfig{}, err
	}
	if err := p.config.checkWhole(); err != nil {
		return HandlerConfig{}, h.WrapErr(err)
	}
	return p.config, nil
}

// errNoMatcher says what to write in place of what stands behind the directive and is no matcher.
func errNoMatcher(args []string) error {
	not := fmt.Errorf("larder takes a matcher and a block, not %q", args[0])
	p := handlerParser{}
	isWord := func(w word) bool { return w.name == args[0] }
	near := spelling.Nearest(args[0], namesOf(p.words()))
	switch {
	case slices.ContainsFunc(p.words(), isWord):
		return fmt.Errorf("%w; write larder { %s … }, with a line for each word", not, args[0])
	case strings.HasPrefix(args[0], "~"), isRegexp(args[0]):
		return fmt.Errorf("%w; for a regular expression write @name path_regexp <expression> above, and larder @name", not)
	case strings.HasPrefix(args[0], "*"):
		return fmt.Errorf("%w; for the end of a path write @name path %s above, and larder @name", not, args[0])
	case len(near) > 0:
		return fmt.Errorf("%w; did you mean %s? Write larder { %s … }, with a line for each word", not, strings.Join(near, " or "), near[0])
	}
	return not
}

// handlerParser fills config while the lines of one directive pass.
type handlerParser struct {
	h      httpcaddyfile.Helper
	config HandlerConfig
}

func (p *handlerParser) words() []word {
	c := &p.config
	return []word{
		{name: "ttl", usage: "ttl <duration> [<status>...]", args: ttlInto(&c.TTL), repeats: true},
		{name: "force_ttl", usage: "force_ttl <duration> [<status>...]", args: ttlInto(&c.ForceTTL), repeats: true},
		{name: "max_ttl", usage: "max_ttl <duration>", args: durationInto(&c.MaxTTL)},
		{name: "ignore", usage: "ignore <header>...", args: listInto(&c.Ignore)},
		{name: "client_directives", usage: "client_directives obey|ignore", args: textInto(&c.ClientDirectives)},
		{name: "heuristic", usage: "heuristic on|off", args: onOffInto(&c.Heuristic)},
		{name: "deception_guard", usage: "deception_guard on|off", args: onOffInto(&c.DeceptionGuard)},
		{name: "stale_while_revalidate", usage: "stale_while_revalidate <duration>", args: durationInto(&c.StaleWhileRevalidate)},
		{name: "stale_if_error", usage: "stale_if_error <duration>|unlimited [<status>...]", args: staleIfErrorInto(&c.StaleIfError)},
		{name: "keep", usage: "keep <duration>|unlimited|0", args: keepInto(&c.Keep)},
		{name: "refresh_early", usage: "refresh_early <beta>|off", args: oneInto(&c.RefreshEarly, parseBeta)},
		{name: "slice", usage: "slice <size>|off", args: sliceInto(&c.Slice)},
		{name: "key", block: p.key},
		{name: "methods", usage: "methods GET HEAD [QUERY] [POST]", args: listInto(&c.Methods)},
		{name: "safe_post", usage: "safe_post", args: presenceInto(&c.SafePost)},
		{name: "tags", block: p.tags},
		{name: "invalidate", block: p.invalidate, repeats: true},
		{name: "set_cookie", usage: "set_cookie refuse|strip|store", args: textInto(&c.SetCookie)},
		{name: "max_body", usage: "max_body <size>", args: sizeInto(&c.MaxBody)},
		{name: "max_variants", usage: "max_variants <n>", args: countInto(&c.MaxVariants)},
		{name: "coalesce", usage: "coalesce off, or coalesce wait <duration>", next: []string{"off", "wait"}, args: p.coalesce},
		{name: "targeted", usage: "targeted <field>...", args: listInto(&c.Targeted)},
		{name: "status", usage: "status short|full|off", args: textInto(&c.Status)},
		{name: "origin", block: p.origin},
		{name: "observe", usage: "observe", args: presenceInto(&c.Observe)},
		{name: "repeats", usage: repeatsUsage, args: repeatsInto(&c.Repeats)},
		{name: "batch", block: p.batch, repeats: true},
		{name: "purge_method", block: p.purgeMethod},
		{name: "zone", usage: "zone <name>", args: p.zone},
		{name: "shared", usage: "shared on|off", args: choiceInto(&c.Shared)},
	}
}

func (p *handlerParser) key() error {
	key := &KeyConfig{}
	p.config.Key = key
	words := p.keyWords(key)
	return parseFullBlock(p.h.Dispenser, "key", words, p.config.checkLines, names(words))
}

func (p *handlerParser) keyWords(key *KeyConfig) []word {
	return []word{
		{name: "query", usage: "query sort, query ignore <pattern>... or query only <pattern>...", next: []string{"sort", "ignore", "only"}, args: p.query, repeats: true},
		{name: "header", usage: "header <name>...", args: listInto(&key.Header)},
		{name: "cookie", usage: "cookie <name>...", args: listInto(&key.Cookie)},
		{name: "add", usage: "add <text>...", args: listInto(&key.Add)},
		{name: "body", usage: "body", args: presenceInto(&key.Body)},
		{name: "json", usage: "json", args: presenceInto(&key.JSON)},
		{name: "graphql", usage: "graphql", args: presenceInto(&key.GraphQL)},
	}
}

func (p *handlerParser) query(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	if p.config.Key.Query == nil {
		p.config.Key.Query = &QueryConfig{}
	}
	q := p.config.Key.Query
	switch what, patterns := args[0], args[1:]; what {
	case "sort":
		if q.Sort {
			return errors.New("sort stands twice; write it once")
		}
		return presenceInto(&q.Sort)(patterns)
	case "ignore":
		return once(&q.Ignore, what, patterns)
	case "only":
		return once(&q.Only, what, patterns)
	default:
		return errUsage
	}
}

// once is listInto for a second word on a line, which parseBlock does not see.
func once(field *[]string, what string, args []string) error {
	if *field != nil {
		return errors.New(what + " stands twice; write it once, with all its patterns")
	}
	return listInto(field)(args)
}

func (p *handlerParser) tags() error {
	tags := &TagsConfig{}
	p.config.Tags = tags
	words := tagsWords(tags)
	return parseFullBlock(p.h.Dispenser, "tags", words, p.config.checkLines, names(words))
}

func tagsWords(tags *TagsConfig) []word {
	return []word{
		{name: "from", usage: "from <header>...", args: listInto(&tags.From)},
		{name: "add", usage: "add <text>...", args: listInto(&tags.Add)},
		{name: "keep_headers", usage: "keep_headers", args: presenceInto(&tags.KeepHeaders)},
	}
}

func (p *handlerParser) invalidate() error {
	rule := InvalidateRule{}
	if err := p.matcher(&rule); err != nil {
		return err
	}
	words := invalidateWords(&rule)
	if err := parseFullBlock(p.h.Dispenser, "invalidate", words, rule.checkTargets, names(words)); err != nil {
		return err
	}
	if err := rule.checkNotEmpty(); err != nil {
		return p.h.WrapErr(err)
	}
	p.config.Invalidate = append(p.config.Invalidate, rule)
	return nil
}

func invalidateWords(rule *InvalidateRule) []word {
	return []word{
		{name: "tags", usage: "tags <text>...", args: listInto(&rule.Tags)},
		{name: "urls", usage: "urls <path>...", args: listInto(&rule.URLs)},
		{name: "soft", usage: "soft", args: presenceInto(&rule.Soft)},
	}
}

// matcher takes the matcher behind invalidate, if there is one: @name, /path or *. The helper knows
// the named matchers of the site.
func (p *handlerParser) matcher(rule *InvalidateRule) error {
	if p.h.CountRemainingArgs() == 0 {
		return nil
	}
	set, isMatcher, err := p.h.MatcherToken()
	switch {
	case err != nil:
		return p.h.Errf("invalidate: %w", err)
	case !isMatcher:
		return p.h.Errf("invalidate: %q is not a matcher; write @name, /path or *", p.h.Val())
	case set != nil: // nil is the matcher *, the same as none
		rule.MatcherSetsRaw = caddyhttp.RawMatcherSets{set}
	}
	return nil
}

func (p *handlerParser) coalesce(args []string) error {
	p.config.Coalesce = &CoalesceConfig{}
	switch {
	case len(args) == 1 && args[0] == "off":
		p.config.Coalesce.Off = true
		return nil
	case len(args) == 2 && args[0] == "wait":
		return durationInto(&p.config.Coalesce.Wait)(args[1:])
	default:
		return errUsage
	}
}
