//go:build ignore

package main

import (
	"image/color"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	plotWidth  = 16 * vg.Centimeter
	plotHeight = 8 * vg.Centimeter
)

// palette is told apart by those who see few colours, too (Okabe and Ito, 2008).
var palette = []color.RGBA{{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}}

var shapes = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}}

// ticksOf are about five round numbers from zero on, with the unit.
func ticksOf(u unit) plot.Ticker {
	return plot.TickerFunc(func(_, high float64) (all []plot.Tick) {
		step := math.Pow(10, math.Floor(math.Log10(high/5)))
		for _, more := range []float64{2, 2.5, 2} {
			if high/step > 6 {
				step *= more
			}
		}
		for v := 0.0; v <= high; v += step {
			all = append(all, plot.Tick{Value: v, Label: u.text(v)})
		}
		return all
	})
}

// headroom leaves room for the legend above the curves.
const headroom = 1.35

// place is where a quantity stands on a logarithmic axis; nothing at all is a decade
// before the first of the others.
func place(x int, all []int) float64 {
	if x > 0 {
		return float64(x)
	}
	for _, y := range all {
		if y > 0 {
			return float64(y) / 10
		}
	}
	return 0.1
}

// draw writes curves along the quantity, with the spread of the runs.
func (g growth) draw(s *Store, curves []curve, file string) error {
	p := plot.New()
	p.X.Label.Text = g.along
	p.Y.Min = 0
	p.Y.Tick.Marker = ticksOf(curves[0].unit)
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	var at []plot.Tick
	xs := g.xs(s)
	for _, x := range xs {
		at = append(at, plot.Tick{Value: place(x, xs), Label: count.text(float64(x))})
	}
	p.X.Tick.Marker = plot.ConstantTicks(at)
	if g.name != "nodes" {
		p.X.Scale = plot.LogScale{}
	}
	for i, c := range curves {
		var xy plotter.XYs
		var spread plotter.YErrors
		for _, pt := range g.points(s, c.what) {
			m := pt.f.median()
			xy = append(xy, plotter.XY{X: place(pt.x, xs), Y: m})
			spread = append(spread, struct{ Low, High float64 }{m - pt.f.low(), pt.f.high() - m})
			p.Y.Max = math.Max(p.Y.Max, pt.f.high()*headroom)
		}
		line, points, err := plotter.NewLinePoints(xy)
		if err != nil {
			return err
		}
		bars, err := plotter.NewYErrorBars(struct {
			plotter.XYer
			plotter.YErrorer
		}{xy, spread})
		if err != nil {
			return err
		}
		line.Color, points.Color, bars.Color = palette[i%len(palette)], palette[i%len(palette)], palette[i%len(palette)]
		points.Shape = shapes[i%len(shapes)]
		p.Add(line, points, bars)
		p.Legend.Add(c.label, line, points)
	}
	return save(p, file)
}

// drawSoak writes what the node used along the time.
func drawSoak(samples []Sample, name, file string) error {
	p := plot.New()
	p.X.Label.Text = "seconds"
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	i := 0
	for _, c := range soakCurves {
		if c.plot != name {
			continue
		}
		p.Y.Tick.Marker = ticksOf(c.unit)
		var xy plotter.XYs
		for _, x := range samples {
			xy = append(xy, plotter.XY{X: x.At, Y: c.of(x)})
			p.Y.Max = math.Max(p.Y.Max, c.of(x)*headroom)
		}
		line, err := plotter.NewLine(xy)
		if err != nil {
			return err
		}
		line.Color = palette[i%len(palette)]
		i++
		p.Add(line)
		p.Legend.Add(c.name, line)
	}
	return save(p, file)
}

// save writes an SVG on white, which can be read on a dark page too.
func save(p *plot.Plot, file string) error {
	p.BackgroundColor = color.White
	c := vgsvg.NewWith(vgsvg.UseWH(plotWidth, plotHeight))
	const margin = 4 * vg.Millimeter
	p.Draw(draw.Crop(draw.New(c), margin, -3*margin, margin, -margin))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
