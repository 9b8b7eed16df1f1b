// Command chart draws what the bench has measured as SVG: the ratios of a report (chart report.json
// chart.svg), or the course of a soak (chart soak.csv soak.svg). It is a module of its own, so that
// the plotting library does not come into the requirements of the plugin.
package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// report is what the chart needs of the bench's JSON.
type report struct {
	Date    string `json:"date"`
	Machine struct {
		CPU   string `json:"cpu"`
		Cores int    `json:"cores"`
	} `json:"machine"`
	Rows []row `json:"rows"`
}

type row struct {
	About     string  `json:"about"`
	Subject   string  `json:"subject"`
	Ratio     float64 `json:"ratio"`
	Reference string  `json:"reference"`
	Target    float64 `json:"target"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: chart report.json|soak.csv chart.svg")
		os.Exit(2)
	}
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	plotter.DefaultFont = plot.DefaultFont
	run := ratios
	if filepath.Ext(os.Args[1]) == ".csv" {
		run = soak
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

// ratios draws a bar for each judged row of a report.
func ratios(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	bars := slices.DeleteFunc(r.Rows, func(b row) bool { return b.Target == 0 })
	if len(bars) == 0 {
		return fmt.Errorf("%s: no ratio in it", from)
	}
	p, err := drawing(&r, bars)
	if err != nil {
		return err
	}
	height := vg.Length(len(bars))*vg.Points(30) + vg.Points(90)
	return save([][]*plot.Plot{{p}}, vg.Points(780), height, to)
}

// drawing is a horizontal bar for each case, from 0, with a mark at its target.
func drawing(r *report, bars []row) (*plot.Plot, error) {
	slices.Reverse(bars) // the axis goes up
	n := len(bars)
	reached, missed, targets := make(plotter.Values, n), make(plotter.Values, n), make(plotter.XYs, n)
	names := make([]string, n)
	labels := plotter.XYLabels{XYs: make(plotter.XYs, n), Labels: make([]string, n)}
	most := 1.0
	for i, b := range bars {
		value := &reached[i]
		if b.Ratio < b.Target {
			value = &missed[i]
		}
		*value = b.Ratio
		most = max(most, b.Ratio)
		targets[i] = plotter.XY{X: b.Target, Y: float64(i)}
		names[i] = b.About + " / " + b.Reference
		labels.XYs[i] = plotter.XY{X: max(b.Ratio, b.Target) + 0.02, Y: float64(i) - 0.1}
		labels.Labels[i] = fmt.Sprintf("%.2f", b.Ratio)
	}
	p := plot.New()
	p.Title.Text = "Larder: requests a second by those of the reference"
	p.Title.Padding = vg.Points(6)
	p.X.Label.Text = fmt.Sprintf("ratio; the stroke is the target.  %s, %d cores, %s", r.Machine.CPU, r.Machine.Cores, r.Date)
	p.X.Min, p.X.Max = 0, most+0.15
	p.NominalY(names...)
	for _, part := range []struct {
		values plotter.Values
		color  color.Color
	}{{reached, green}, {missed, orange}} {
		chart, err := plotter.NewBarChart(part.values, vg.Points(16))
		if err != nil {
			return nil, err
		}
		chart.Horizontal, chart.Color, chart.LineStyle.Width = true, part.color, 0
		p.Add(chart)
	}
	marks, err := plotter.NewScatter(targets)
	if err != nil {
		return nil, err
	}
	marks.GlyphStyle = draw.GlyphStyle{Color: color.Black, Radius: vg.Points(9), Shape: upright{}}
	texts, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, err
	}
	p.Add(marks, texts)
	return p, nil
}

// upright is a vertical stroke.
type upright struct{}

// DrawGlyph implements draw.GlyphDrawer.
func (upright) DrawGlyph(c *draw.Canvas, style draw.GlyphStyle, at vg.Point) {
	c.SetLineStyle(draw.LineStyle{Color: style.Color, Width: vg.Points(2)})
	var path vg.Path
	path.Move(vg.Point{X: at.X, Y: at.Y - style.Radius})
	path.Line(vg.Point{X: at.X, Y: at.Y + style.Radius})
	c.Stroke(path)
}
