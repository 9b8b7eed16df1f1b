package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

// ideas are the features that docs/ideas.md has to speak of.
var ideas = []string{
	"`loader`", "herd", "`batch_loader`", "`warmup`", "`get_metrics`", "TTL for each key", "`skip_args`", "force refresh", "backends", "Redis", "`AgentCache`", "invalidators",
	"`expire`", "`tag`", "`evict(tag)`", "`cull`", "policies", "`FanoutCache`", "`transact`", "`memoize_stampede`", "`throttle`", "`barrier`", "`Lock`",
	"`BoundedSemaphore`", "`Averager`", "`Deque`", "`Index`", "`stats`", "`volume`", "`JSONDisk`", "`DjangoCache`",
}

// idea is a row of the table, with the site that its example has.
type idea struct {
	feature, config string
	steps, outcomes []string
	host            string
	in              *instance
	origin          *ideasOrigin
	dir             string
}

// readIdeas reads the tables of the page. Rows that say why there is no such thing have no example.
func readIdeas(t *testing.T) (all []*idea) {
	t.Helper()
	example := regexp.MustCompile("^`([^`]+)`<br>`([^`]+) → ([^`]+)`$")
	var features []string
	for line := range strings.Lines(readPages(t, "docs/ideas.md")[0].text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) < 3 || strings.TrimSpace(cells[0]) == "" {
			continue
		}
		feature, text, code := strings.TrimSpace(cells[0]), cells[1], strings.TrimSpace(cells[2])
		features = append(features, feature)
		parts := example.FindStringSubmatch(code)
		switch {
		case parts != nil:
			i := &idea{feature: feature, config: parts[1], steps: strings.Split(parts[2], ", "), outcomes: strings.Split(parts[3], ", ")}
			i.host = fmt.Sprintf("idea%d.example", len(features))
			all = append(all, i)
			if len(i.steps) != len(i.outcomes) {
				t.Errorf("%s: %d steps and %d outcomes", feature, len(i.steps), len(i.outcomes))
			}
		case code != "" || !strings.HasPrefix(text, "Not in Larder: "):
			t.Errorf("%s has no example, and does not say why: %s", feature, line)
		}
	}
	for _, want := range ideas {
		if !slices.ContainsFunc(features, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("the page has no row for %s", want)
		}
	}
	return all
}

// unfolded writes a configuration of one line as a Caddyfile has it.
func unfolded(config string) string {
	return strings.NewReplacer("; ", "\n", " { ", " {\n", " }", "\n}").Replace(strings.TrimPrefix(config, "{ "))
}

var zoneName = regexp.MustCompile(`zone (\w+)`)

// option is what the example says in the global option, if it does.
func (i *idea) option() string {
	inner, global := strings.CutPrefix(i.config, "{ larder { ")
	if !global {
		return ""
	}
	return strings.ReplaceAll(unfolded(strings.TrimSuffix(inner, " } }")), "./", i.dir+"/")
}

// site is the site of the example.
func (i *idea) site(port int) string {
	directive := "larder"
	if zone := zoneName.FindStringSubmatch(i.option()); zone != nil {
		directive = block("zone " + zone[1])
	} else if i.config != "larder" && i.option() == "" {
		directive = block(unfolded(i.config))
	}
	return fmt.Sprintf("http://%s:%d {\nheader >X-Outcome {http.larder.status}\n%s\nreverse_proxy {{origin}}\n}\n", i.host, port, directive)
}

// ideasOrigin is the origin that the page describes. It counts by host.
type ideasOrigin struct {
	*origin
	mu          sync.Mutex
	asked       map[string]int
	under, most map[string]int
	hold        chan struct{} // nil: it answers at once
}

func newIdeasOrigin(t *testing.T) *ideasOrigin {
	o := &ideasOrigin{asked: make(map[string]int), under: make(map[string]int), most: make(map[string]int)}
	o.origin = newOrigin(t, o.answer)
	return o
}

