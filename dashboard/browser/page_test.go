package browser

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestAMissBecomesAHit, and a purge makes a miss of it again: on the page, before a real Caddy.
func TestAMissBecomesAHit(t *testing.T) {
	admin, site := startSite(t)
	b := open(t, startDashboard(t, admin))
	b.says("#status", "Updated")
	b.says("#about", admin)

	if got := fetch(t, site, "/a"); !strings.Contains(got, "fwd=uri-miss; stored") {
		t.Fatalf("the first request: %s", got)
	}
	b.until(outcome("miss", 1))
	b.until(outcome("hit", 0))
	if got := fetch(t, site, "/a"); !strings.Contains(got, "Larder; hit") {
		t.Fatalf("the second request: %s", got)
	}
	b.until(outcome("hit", 1))

	b.do(click("#filter .primary"))
	b.says("#entries-table tbody", "http://"+site+"/a")
	b.says("#entries-count", "1 entry")

	b.do(
		chromedp.SetValue(chromedp.CSS("#purge-form [name=kind]"), "tags"),
		chromedp.SendKeys(chromedp.CSS("#purge-form textarea"), "quickstart"),
		click("#purge-form .primary"),
	)
	b.says("#purge-result", "1 stored response matches.")
	b.says("#purge-result", "http://"+site+"/a")
	if got := fetch(t, site, "/a"); !strings.Contains(got, "Larder; hit") {
		t.Errorf("after the preview: %s", got)
	}
	b.do(click("#purge-now"))
	b.says("#confirm[open]", "Purge 1 response?")
	if got := fetch(t, site, "/a"); !strings.Contains(got, "Larder; hit") {
		t.Errorf("before the confirmation: %s", got)
	}
	b.do(click("#confirm-purge"))
	b.says("#purge-result", "1 response purged")
	b.says("#entries-table tbody", "Nothing stored matches.")
	if got := fetch(t, site, "/a"); !strings.Contains(got, "fwd=uri-miss; stored") {
		t.Errorf("after the purge: %s", got)
	}
	b.quiet()
}

// TestWhatALarderTells of a URL: its place in the ranking, what is stored, and why it is a hit. And
// of an origin that has a name.
func TestWhatALarderTells(t *testing.T) {
	admin, site := startSite(t)
	for range 3 {
		fetch(t, site, "/a")
	}
	b := open(t, startDashboard(t, admin))
	b.says("#top-table tbody", "http://"+site+"/a")
	b.do(click(`input[name="by"][value="hits"]`))
	b.until("document.querySelector('#top-table tbody td.number')?.textContent === '2'")

	b.do(click(`#entries-table [aria-label="Details http://` + site + `/a"]`))
	b.says("#details[open]", "max-age=600")
	b.do(chromedp.KeyEvent(kb.Escape), click(`#entries-table [aria-label="Explain http://`+site+`/a"]`))
	b.says("#explain-result .verdict", "Hit")
	b.says("#explain-result details", "method")
	b.says("#origins", "0 of 4")
	b.quiet()
}

// outcome is true when the page counts so many requests with an outcome.
func outcome(name string, n int) string {
	return fmt.Sprintf(`[...document.querySelectorAll('#outcomes tbody tr')].some(row => row.cells[0].textContent === %q && row.cells[1].textContent === '%d')`, name, n)
}

// TestPreviewOfWhatHasChanged: what was not previewed cannot be purged.
func TestPreviewOfWhatHasChanged(t *testing.T) {
	f := newFixture(t)
	b := open(t, startDashboard(t, f.address))
	const form = "#purge-form textarea"
	b.do(chromedp.SendKeys(chromedp.CSS(form), "https://shop.example/"), click("#purge-form .primary"))
	b.says("#purge-now:enabled", "Purge 12 responses")
	b.do(chromedp.SendKeys(chromedp.CSS(form), "x"))
	b.says("#purge-now:disabled", "Purge")

	b.do(click("#purge-form .primary"))
	b.says("#purge-now:enabled", "Purge 12 responses")
	b.do(click("#purge-now"), chromedp.WaitVisible(chromedp.CSS("#confirm")), chromedp.KeyEvent(kb.Escape))
	b.until("!document.querySelector('#confirm').open")
	b.do(click("#purge-now"), chromedp.WaitVisible(chromedp.CSS("#confirm")), chromedp.KeyEvent(kb.Enter)) // Cancel has the focus
	b.until("!document.querySelector('#confirm').open")
	if f.mu.Lock(); len(f.sent) > 0 {
		t.Errorf("it was sent %q", f.sent)
	}
	f.mu.Unlock()
	b.quiet()
}

