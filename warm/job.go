package warm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// sourceKind is where URLs come from.
type sourceKind string

const (
	fromSitemap sourceKind = "sitemap"
	fromList    sourceKind = "urls"
	fromLog     sourceKind = "log"
	fromPurge   sourceKind = "purged"
)

// source is one flag that says which URLs.
type source struct {
	kind  sourceKind
	value string // a URL, a file, a tag
}

// job is what to warm, and how.
type job struct {
	sources     []source
	sites       []string // --site
	to          string
	rate        string
	concurrency int
	fields      []string // -H
	resume      string
	limit       int
	timeout     time.Duration
	maxTime     time.Duration

	stdin     io.Reader
	transport http.RoundTripper // nil: one that connects as to says
	// purged asks the running cache what purges of a tag have dropped.
	purged func(ctx context.Context, tag string) (PurgedURLs, error)
	// show tells the progress: it is called now and then, and once at the end.
	show progress
}

// run carries the job out. An error is about the job, before any page was asked for, or about the
// resume file. What failed of the requests is in the summary, which is nil where none was made.
func (j *job) run(ctx context.Context) (*Summary, error) {
	w, err := j.prepare()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	journal, err := openJournal(j.resume)
	if err != nil {
		return nil, err
	}
	if err := w.gather(ctx); err != nil {
		return nil, errors.Join(err, journal.close(journal.empty()))
	}
	tally := newTally(began)
	tally.planned(w.plan, len(w.variants))
	r := &runner{plan: w.plan, variants: w.variants, client: w.client, pacer: w.pacer, journal: journal, tally: tally}
	stop := j.show.during(tally)
	r.run(ctx, j.concurrency)
	stop()
	sum := tally.summary(time.Now())
	sum.Interrupted, sum.resumable = ctx.Err() != nil, j.resume
	return sum, journal.close(!sum.Interrupted)
}

// work is a job whose words are understood.
type work struct {
	*job
	sites    *sites
	variants []variant
	pacer    *pacer
	client   *client
	plan     *plan
}

// prepare reads the words of a job.
func (j *job) prepare() (*work, error) {
	w := &work{job: j, plan: newPlan(j.limit)}
	switch {
	case len(j.sources) == 0:
		return nil, errors.New("nothing to warm; give at least one of --sitemap, --urls, --log or --purged")
	case j.concurrency < 1 || j.concurrency > 1000:
		return nil, errConcurrency
	case j.limit < 1 || j.limit > defaultLimit:
		return nil, fmt.Errorf("--limit is how many URLs are warmed; give a number from 1 to %s", number(defaultLimit))
	case j.maxTime <= 0:
		return nil, errors.New("--max-time is how long an answer may take in all; give a duration such as 10m")
	case j.timeout <= 0:
		return nil, errors.New("--timeout is how long an answer is waited for; give a duration such as 30s")
	}
	var err error
	if w.sites, err = newSites(j.sites); err != nil {
		return nil, err
	}
	if w.variants, err = parseVariants(j.fields); err != nil {
		return nil, err
	}
	perSecond, err := parseRate(j.rate)
	if err != nil {
		return nil, err
	}
	w.pacer = newPacer(perSecond)
	transport := j.transport
	if transport == nil {
		if transport, err = newTransport(j.to, j.concurrency); err != nil {
			return nil, err
		}
	}
	w.client = &client{transport, j.timeout, j.maxTime}
	return w, nil
}

// gather collects the URLs, in the order of the flags. Logs stand where the first of them does.
func (w *work) gather(ctx context.Context) error {
	crawl := &crawler{client: w.client, pacer: w.pacer, header: w.variants[0].header, plan: w.plan, sites: w.sites}
	logsRead := false
	for _, s := range w.sources {
		var err error
		switch s.kind {
		case fromSitemap:
			crawl.crawl(ctx, s.value)
		case fromList:
			err = w.open(s.value, func(name string, in io.Reader) error { return w.plan.readList(name, in, w.sites) })
		case fromLog:
			if !logsRead {
				logsRead, err = true, w.gatherLogs()
			}
		case fromPurge:
			err = w.gatherPurged(ctx, s.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// gatherLogs counts all logs together.
func (w *work) gatherLogs() error {
	if len(w.sites.known) == 0 && w.to == "" {
		return errors.New("the hosts in a log are what clients sent; give --site https://example.com for each host that is meant, or --to")
	}
	logs := newAccessLogs(w.sites, w.to != "")
	for _, s := range w.sources {
		if s.kind != fromLog {
			continue
		}
		if err := w.open(s.value, logs.read); err != nil {
			return err
		}
	}
	logs.into(w.plan)
	return nil
}

// gatherPurged takes in what purges of a tag have dropped. What is not remembered is counted.
func (w *work) gatherPurged(ctx context.Context, tag string) error {
	purged, err := w.purged(ctx, tag)
	if err != nil {
		return fmt.Errorf("--purged: %w", err)
	}
	for _, text := range purged.URLs {
		if normal, err := normalize(text); err == nil && w.sites.leaveOut(normal) {
			w.plan.skipped.OtherHosts++
			continue
		}
		w.plan.addListed("purged", text, w.sites)
	}
	w.plan.skipped.Forgotten += purged.More
	if purged.Sweeping && purged.More == 0 {
		fmt.Fprintf(w.show.out, "the purge of %s is still being swept; what it has dropped so far is warmed\n", tag)
	}
	return nil
}

// open reads a file, or standard input for -.
func (w *work) open(name string, read func(name string, in io.Reader) error) error {
	if name == "-" {
		return read("standard input", w.stdin)
	}
	file, err := os.Open(name) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return err
	}
	return errors.Join(read(name, file), file.Close())
}
