package browser

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestAccessibilityRules holds the page to axe-core's rules, in light and in dark, as it is and
// with each dialog open.
func TestAccessibilityRules(t *testing.T) {
	file := os.Getenv("LARDER_AXE")
	if file == "" {
		if os.Getenv("LARDER_CHROMIUM") == "required" {
			t.Fatal("LARDER_AXE does not say where axe.js is")
		}
		t.Skip("SKIPPED: LARDER_AXE does not say where axe.js is")
	}
	axe, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, startDashboard(t, newFixture(t).address))
	for _, scheme := range []string{"light", "dark"} {
		b.do(prefer(scheme), chromedp.Reload())
		for selector, text := range map[string]string{"#top-table": "api/cart", "#entries-table": "products/4700", "#fleet": "edge-2"} {
			b.says(selector, text)
		}
		b.do(script(string(axe)))
		b.holds(scheme)
		b.do(click("#entries-table .action"))
		b.says("#details[open]", "text/html")
		b.holds(scheme + ", details")
		b.do(
			chromedp.KeyEvent(kb.Escape), chromedp.SendKeys(chromedp.CSS("#explain-form [name=url]"), "https://shop.example/"),
			click("#explain-form .primary"), chromedp.SendKeys(chromedp.CSS("#purge-form textarea"), "https://shop.example/"),
			click("#purge-form .primary"),
		)
		b.says("#purge-now:enabled", "Purge 12")
		b.do(click("#purge-now"))
		b.says("#explain-result", "RFC 9111")
		b.says("#confirm[open]", "Purge 12")
		b.holds(scheme + ", confirmation")
		b.do(chromedp.KeyEvent(kb.Escape))
		b.holds(scheme + ", with answers")
	}
	b.quiet()
}

// holds runs axe-core's rules, those for best practice too.
func (b *tab) holds(state string) {
	b.t.Helper()
	type node struct {
		HTML           string `json:"html"`
		FailureSummary string `json:"failureSummary"`
	}
	type result struct {
		Passes     int `json:"passes"`
		Violations []struct {
			ID    string `json:"id"`
			Help  string `json:"help"`
			Nodes []node `json:"nodes"`
		} `json:"violations"`
	}
	found := evaluate[result](b, `axe.run().then(({ passes, violations }) => ({ passes: passes.length, violations }))`)
	for _, v := range found.Violations {
		for _, n := range v.Nodes[:min(3, len(v.Nodes))] {
			b.t.Errorf("%s: %s: %s\n%s\n%s", state, v.ID, v.Help, n.HTML, n.FailureSummary)
		}
	}
	if found.Passes < 15 {
		b.t.Errorf("%s: only %d rules had anything to look at", state, found.Passes)
	}
}

// focusable is what a keyboard must reach: what can be seen and used, one of each group of radio
// buttons. Each has a name.
const focusable = `(() => {
  const visible = e => e.checkVisibility() && !e.disabled && !e.closest('dialog:not([open])')
  const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')].filter(visible)
  return all.filter(e => e.type !== 'radio' || e.checked)
})()`

// TestKeyboardReachesAll that a mouse can use, in the order in which it stands, and goes on from
// there.
func TestKeyboardReachesAll(t *testing.T) {
	b := open(t, startDashboard(t, newFixture(t).address))
	for selector, text := range map[string]string{"#top-table": "api/cart", "#entries-table": "products/4700", "#fleet": "edge-2", "#origins": "api"} {
		b.says(selector, text)
	}
	b.until("document.querySelectorAll('#charts canvas').length === 4")
	b.do(click("#pause"), script("document.activeElement.blur(), window.scrollTo(0, 0)"))
	b.do(script("window.expected = " + focusable + "; window.reached = []; addEventListener('focusin', e => reached.push(e.target))"))
	n := evaluate[int](b, "expected.length")
	if n < 60 {
		t.Fatalf("only %d elements can be used", n)
	}
	b.do(chromedp.Focus(chromedp.CSS("a.skip")))
	for range n - 1 {
		b.do(chromedp.KeyEvent(kb.Tab))
	}
	missed := evaluate[[]string](b, "expected.filter(e => !reached.includes(e)).map(e => e.outerHTML.slice(0, 200))")
	if len(missed) > 0 {
		t.Errorf("Tab does not reach\n%s", strings.Join(missed, "\n"))
	}
	if !evaluate[bool](b, "expected.every((e, i) => reached[i] === e)") {
		t.Error("Tab goes in another order than the page")
	}
	b.quiet()
}

// TestAPurgeByKeyboardAlone.
func TestAPurgeByKeyboardAlone(t *testing.T) {
	f := newFixture(t)
	b := open(t, startDashboard(t, f.address))
	b.says("#status", "Updated")
	b.do(chromedp.Focus(chromedp.CSS("#purge-form textarea")), chromedp.KeyEvent("https://shop.example/"))
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter)) // Soft, Preview
	b.until("document.activeElement.id === 'purge-now'")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.until("document.querySelector('#confirm').open && document.activeElement.value === 'cancel'")
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	b.says("#purge-result", "12 responses purged; it holds on 3 nodes.")
	b.until("document.querySelector('#purge-result').contains(document.activeElement)")
	if f.mu.Lock(); fmt.Sprint(f.sent) != "[purge]" {
		t.Errorf("it was sent %q", f.sent)
	}
	f.mu.Unlock()
	b.quiet()
}

// TestChartsByKeyboard: arrow keys go through the values, which are told as text.
func TestChartsByKeyboard(t *testing.T) {
	b := open(t, startDashboard(t, newFixture(t).address))
	b.until("document.querySelectorAll('#charts canvas').length === 4")
	b.do(click("#pause"), chromedp.Focus(chromedp.CSS("#charts .plot")), chromedp.KeyEvent(kb.ArrowLeft))
	b.until("/hit .*\\/s, collapsed .*\\/s/.test(document.querySelector('#charts output').textContent)")
	first := evaluate[string](b, "document.querySelector('#charts output').textContent")
	b.do(chromedp.KeyEvent(kb.ArrowLeft))
	b.until(fmt.Sprintf("document.querySelector('#charts output').textContent !== %q", first))
	b.quiet()
}