// TestEverythingIsShown of a Larder that has all calls, without an error, in each of its views.
func TestEverythingIsShown(t *testing.T) {
	b := open(t, startDashboard(t, newFixture(t).address))
	for selector, text := range map[string]string{
		"#tiles": "Hit ratio", "#tiers": "86.", "#zones": "shop", "#origins": "paused", "#fleet": "edge-2", "#top-table": "api/cart", "#entries-table": "products/4700",
		"#outcomes": "collapsed", "#reasons": "no lifetime", "#charts": "from the store",
	} {
		b.says(selector, text)
	}
	for _, choice := range []string{"step=1m", "step=15m", "by=not_stored", "by=fetch_time", "by=bytes", "by=hits", "by=disagree"} {
		name, value, _ := strings.Cut(choice, "=")
		b.do(click(fmt.Sprintf(`input[name="%s"][value="%s"]`, name, value)))
	}
	b.says("#top-table", "Disagreements")
	b.says("#tiles", "the last fortnight")
	b.until("document.querySelectorAll('#charts canvas').length === 4")
	b.do(click("#more"))
	b.quiet()
}

// TestAnOlderLarder has none of the newer calls; the page shows what there is, and says what there
// is not.
func TestAnOlderLarder(t *testing.T) {
	f := newFixture(t, "/larder/history", "/larder/top", "/larder/explain", "/larder/fleet")
	b := open(t, startDashboard(t, f.address))
	b.says("#status", "Updated")
	b.says("#top-table", "This Larder keeps no ranking")
	b.says("#tiles", "all since Caddy started")
	b.until("document.querySelectorAll('#charts figure:not([hidden]) canvas').length === 2") // requests, stored
	b.do(chromedp.SendKeys(chromedp.CSS("#explain-form [name=url]"), "https://shop.example/"), click("#explain-form .primary"))
	b.says("#explain-result", "This Larder has no explain.")
	b.quiet("/larder/history", "/larder/top", "/larder/explain", "/larder/fleet")
}

// TestAnEntryThatHasGone leaves the list when its details are asked for.
func TestAnEntryThatHasGone(t *testing.T) {
	f := newFixture(t, "/larder/entries/e0")
	b := open(t, startDashboard(t, f.address))
	b.says("#entries-table", "products/4700")
	b.do(click("#entries-table .action"))
	b.says("#details[open]", "It is stored no more")
	b.until("!document.querySelector('#entries-table').textContent.includes('products/4700')")
	b.says("#entries-count", "22 entries")
	b.quiet("/larder/entries/e0")
}

// TestNothingIsExplainedUnasked: the page asks for a sentence where a row's button is pressed, and
// the row keeps it.
func TestNothingIsExplainedUnasked(t *testing.T) {
	f := newFixture(t)
	b := open(t, startDashboard(t, f.address))
	b.says("#top-table", "api/cart")
	b.do(click(`input[name="by"][value="not_stored"]`))
	b.says("#top-table", "Not stored")
	b.until(fmt.Sprintf("document.querySelector('#status').textContent !== %s", quote(evaluate[string](b, "document.querySelector('#status').textContent"))))
	if n := f.count("/larder/explain"); n != 0 {
		t.Errorf("%d URLs were explained", n)
	}
	b.do(click(`#top-table [aria-label="Explain https://shop.example/api/cart"]`))
	b.says("#explain-result .verdict", "send public")
	b.says("#top-table", "when asked: It is not stored")
	if n := f.count("/larder/explain"); n != 1 {
		t.Errorf("%d URLs were explained", n)
	}
	b.quiet()
}

