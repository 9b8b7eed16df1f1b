package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"image/color"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// table is the samples of a soak by the names of their columns.
type table map[string][]float64

func readTable(name string) (table, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(lines) < 3 {
		return nil, fmt.Errorf("%s: two samples are needed to draw a line", name)
	}
	t := make(table)
	for _, line := range lines[1:] {
		for i, text := range line {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			t[lines[0][i]] = append(t[lines[0][i]], v)
		}
	}
	return t, nil
}

// curve is one line of a panel.
type curve struct {
	name   string
	value  func(i int) float64
	color  color.Color
	dashed bool
}

var (
	green  = color.RGBA{R: 0x2f, G: 0x7d, B: 0x4f, A: 0xff}
	blue   = color.RGBA{R: 0x2b, G: 0x6c, B: 0xb0, A: 0xff}
	orange = color.RGBA{R: 0xc0, G: 0x6a, B: 0x1a, A: 0xff}
	red    = color.RGBA{R: 0xc0, G: 0x30, B: 0x30, A: 0xff}
)

// soak draws memory, disk, hit ratio and latency over time, one under the other.
func soak(from, to string) error {
	t, err := readTable(from)
	if err != nil {
		return err
	}
	var plots [][]*plot.Plot
	for _, panel := range t.panels() {
		p, err := t.plot(panel.title, panel.curves)
		if err != nil {
			return err
		}
		plots = append(plots, []*plot.Plot{p})
	}
	plots[len(plots)-1][0].X.Label.Text = "minutes"
	return save(plots, vg.Points(720), vg.Points(820), to)
}

// panel is what one plot shows.
type panel struct {
	title  string
	curves []curve
}

// panels are those of a soak, from the top down.
func (t table) panels() []panel {
	const mib = 1 << 20
	column := func(name string, unit float64) func(int) float64 {
		return func(i int) float64 { return t[name][i] / unit }
	}
	limit := func(factor float64, budget, base string) func(int) float64 {
		return func(i int) float64 {
			v := factor * t[budget][i] / mib
			if base != "" {
				v += t[base][i] / mib
			}
			return v
		}
	}
	return []panel{
		{"Memory, MiB", []curve{
			{"RssAnon", column("rss_anon", mib), green, false},
			{"charged to the budget", column("memory_bytes", mib), blue, false},
			{"budget", column("memory_budget", mib), blue, true},
			{"base + 1.3 x budget", limit(1.3, "memory_budget", "base"), red, true},
		}},
		{"Disk, MiB", []curve{
			{"file", column("file", mib), green, false},
			{"pages allocated", column("disk_bytes", mib), blue, false},
			{"file resident through the map", column("rss_map", mib), orange, false},
			{"1.5 x budget", limit(1.5, "disk_budget", ""), red, true},
		}},
		{"Hits, share of all requests", []curve{{"hits", column("hit_ratio", 1), green, false}}},
		{"Latency at the client, ms", []curve{
			{"median", column("p50_ms", 1), blue, false},
			{"99th percentile", column("p99_ms", 1), orange, false},
		}},
	}
}

// plot draws curves over time, from 0 up.
func (t table) plot(title string, curves []curve) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = title
	p.Legend.Top = true
	p.Legend.Padding = vg.Points(2)
	p.Add(plotter.NewGrid())
	var most float64
	for _, c := range curves {
		points := make(plotter.XYs, len(t["seconds"]))
		for i, second := range t["seconds"] {
			points[i] = plotter.XY{X: second / 60, Y: c.value(i)}
			most = max(most, points[i].Y)
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = c.color, vg.Points(1.2)
		if c.dashed {
			line.Dashes = []vg.Length{vg.Points(5), vg.Points(4)}
		}
		p.Add(line)
		p.Legend.Add(c.name, line)
	}
	p.Y.Min, p.Y.Max = 0, most*(1.1+0.12*float64(len(curves))) // room for the legend
	return p, nil
}

// save writes plots, one under the other, with their axes in line.
func save(plots [][]*plot.Plot, width, height vg.Length, to string) error {
	canvas := vgsvg.New(width, height)
	const pad = 10
	tiles := draw.Tiles{Rows: len(plots), Cols: 1, PadY: pad, PadTop: pad, PadBottom: pad, PadLeft: pad, PadRight: 2 * pad}
	whole := draw.New(canvas)
	// GitHub's page may be dark.
	whole.FillPolygon(color.White, []vg.Point{{X: 0, Y: 0}, {X: width, Y: 0}, {X: width, Y: height}, {X: 0, Y: height}})
	for i, row := range plot.Align(plots, tiles, whole) {
		plots[i][0].Draw(row[0])
	}
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(file)
	return errors.Join(err, file.Close())
}
