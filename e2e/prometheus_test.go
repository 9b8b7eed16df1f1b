package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// prometheus is a running Prometheus that scrapes one Caddy.
type prometheus struct {
	t    *testing.T
	base string
}

// startPrometheus starts one with a configuration and the alerting rules beside it. It is skipped
// as promtool is, which is of the same package.
func startPrometheus(t *testing.T, config string) *prometheus {
	t.Helper()
	promtool(t)
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("promtool is there, and prometheus is not: ", err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	for name, text := range map[string]string{file: config, filepath.Join(dir, "rules.yml"): readTree(t, rulesFile)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	cmd := exec.Command(program, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p := &prometheus{t, "http://" + address}
	eventually(t, "Prometheus is ready", func() bool {
		response, err := http.Get(p.base + "/-/ready")
		return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
	})
	return p
}

// call calls the API for a path with its query.
func (p *prometheus) call(path string, into any) {
	p.t.Helper()
	response, err := http.Get(p.base + "/api/v1/" + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	answer := struct {
		Data  any
		Error string
	}{Data: into}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Error != "" {
		p.t.Fatalf("%s: %v %s", path, err, answer.Error)
	}
}

// values returns what a query gives: one value for each series.
func (p *prometheus) values(query string) (values []string) {
	p.t.Helper()
	var data struct{ Result []struct{ Value [2]any } }
	p.call("query?query="+url.QueryEscape(query), &data)
	for _, r := range data.Result {
		values = append(values, r.Value[1].(string))
	}
	return values
}

// pageBlock returns the block of a page in this language that has a text in it.
func pageBlock(t *testing.T, page, language, having string) string {
	t.Helper()
	_, blocks := readPages(t, page)[0].parts()
	for _, b := range blocks {
		if b.language == language && strings.Contains(b.text, having) {
			return b.text
		}
	}
	t.Fatalf("%s has no block of %s with %s", page, language, having)
	return ""
}

// With the configuration of the page, each query of the pages has an answer, and the alerting rules
// can be evaluated.
func TestPrometheusAnswersTheQueriesOfThePages(t *testing.T) {
	t.Parallel()
	promtool(t)
	in := newProcess(t).serve(withDisk(t, "larder"), newOrigin(t, answering(200, "Cache-Control", "max-age=60")))
	config := pageBlock(t, "docs/operating.md", "yaml", "scrape_configs:") + pageBlock(t, "docs/operating.md", "yaml", "alerting:")
	alertmanager := freeAddress(t)
	for named, instead := range map[string]string{"localhost:2019": in.admin, "localhost:9093": alertmanager} {
		if !strings.Contains(config, named) {
			t.Fatalf("the configuration does not name %s:\n%s", named, config)
		}
		config = strings.Replace(config, named, instead, 1)
	}
	p := startPrometheus(t, "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"+config)
	pages := 0
	for _, q := range pageQueries(t) {
		var values []string
		eventually(t, q.where+" has an answer", func() bool {
			in.get("/page")
			pages++ // a fetch between any two scrapes, so that no rate of fetches is 0
			in.get(fmt.Sprint("/page/", pages))
			values = p.values(q.text)
			return len(values) > 0 && !strings.Contains(strings.Join(values, " "), "NaN")
		})
		t.Logf("%s: %s", q.where, strings.Join(values, " "))
	}
	p.wantRules()
	var told struct{ ActiveAlertmanagers []struct{ URL string } }
	eventually(t, "Prometheus knows the Alertmanager", func() bool {
		p.call("alertmanagers", &told)
		return len(told.ActiveAlertmanagers) == 1 && strings.Contains(told.ActiveAlertmanagers[0].URL, alertmanager)
	})
}

// wantRules waits until all alerting rules have been evaluated, and wants each to be in order.
func (p *prometheus) wantRules() {
	p.t.Helper()
	type rule struct{ Name, Health, LastError string }
	var data struct{ Groups []struct{ Rules []rule } }
	eventually(p.t, "the rules are evaluated", func() bool {
		p.call("rules", &data)
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if r.Health == "unknown" {
					return false
				}
			}
		}
		return len(data.Groups) > 0
	})
	for _, r := range data.Groups[0].Rules {
		if r.Health != "ok" {
			p.t.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
		}
	}
}