// TestPreviewIsWhole: what would be purged can be purged when all of the preview is there.
func TestPreviewIsWhole(t *testing.T) {
	f := newFixture(t)
	f.slow = make(chan struct{})
	b := open(t, startDashboard(t, f.address))
	b.do(
		chromedp.SetValue(chromedp.CSS("#purge-form [name=kind]"), "tags"),
		chromedp.SendKeys(chromedp.CSS("#purge-form textarea"), "slow"),
		click("#purge-form .primary"),
	)
	f.slow <- struct{}{} // the list of some is asked for, so the count has come
	if !evaluate[bool](b, "document.querySelector('#purge-now').disabled") {
		t.Error("it can be purged before the preview is there")
	}
	f.slow <- struct{}{}
	b.says("#purge-now:enabled", "Purge 12 responses")
	b.says("#purge-result", "products/4700")
	b.quiet()
}

// TestHTMLDoesNothing: URLs, tags, header fields and sentences that are HTML stand on the page as
// the text that they are, wherever they are shown.
func TestHTMLDoesNothing(t *testing.T) {
	b := open(t, startDashboard(t, newFixture(t).address))
	b.says("#top-table", hostile)
	b.says("#entries-table", hostile)
	b.says("#entries-table", "<img/src=x/onerror=alert(1)>")
	const row = `[...document.querySelectorAll('#entries-table tr')].find(row => row.textContent.includes('<script>')).querySelectorAll('.action')`
	b.do(script(row + "[0].click()")) // Details
	b.says("#details[open]", "<script>alert(1)</script>")
	b.do(chromedp.KeyEvent(kb.Escape), script(row+"[1].click()")) // Explain
	b.says("#explain-result", hostile)
	b.do(script(row + "[2].click()")) // Purge
	b.says("#purge-now:enabled", "Purge 12 responses")
	b.do(click("#purge-now"))
	b.says("#confirm[open]", hostile)
	if n := evaluate[int](b, "document.querySelectorAll('main img, main script, dialog img, dialog script').length"); n != 0 {
		t.Errorf("%d elements came out of texts", n)
	}
	b.quiet()
}

// TestHTMLFromARealSite: the same through the real listing, with bytes that clients do send.
func TestHTMLFromARealSite(t *testing.T) {
	admin, site := startSite(t)
	const path = `/static/<script>?"><img/src=x/onerror=alert(1)><script>alert(1)</script>`
	fetch(t, site, path)
	b := open(t, startDashboard(t, admin))
	b.says("#entries-table", "<img/src=x/onerror=alert(1)>")
	b.says("#entries-table", "/static/%3Cscript%3E") // as the listing has it
	if n := evaluate[int](b, "document.querySelectorAll('main img, main script').length"); n != 0 {
		t.Errorf("%d elements came out of texts", n)
	}
	b.quiet()
}

// TestWithoutItsToken the page shows nothing, and says where the URL is that has it.
func TestWithoutItsToken(t *testing.T) {
	f := newFixture(t)
	url := startDashboard(t, f.address)
	address, token, _ := strings.Cut(url, "#")
	b := open(t, address)
	b.says("#notice:not([hidden])", "open the URL that the command printed")
	if got := evaluate[string](b, "document.querySelector('#tiles').textContent"); got != "" {
		t.Errorf("it shows %q", got)
	}
	b.quiet("401")

	b = open(t, url)
	b.says("#status", "Updated")
	if got := evaluate[string](b, "location.href + document.cookie"); got != address {
		t.Errorf("the token is still in sight: %q", got)
	}
	b.do(chromedp.Reload())
	b.says("#status", "Updated")
	b.do(script("location.hash = " + quote("#"+strings.ReplaceAll(token, "token=", "token=0"))))
	b.says("#notice:not([hidden])", "token")
	b.quiet("401")
}

// TestTheBrowserThatTurnsDark has the charts follow.
func TestTheBrowserThatTurnsDark(t *testing.T) {
	b := open(t, startDashboard(t, newFixture(t).address))
	b.until("document.querySelectorAll('#charts canvas').length === 4")
	light := evaluate[string](b, "getComputedStyle(document.body).backgroundColor")
	b.do(prefer("dark"))
	b.until(fmt.Sprintf("getComputedStyle(document.body).backgroundColor !== %s && document.querySelectorAll('#charts canvas').length === 4", quote(light)))
	b.quiet()
}

// prefer has the browser prefer a colour scheme, and no movement.
func prefer(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	})
}