func (o *ideasOrigin) answer(w http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	o.mu.Lock()
	hold := o.hold
	o.asked[host]++
	o.under[host]++
	o.most[host] = max(o.most[host], o.under[host])
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.under[host]--
	}()
	if hold != nil {
		<-hold
	}
	body := strings.Repeat("x", 1000)
	switch r.URL.Path {
	case "/plain":
	case "/graphql":
		w.Header().Set("Content-Type", "application/json")
		body = `{"data":{"a":1}}`
	case "/missing":
		w.WriteHeader(http.StatusNotFound)
	case "/slow":
		w.Header().Set("Cache-Control", "max-age=3")
		time.Sleep(300 * time.Millisecond) // what it takes is what refresh_early goes by
	case "/page.html":
		w.Header().Set("Content-Type", "text/html")
		body = strings.Repeat("<p>", 1<<12)[:1<<12]
		fallthrough
	default:
		w.Header().Set("Cache-Control", "max-age=60")
		if ids := r.URL.Query().Get("ids"); ids != "" {
			w.Header().Set("Content-Type", "application/json")
			body = `{"` + strings.ReplaceAll(ids, ",", `":{},"`) + `":{}}`
		}
	}
	_, _ = io.WriteString(w, body)
}

func (o *ideasOrigin) count(host string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[host]
}

// TestIdeas runs each example of docs/ideas.md, all in one process.
func TestIdeas(t *testing.T) {
	all := readIdeas(t)
	o := newIdeasOrigin(t)
	in := start(t, setup{site: "respond unused"}, o.origin)
	adminapitest.Address = in.admin
	s := setup{site: "respond unused"}
	var fleet []*idea
	for _, i := range all {
		i.in, i.origin, i.dir = in, o, t.TempDir()
		if strings.HasPrefix(i.option(), "shared ") {
			fleet = append(fleet, i) // it is about the whole process
			continue
		}
		s.options += i.option() + "\n"
		s.more += i.site(in.port)
	}
	in.load(s, o.origin)
	for _, i := range all {
		if !slices.Contains(fleet, i) {
			t.Run(i.feature, func(t *testing.T) { i.run(t, s) })
		}
	}
	for _, i := range fleet {
		t.Run(i.feature, func(t *testing.T) {
			i.inAFleet(t)
			i.run(t, s)
		})
	}
}

// inAFleet loads a site that shares what it has.
func (i *idea) inAFleet(t *testing.T) {
	port := startRedis(t).port
	i.in.load(setup{site: "respond unused", options: strings.Replace(i.option(), "6379", strconv.Itoa(port), 1), more: i.site(i.in.port)}, i.origin.origin)
	eventually(t, "the node is one of the fleet", func() bool {
		out, _, err := adminapitest.Larder(t, "fleet")
		return err == nil && strings.Contains(out, "held")
	})
}

// run does what the example says, step by step.
func (i *idea) run(t *testing.T, s setup) {
	for n, step := range i.steps {
		want := i.outcomes[n]
		if got := i.do(t, step, want, s); got != "" {
			t.Errorf("%s: %s, want %s", step, got, want)
		}
	}
}

