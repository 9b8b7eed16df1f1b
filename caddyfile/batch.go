package caddyfile

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/larder-cache/larder/batch"
)

// The words of missing: what is answered for an id that the answer for many lacks.
const (
	missingSingle = "single" // what its own request brings
	missing404    = "404"
)

// BatchConfig has concurrent misses for single items become one request for many, whose answer is
// JSON.
type BatchConfig struct {
	// What the requests ask for, with {id} in a segment: /products/{id}. It is compared with the
	// path as Larder sees it.
	Path string `json:"path"`

	// What is asked for in their place, path and query, with {ids} for the escaped ids:
	// /products?ids={ids}.
	URL string `json:"url"`

	// What stands between two ids. Default: a comma.
	Join string `json:"join,omitempty"`

	// How long the first request waits for others, at most 10s. Default: 5ms.
	Window caddy.Duration `json:"window,omitempty"`

	// The largest number of ids in one request, from 2 to 10000. Default: 100.
	Max int `json:"max,omitempty"`

	// The path of the array or object in the answer that holds the items, with dots between the
	// names. Default: the whole answer.
	Items string `json:"items,omitempty"`

	// The path of the id in an item. Default: the items are members of an object, named by their
	// ids.
	ID string `json:"id,omitempty"`

	// What becomes of an id that the answer lacks: `single` has it asked for alone, `404` answers
	// with 404. Default: `single`.
	Missing string `json:"missing,omitempty"`

	// Tags of each item, whether it was asked for with others or alone. {id} stands for its id,
	// placeholders are expanded. Default: none.
	Tags []string `json:"tags,omitempty"`
}

func (p *handlerParser) batch() error {
	args := p.h.RemainingArgs()
	if len(args) != 1 {
		return p.h.Err("batch: wrong number of arguments; write batch <path> { url <url> … }, such as batch /products/{id}")
	}
	c := BatchConfig{Path: args[0]}
	if err := c.check(); err != nil {
		return p.h.WrapErr(err)
	}
	words := batchWords(&c)
	if err := parseFullBlock(p.h.Dispenser, "batch", words, c.check, names(words)); err != nil {
		return err
	}
	if err := c.checkWhole(); err != nil {
		return p.h.WrapErr(err)
	}
	p.config.Batch = append(p.config.Batch, c)
	if err := checkBatches(p.config.Batch); err != nil {
		return p.h.WrapErr(err)
	}
	return nil
}

func batchWords(c *BatchConfig) []word {
	return []word{
		{name: "url", usage: "url <path with {ids}>", args: textInto(&c.URL)},
		{name: "join", usage: "join <text>", args: textInto(&c.Join)},
		{name: "window", usage: "window <duration>", args: durationInto(&c.Window)},
		{name: "max", usage: "max <n>", args: countInto(&c.Max)},
		{name: "items", usage: "items <path in the answer>", args: textInto(&c.Items)},
		{name: "id", usage: "id <path in an item>", args: textInto(&c.ID)},
		{name: "missing", usage: "missing single|404", args: textInto(&c.Missing)},
		{name: "tags", usage: "tags <text>...", args: listInto(&c.Tags)},
	}
}

// check looks at a block that may be incomplete.
func (c *BatchConfig) check() error {
	so := *c
	if so.URL == "" {
		so.URL = "/{ids}" // which is nothing to complain about, as long as lines follow
	}
	return so.checkWhole()
}

func (c *BatchConfig) checkWhole() error {
	if _, err := c.rule(); err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	return firstError(
		checkChoice("batch missing", c.Missing, missingSingle, missing404),
		checkList("batch tags", c.Tags, nil),
	)
}

// rule returns what the cache is given.
func (c *BatchConfig) rule() (*batch.Rule, error) {
	config := batch.Config{
		Path: c.Path, URL: c.URL, Join: c.Join, Window: time.Duration(c.Window), Max: c.Max,
		Items: c.Items, ID: c.ID, Tags: c.Tags,
	}
	if c.Missing == missing404 {
		config.Missing = batch.Missing404
	}
	return batch.New(config)
}

func checkBatches(list []BatchConfig) error {
	seen := make(map[string]bool)
	for i := range list {
		if err := list[i].checkWhole(); err != nil {
			return err
		}
		if path := list[i].Path; seen[path] {
			return fmt.Errorf("batch: %s stands twice; write one block for it", path)
		}
		seen[list[i].Path] = true
	}
	return nil
}

// batchRules are the rules of blocks that have been checked.
func batchRules(list []BatchConfig) []*batch.Rule {
	var rules []*batch.Rule
	for i := range list {
		if rule, err := list[i].rule(); err == nil {
			rules = append(rules, rule)
		}
	}
	return rules
}
