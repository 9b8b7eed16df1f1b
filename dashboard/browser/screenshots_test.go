package browser

import (
	"bytes"
	"flag"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

var screenshots = flag.String("screenshots", "", "folder to write dashboard-light.png and dashboard-dark.png to")

// TestScreenshots makes the pictures of docs/dashboard.md, with made-up figures, when asked to.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("no -screenshots")
	}
	b := open(t, startDashboard(t, newFixture(t).address), chromedp.Flag("hide-scrollbars", true))
	b.do(chromedp.EmulateViewport(1280, 1150))
	for _, scheme := range []string{"light", "dark"} {
		b.do(prefer(scheme), chromedp.Reload())
		b.says("#top-table", "api/cart")
		b.do(click(`#top-table [aria-label="Explain https://shop.example/api/cart"]`))
		b.says("#top-table", "send public")
		b.do(script("document.activeElement.blur(); scrollTo(0, 0)"))
		b.until("document.querySelectorAll('#charts canvas').length === 4")
		picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		picture = small(t, picture)
		if len(picture) > 200<<10 {
			t.Errorf("%s: %d bytes", scheme, len(picture))
		}
		if err := os.WriteFile(filepath.Join(*screenshots, "dashboard-"+scheme+".png"), picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// small encodes a picture anew, with the best compression.
func small(t *testing.T, picture []byte) []byte {
	t.Helper()
	decoded, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&out, decoded); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