// do does one step. It returns what came of it where that is not what is wanted.
func (i *idea) do(t *testing.T, step, want string, s setup) (got string) {
	if command, ok := strings.CutPrefix(step, "caddy larder "); ok {
		return i.command(t, command, want)
	}
	if step == "restart" {
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		awaitClosedStores(t)
		i.in.load(s, i.origin.origin)
		return ""
	}
	if n, each, ok := strings.Cut(step, " × "); ok {
		return i.together(t, n, each, want)
	}
	if each, asked, ok := strings.Cut(step, " until asked "); ok {
		return i.until(t, each, asked, want)
	}
	if first, last, ok := strings.Cut(step, " to /"); ok {
		end, _ := strconv.Atoi(last)
		for n := range end {
			got = or(got, i.request(t, strings.TrimSuffix(first, "1")+strconv.Itoa(n+1), want))
		}
		return got
	}
	return i.request(t, step, want)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// command runs a command, with the example's own addresses in place of those of the page.
func (i *idea) command(t *testing.T, command, want string) (got string) {
	t.Helper()
	site := fmt.Sprintf("%s:%d", i.host, i.in.port)
	args := strings.Fields(strings.NewReplacer("example.com", site, "localhost:8080", fmt.Sprintf("localhost:%d", i.in.port)).Replace(command))
	for n, arg := range args {
		if arg == "hot.txt" {
			args[n] = filepath.Join(i.dir, arg)
			if err := os.WriteFile(args[n], []byte("http://"+site+"/hot\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	run := func() bool {
		out, stderr, err := adminapitest.Larder(t, args...)
		got = fmt.Sprintf("%s%s %v", out, stderr, err)
		return err == nil && strings.Contains(out, want)
	}
	if args[0] == "purge" || args[0] == "warm" {
		if run() {
			return ""
		}
		return got
	}
	// What only looks sees a request when its answer has ended, and the disk later still.
	eventually(t, command+" prints "+want, run)
	return ""
}

// ask sends a request of the page: method and path, a body, and a field in brackets.
func (i *idea) ask(ctx context.Context, request string) (*answer, error) {
	request, field, _ := strings.Cut(strings.TrimSuffix(request, "]"), " [")
	words := append(strings.Fields(request), "")
	header := []string{"Host", fmt.Sprintf("%s:%d", i.host, i.in.port)}
	if words[0] == http.MethodPost {
		header = append(header, "Content-Type", "application/json")
	}
	if name, value, ok := strings.Cut(field, ": "); ok {
		header = append(header, name, value)
	}
	return i.in.try(ctx, words[0], words[1], words[2], header...)
}

// request compares an answer with the outcome that is wanted.
func (i *idea) request(t *testing.T, request, want string) (got string) {
	t.Helper()
	a, err := i.ask(t.Context(), request)
	if err != nil {
		return err.Error()
	}
	got = fmt.Sprintf("%d %v", a.StatusCode, a.Header)
	word, ttl, timed := strings.Cut(want, " for ")
	name, value, isField := strings.Cut(want, ": ")
	switch status, err := strconv.Atoi(want); {
	case err == nil && a.StatusCode == status, isField && a.Header.Get(name) == value:
		return ""
	case a.Header.Get("X-Outcome") != word:
		return got
	case timed:
		d, err := caddy.ParseDuration(ttl)
		if left := a.ttl(t); err != nil || left > int(d.Seconds()) || left < int(d.Seconds())/2 {
			return got
		}
	}
	return ""
}

// together sends n requests at once, and holds the origin until all are on their way.
func (i *idea) together(t *testing.T, n, each, want string) (got string) {
	t.Helper()
	count, err := strconv.Atoi(n)
	if err != nil {
		t.Fatal(err)
	}
	hold := make(chan struct{})
	i.hold(hold)
	var sent, over sync.WaitGroup
	sent.Add(count)
	for k := range count {
		over.Go(func() {
			once := sync.OnceFunc(sent.Done)
			defer once()
			trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { once() }}
			a, err := i.ask(httptrace.WithClientTrace(t.Context(), trace), strings.ReplaceAll(each, "{n}", strconv.Itoa(k)))
			if err != nil || a.StatusCode != http.StatusOK {
				t.Errorf("%s: %v %v", each, a, err)
			}
		})
	}
	sent.Wait()
	places := 1
	_, _ = fmt.Sscanf(want, "at most %d at once", &places)
	eventually(t, "the origin has as many as it may", func() bool { return i.origin.count(i.host) >= places })
	close(hold)
	over.Wait()
	i.hold(nil)
	i.origin.mu.Lock()
	defer i.origin.mu.Unlock()
	if asked := fmt.Sprintf("asked %d", i.origin.asked[i.host]); asked == want {
		return ""
	}
	if most := fmt.Sprintf("at most %d at once", i.origin.most[i.host]); most != want || i.origin.asked[i.host] != count {
		return fmt.Sprintf("%s, of %d", most, i.origin.asked[i.host])
	}
	return ""
}

func (i *idea) hold(until chan struct{}) {
	i.origin.mu.Lock()
	defer i.origin.mu.Unlock()
	i.origin.hold = until
}

// until asks until the origin has been asked so often. Each answer has the outcome, but for one
// that a busy machine has left so long that what is stored may have expired: then it begins anew.
func (i *idea) until(t *testing.T, each, asked, want string) (got string) {
	t.Helper()
	n, err := strconv.Atoi(asked)
	if err != nil {
		t.Fatal(err)
	}
	last := time.Now()
	eventually(t, each+" until asked "+asked, func() bool {
		said := i.request(t, each, want)
		if said != "" && time.Since(last) > time.Second {
			n, said = i.origin.count(i.host)+1, ""
		}
		got, last = or(got, said), time.Now()
		return got != "" || i.origin.count(i.host) >= n
	})
	return got
}
