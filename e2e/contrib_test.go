package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// query is a PromQL expression for users to take, and the labels that what stands around it names.
type query struct {
	where, text string
	labels      []string
}

// What is written for Prometheus and Grafana, and the PromQL of the pages.
const (
	dashboardFile = "contrib/grafana/larder.json"
	rulesFile     = "contrib/prometheus/rules.yml"
	rulesTestFile = "contrib/prometheus/rules_test.yml"
)

func readTree(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(treeRoot, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// legendLabel is a label in a legend, as Grafana has it.
var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// dashboardQueries are the expressions of the dashboard's panels.
func dashboardQueries(t *testing.T) (queries []query) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal([]byte(readTree(t, dashboardFile)), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("the panel %s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			q := query{where: "panel " + p.Title, text: target.Expr}
			for _, label := range legendLabel.FindAllStringSubmatch(target.LegendFormat, -1) {
				q.labels = append(q.labels, label[1])
			}
			queries = append(queries, q)
		}
	}
	return queries
}

// ruleQueries is all of the alerting rules as one: their annotations name metrics, too.
func ruleQueries(t *testing.T) []query {
	t.Helper()
	return []query{{where: rulesFile, text: readTree(t, rulesFile)}}
}

// pageQueries are the blocks of PromQL in the pages.
func pageQueries(t *testing.T) (queries []query) {
	t.Helper()
	for _, page := range readPages(t, pagePatterns...) {
		_, blocks := page.parts()
		for _, b := range blocks {
			if b.language == "promql" {
				queries = append(queries, query{where: fmt.Sprintf("%s:%d", b.page, b.line), text: b.text})
			}
		}
	}
	return queries
}

var (
	// selector is a metric of Larder's in PromQL, with its matchers.
	selector = regexp.MustCompile(`(caddy_larder_\w+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on|ignoring|without)\s*\(([^)]*)\)`)
)

// ofPrometheus are the labels that Prometheus gives a series.
var ofPrometheus = []string{"job", "instance"}

// scrapedLabels are the values of each label of each metric in a scrape.
type scrapedLabels map[string]map[string][]string

func labelsOf(series map[string]float64) scrapedLabels {
	all := make(scrapedLabels)
	for s := range series {
		name, labels, _ := strings.Cut(s, "{")
		if all[name] == nil {
			all[name] = make(map[string][]string)
		}
		for _, m := range matcher.FindAllStringSubmatch(labels, -1) {
			all[name][m[1]] = append(all[name][m[1]], m[3])
		}
	}
	return all
}

// check fails the test where a query names what a scrape does not have: a metric, a label of it, or
// a value of that.
func (all scrapedLabels) check(t *testing.T, q query) {
	t.Helper()
	named := make(map[string]bool) // labels of all its metrics
	for _, s := range selector.FindAllStringSubmatch(q.text, -1) {
		labels := all[s[1]]
		if labels == nil {
			t.Errorf("%s: there is no metric %s", q.where, s[1])
			continue
		}
		for label := range labels {
			named[label] = true
		}
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			all.checkMatcher(t, q, s[1], m[1], m[3])
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(q.text, -1) {
		for label := range strings.SplitSeq(g[1], ",") {
			q.labels = append(q.labels, strings.TrimSpace(label))
		}
	}
	for _, label := range q.labels {
		if !named[label] && !slices.Contains(ofPrometheus, label) {
			t.Errorf("%s: no metric in it has the label %s", q.where, label)
		}
	}
}

func (all scrapedLabels) checkMatcher(t *testing.T, q query, name, label, values string) {
	t.Helper()
	if slices.Contains(ofPrometheus, label) {
		return
	}
	have, there := all[name][label]
	if !there {
		t.Errorf("%s: %s has no label %s", q.where, name, label)
		return
	}
	if strings.HasPrefix(values, "$") {
		return // what is chosen on the dashboard
	}
	for value := range strings.SplitSeq(values, "|") {
		if !slices.Contains(have, value) {
			t.Errorf("%s: %s of %s is never %q", q.where, label, name, value)
		}
	}
}

// scrapeOfAll returns what a node of a fleet has to scrape. Its server does not have to be there.
func scrapeOfAll(t *testing.T) map[string]float64 {
	t.Helper()
	s := withDisk(t, "larder")
	s.options = fmt.Sprintf("shared redis://127.0.0.1:%d", freePort(t))
	in := start(t, s, newOrigin(t, answering(200, "Cache-Control", "max-age=60")))
	in.get("/")
	return in.scraped()
}

// Every metric that a panel, a rule or a page names exists in a real scrape, with its labels and
// their values.
func TestQueriesNameWhatIsScraped(t *testing.T) {
	all := labelsOf(scrapeOfAll(t))
	queries := slices.Concat(dashboardQueries(t), ruleQueries(t), pageQueries(t))
	if len(queries) < 30 {
		t.Fatalf("only %d queries", len(queries))
	}
	for _, q := range queries {
		all.check(t, q)
	}
}

// What Prometheus gets is documented, and nothing else.
func TestMetricsAreDocumented(t *testing.T) {
	page := readTree(t, "docs/operating.md")
	inScrape := make(map[string]bool)
	for name := range labelsOf(scrapeOfAll(t)) {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		inScrape[name] = true
		if !strings.Contains(page, "`"+name+"{") && !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/operating.md lacks %s", name)
		}
	}
	for _, name := range regexp.MustCompile("`(caddy_larder_\\w+)").FindAllStringSubmatch(page, -1) {
		if !inScrape[name[1]] {
			t.Errorf("docs/operating.md has %s, which no scrape has", name[1])
		}
	}
}

// promtool returns the program. The test is skipped where it is missing, unless LARDER_PROMTOOL
// says that it may not be.
func promtool(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("promtool")
	switch {
	case err == nil:
	case os.Getenv("LARDER_PROMTOOL") == "required":
		t.Fatal("promtool is missing, and LARDER_PROMTOOL says that it is required")
	default:
		t.Skip("SKIPPED: promtool IS MISSING, SO NO RULE IS TESTED HERE (apt-get install prometheus)")
	}
	return program
}

// runPromtool fails the test where promtool does.
func runPromtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(promtool(t), args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// The alerting rules are right to promtool, and their unit tests hold.
func TestRulesOfPrometheus(t *testing.T) {
	t.Parallel()
	runPromtool(t, "check", "rules", "--lint-fatal", filepath.Join(treeRoot, rulesFile))
	runPromtool(t, "test", "rules", filepath.Join(treeRoot, rulesTestFile))
	rules, tests := readTree(t, rulesFile), readTree(t, rulesTestFile)
	for _, alert := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
		if fires := regexp.MustCompile(`alertname: ` + alert[1] + `\s+exp_alerts:`); !fires.MatchString(tests) {
			t.Errorf("%s: no unit test has it fire", alert[1])
		}
	}
}

// The queries of the dashboard and of the pages are PromQL.
func TestQueriesArePromQL(t *testing.T) {
	t.Parallel()
	grafana := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*", "$zone", ".*")
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: queries\n    rules:\n")
	for i, q := range slices.Concat(dashboardQueries(t), pageQueries(t)) {
		expr, err := json.Marshal(grafana.Replace(q.text)) // which is YAML as well
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&rules, "      # %s\n      - record: query:%d\n        expr: %s\n", q.where, i, expr)
	}
	file := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	runPromtool(t, "check", "rules", file)
}

