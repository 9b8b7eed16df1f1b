package warm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Bounds of the sitemaps of one --sitemap.
const (
	maxSitemaps     = 5_000 // all together
	maxSitemapDepth = 3     // an index in an index in an index
)

// crawler takes in the pages of a sitemap, and of those that it names.
type crawler struct {
	client *client
	pacer  *pacer
	header http.Header
	plan   *plan
	sites  *sites

	home  site // the host that the sitemap is of
	found map[string]bool
	queue []sitemapRef
}

type sitemapRef struct {
	url   string
	depth int
}

// crawl reads the sitemap at a URL. What goes wrong is listed among the failures.
func (c *crawler) crawl(ctx context.Context, text string) {
	root, err := normalize(text)
	if err != nil {
		c.plan.failed.add(Failure{URL: shorten(text), Reason: err.Error()})
		return
	}
	c.home, c.found = siteOf(root), map[string]bool{root: true}
	c.queue = []sitemapRef{{root, 1}}
	for len(c.queue) > 0 && ctx.Err() == nil && !c.plan.full() {
		next := c.queue[0]
		c.queue = c.queue[1:]
		if err := c.read(ctx, next); err != nil && ctx.Err() == nil {
			c.plan.failed.add(Failure{URL: next.url, Reason: "the sitemap " + err.Error()})
		}
	}
}

// read takes in one sitemap, later where the site asks to wait.
func (c *crawler) read(ctx context.Context, ref sitemapRef) error {
	for try := 1; ; try++ {
		rest, err := c.fetch(ctx, ref)
		if rest == 0 || rest > maxPause || try == maxTries {
			return err
		}
		c.pacer.pause(rest)
	}
}

// fetch asks for a sitemap, and follows redirects of the same host. rest is how long the site asks
// to wait.
func (c *crawler) fetch(ctx context.Context, ref sitemapRef) (rest time.Duration, err error) {
	target := ref.url
	for range maxRedirects + 1 {
		if err := c.pacer.wait(ctx); err != nil {
			return 0, err
		}
		location := ""
		err := c.client.do(ctx, target, c.header, func(resp *http.Response) error {
			switch location = resp.Header.Get("Location"); {
			case isRedirect(resp.StatusCode) && location != "":
				return nil
			case resp.StatusCode != http.StatusOK:
				rest = asksToWait(&answer{status: resp.StatusCode, header: resp.Header}, time.Now())
				location = ""
				return fmt.Errorf("is answered with %s", statusText(resp.StatusCode))
			}
			location = ""
			return c.parse(resp.Body, ref.depth)
		})
		if err != nil || location == "" {
			return rest, err
		}
		next, err := resolve(target, location)
		if err != nil || siteOf(next) != siteOf(target) {
			return 0, fmt.Errorf("is redirected to %s, which is not of its host", shorten(location))
		}
		if c.found[next] { // which is read for itself
			return 0, nil
		}
		c.found[next], target = true, next
	}
	return 0, errors.New("is redirected too often")
}

func (c *crawler) parse(body io.Reader, depth int) error {
	in, err := inClearBounded(body)
	if err != nil {
		return err
	}
	return parseSitemap(in, func(kind locKind, text string) {
		normal, err := normalize(text)
		switch {
		case err != nil:
			c.plan.failed.add(Failure{URL: shorten(text), Reason: err.Error() + " (in a sitemap)"})
		case siteOf(normal) != c.home && !c.sites.known[siteOf(normal)]:
			c.plan.skipped.OtherHosts++
		case kind == pageLoc:
			c.plan.add(normal)
		default:
			c.enqueue(normal, depth+1)
		}
	})
}

func (c *crawler) enqueue(url string, depth int) {
	switch {
	case c.found[url]:
	case depth > maxSitemapDepth:
		c.plan.failed.add(Failure{URL: url, Reason: fmt.Sprintf("the sitemap stands in more than %d indexes; give it by --sitemap", maxSitemapDepth-1)})
	case len(c.found) >= maxSitemaps:
		c.plan.failed.add(Failure{URL: url, Reason: fmt.Sprintf("an index names more than %d sitemaps; give it by --sitemap", maxSitemaps)})
	default:
		c.found[url] = true
		c.queue = append(c.queue, sitemapRef{url, depth})
	}
}
