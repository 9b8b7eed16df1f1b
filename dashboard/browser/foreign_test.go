package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestForeignPages: a page of another origin that the same browser has open, and one whose name is
// rebound to the dashboard's address, reach nothing, with the token that they cannot know or
// without.
func TestForeignPages(t *testing.T) {
	f := newFixture(t)
	url := startDashboard(t, f.address)
	address, token, _ := strings.Cut(url, "/#token=")
	attacks := fmt.Sprintf(`(async () => {
  const target = %q, body = JSON.stringify({ all: true }), outcomes = []
  const attempt = async (name, of) => { try { outcomes.push(name + ': ' + await of()) } catch { outcomes.push(name + ': refused') } }
  const read = async response => response.type + ' ' + response.status
  await attempt('fetch', async () => read(await fetch(target + '/larder/purge', { method: 'POST', body })))
  await attempt('fetch without CORS', async () => { await fetch(target + '/larder/purge', { method: 'POST', body, mode: 'no-cors' }); throw 0 })
  await attempt('fetch with the token', async () => read(await fetch(target + '/larder/purge', { method: 'POST', body, headers: { Authorization: 'Bearer %s' } })))
  await attempt('script', () => new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement('script'), { src: target + '/static/api.js', onload: () => resolve('ran'), onerror: reject })
    document.head.append(script)
  }))
  await attempt('frame', () => new Promise((resolve, reject) => {
    const frame = Object.assign(document.createElement('iframe'), { src: target + '/', name: 'frame' })
    frame.onload = () => { try { frame.contentDocument === null ? reject() : resolve('read') } catch { reject() } }
    document.body.append(frame)
  }))
  await attempt('form', () => new Promise((resolve, reject) => {
    const form = Object.assign(document.createElement('form'), { method: 'post', action: target + '/larder/purge', target: 'frame', enctype: 'text/plain' })
    document.querySelector('iframe').onload = reject
    document.body.append(form)
    form.submit()
  }))
  return outcomes
})()`, address, token)
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>foreign</title><link rel=icon href=data:><p>foreign</p>")
	}))
	defer foreign.Close()
	b := open(t, foreign.URL)
	for _, outcome := range evaluate[[]string](b, attacks) {
		if !strings.HasSuffix(outcome, ": refused") {
			t.Errorf("another origin's %s", outcome)
		}
	}
	f.nothingWasSent(t)
	rebound := strings.Replace(address, "127.0.0.1", "rebound.example", 1)
	b = open(t, rebound+"/larder/stats", chromedp.Flag("host-resolver-rules", "MAP rebound.example 127.0.0.1"))
	if got := evaluate[string](b, "document.body.innerText"); !strings.Contains(got, "The Host of this request is not the dashboard's") {
		t.Errorf("by a name that is rebound: %s", got)
	}
	f.nothingWasSent(t)
}

func (f *fixture) nothingWasSent(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sent) > 0 {
		t.Errorf("the admin API was sent %q", f.sent)
	}
}
