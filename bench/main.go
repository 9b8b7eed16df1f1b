// Command bench measures Larder on this machine against the fastest handler that Caddy can have
// (the ceiling), against plain reverse_proxy, and beside nginx and Varnish where they are
// installed. See bench/README.md for what it measures and what was found.
package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"syscall"
	"time"
)

func main() {
	if address := os.Getenv(originEnv); address != "" {
		exit(runOrigin(address))
	}
	if base := os.Getenv(echoEnv); base != "" {
		exit(runEchoes(base))
	}
	b := new(bench)
	pattern := flag.String("case", "", "run only the cases whose names match this regular `expression`")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds; subjects take turns within each")
	flag.DurationVar(&b.duration, "duration", 3*time.Second, "length of one subject's turn")
	flag.BoolVar(&b.short, "short", false, "check answers and allocations with few requests; time nothing")
	flag.BoolVar(&b.long, "long", false, "run the cases too that take minutes")
	flag.IntVar(&b.entries, "entries", 1_000_000, "entries on disk for the restart case")
	flag.DurationVar(&b.soak, "soak", 10*time.Minute, "length of the soak")
	flag.IntVar(&b.rate, "rate", 500, "requests a second of the soak")
	flag.Uint64Var(&b.seed, "seed", 20261121, "seed of the traces for hit ratios")
	flag.StringVar(&b.graph, "graph", "", "draw the soak to this SVG `file`, and write its samples beside it as CSV")
	flag.StringVar(&b.profiles, "profiles", "", "write a CPU profile of each subject that is Caddy to this `folder`, from an extra turn")
	jsonFile := flag.String("json", "", "write the report as JSON to this `file`")
	svgFile := flag.String("svg", "", "write the ratios as a chart to this `file`")
	var markdown markdownFile
	flag.Var(&markdown, "markdown", "write the report in Markdown into the place that `file` has for it; alone, into "+defaultMarkdown)
	list := flag.Bool("list", false, "list the cases and end")
	flag.Parse()
	if flag.NArg() > 0 {
		exit(fmt.Errorf("%q is no flag; a file for the report is named by -markdown=FILE, with =", flag.Arg(0)))
	}

	only, err := regexp.Compile(*pattern)
	exit(err)
	if *list {
		for _, c := range cases() {
			fmt.Printf("%-24s %s\n", c.name, c.about)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := b.measure(ctx, b.selected(only))
	if report != nil {
		fmt.Print(report.table())
		err = errors.Join(err, report.write(ctx, *jsonFile, *svgFile, string(markdown)))
	}
	exit(err)
}

// exit ends the program if there is an error.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if os.Getenv(originEnv) != "" || os.Getenv(echoEnv) != "" {
		os.Exit(0)
	}
}

// bench is one run of the command.
type bench struct {
	rounds   int
	duration time.Duration
	short    bool
	long     bool
	entries  int
	profiles string
	soak     time.Duration
	rate     int
	graph    string
	seed     uint64

	dir              string // scratch, removed in the end
	server           string // the Caddy build
	pin              bool   // there are two cores and taskset
	cert, key        string
	originAddress    string
	ceilingDirective string
	client           *http.Client
	running          []*process
	served           int // subjects so far, each with a folder of its own
}

// selected are the cases that only matches.
func (b *bench) selected(only *regexp.Regexp) []benchCase {
	return slices.DeleteFunc(cases(), func(c benchCase) bool {
		return !only.MatchString(c.name) || c.long && !b.long && !b.short
	})
}

// measure runs cases. The report holds what was measured until an error.
func (b *bench) measure(ctx context.Context, selected []benchCase) (report *report, err error) {
	if len(selected) == 0 {
		return nil, errors.New("no such case: -list names them; those that take minutes need -long")
	}
	needs := slices.MaxFunc(selected, func(a, b benchCase) int { return cmp.Compare(a.needs, b.needs) }).needs
	if err := b.tools(needs); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "larder-bench-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.dir)
	defer b.stopAll()
	if needs > nothing {
		if err := b.prepare(ctx); err != nil {
			return nil, err
		}
	}
	report = newReport(b)
	defer func() { report.Load.After = loadAverage() }()
	for _, c := range selected {
		fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), c.name)
		if c.redis && !redisInstalled() {
			report.skip(&c, redisHint)
			continue
		}
		first := len(b.running)
		err := c.run(ctx, b, &c, report)
		b.stopFrom(first)
		if err != nil {
			return report, fmt.Errorf("case %s: %w", c.name, err)
		}
	}
	return report, nil
}

// tools says what is missing and how to get it.
func (b *bench) tools(needs needs) error {
	_, noTaskset := exec.LookPath("taskset")
	b.pin = noTaskset == nil && runtime.NumCPU() > 1
	if b.short || needs < generators {
		return nil
	}
	for tool, pkg := range map[string]string{"wrk": "wrk", "h2load": "nghttp2-client"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing; on Debian: apt-get install -y %s (or use -short, which needs neither)", tool, pkg)
		}
	}
	return nil
}

// prepare builds the server, starts the origin and learns what header a hit has.
func (b *bench) prepare(ctx context.Context) error {
	b.client = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 2048,
		DisableCompression:  true,
		ForceAttemptHTTP2:   true,
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the certificate is our own, made by certify
	}}
	b.server = filepath.Join(b.dir, "caddy")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.server, "github.com/larder-cache/larder/bench/server")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the server: %w", err)
	}
	if err := b.certify(); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	var err error
	if b.originAddress, err = freeAddress(); err != nil {
		return err
	}
	if _, err := b.startOrigin(ctx, "origin", b.originAddress); err != nil {
		return err
	}
	return b.learnHeader(ctx)
}

// startOrigin starts an origin and waits until it answers.
func (b *bench) startOrigin(ctx context.Context, name, address string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := b.start(name, generatorCore, []string{"GOMAXPROCS=1", originEnv + "=" + address}, self)
	if err != nil {
		return nil, err
	}
	return p, b.await(ctx, p, "http://"+address+"/fetches")
}

// learnHeader asks Larder for a hit, for the ceiling to send the same.
func (b *bench) learnHeader(ctx context.Context) error {
	first := len(b.running)
	defer func() { b.stopFrom(first) }()
	s, err := b.serve(ctx, subjectOf{name: "model", kind: larderKind, memory: "64MiB"})
	if err != nil {
		return err
	}
	a, err := b.warm(ctx, s, s.h1+"/1024/model")
	if err != nil {
		return err
	}
	b.ceilingDirective = ceilingHeader(a.header)
	return nil
}

// warm fills the cache with url and returns a hit.
func (b *bench) warm(ctx context.Context, s *subject, url string) (reply, error) {
	var a reply
	for range 3 { // nginx stores after it has answered
		var err error
		if a, err = b.request(ctx, http.MethodGet, url); err != nil {
			return a, err
		}
	}
	if s.kind == larderKind && !isHit(a) {
		return a, fmt.Errorf("%s is no hit: Cache-Status %q", url, a.cacheStatus)
	}
	return a, nil
}

func isHit(a reply) bool {
	return a.status == http.StatusOK && len(a.cacheStatus) >= len("Larder; hit") && a.cacheStatus[:len("Larder; hit")] == "Larder; hit"
}

// stopFrom stops the processes started since there were first of them.
func (b *bench) stopFrom(first int) {
	if b.client != nil {
		b.client.CloseIdleConnections() // a server would wait for them
	}
	for _, p := range b.running[first:] {
		p.stop()
	}
	b.running = b.running[:first]
}

func (b *bench) stopAll() { b.stopFrom(0) }