// ratioQuery is one sum of requests by another.
var ratioQuery = regexp.MustCompile(`sum[^{]*caddy_larder_requests_total(\{[^}]*\})[^/]*/\s*sum[^{]*caddy_larder_requests_total(\{[^}]*\})`)

// selected adds up the requests whose outcome the matchers select.
func selected(matchers string, requests map[string]float64) (sum float64) {
	for outcome, n := range requests {
		taken := true
		for _, m := range matcher.FindAllStringSubmatch(matchers, -1) {
			if m[1] == "outcome" {
				is := regexp.MustCompile("^(?:" + m[3] + ")$").MatchString(outcome)
				taken = taken && is == !strings.HasPrefix(m[2], "!")
			}
		}
		if taken {
			sum += n
		}
	}
	return sum
}

// The hit ratio of the rules, the panels and the pages is that of the dashboard and of `caddy
// larder history`, which are held to the same numbers.
func TestHitRatioOfQueries(t *testing.T) {
	var cases []struct {
		Requests map[string]float64
		Ratio    *float64
	}
	if err := json.Unmarshal([]byte(readTree(t, "testdata/hitratio.json")), &cases); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, q := range slices.Concat(dashboardQueries(t), ruleQueries(t), pageQueries(t)) {
		for _, ratio := range ratioQuery.FindAllStringSubmatch(q.text, -1) {
			found++
			for _, c := range cases {
				spared, through := selected(ratio[1], c.Requests), selected(ratio[2], c.Requests)
				if c.Ratio == nil && through != 0 || c.Ratio != nil && spared/through != *c.Ratio {
					t.Errorf("%s: %v is %v by %v", q.where, c.Requests, spared, through)
				}
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d queries of the hit ratio", found)
	}
}
