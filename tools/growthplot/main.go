// Command growthplot draws the figures of `go run ./bench -growth FILE` as an
// SVG picture: processor time of each kind of work, by the number of devices
// and by the number of stamps.
package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"os"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// growth is what a line of the figures says.
type growth struct {
	Devices, Stamps                     int
	Registration, Message, Patch, Query time.Duration
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "growthplot:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: growthplot FIGURES.json PICTURE.svg")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var all []growth
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	devices, err := panel(all, "devices on one stamp", func(g growth) (float64, bool) { return float64(g.Devices), g.Stamps == 1 })
	if err != nil {
		return err
	}
	stamps, err := panel(all, "stamps for 10,000 devices", func(g growth) (float64, bool) { return float64(g.Stamps), g.Devices == 10_000 })
	if err != nil {
		return err
	}
	canvas := vgsvg.New(9*vg.Inch, 3.6*vg.Inch)
	row := [][]*plot.Plot{{devices, stamps}}
	tiles := draw.Tiles{Rows: 1, Cols: 2, PadX: vg.Points(24), PadTop: vg.Points(8), PadBottom: vg.Points(8), PadLeft: vg.Points(8), PadRight: vg.Points(8)}
	for i, c := range plot.Align(row, tiles, draw.New(canvas))[0] {
		row[0][i].Draw(c)
	}
	file, err := os.Create(args[1])
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(file); err != nil {
		return err
	}
	return file.Close()
}

// lines are the kinds of work, each with its colour.
var lines = []struct {
	name   string
	colour color.RGBA
	of     func(growth) time.Duration
}{
	{"a query of 100 rows", color.RGBA{0x8a, 0x3f, 0xb0, 255}, func(g growth) time.Duration { return g.Query }},
	{"a registration", color.RGBA{0xc2, 0x50, 0x0a, 255}, func(g growth) time.Duration { return g.Registration }},
	{"a twin patch", color.RGBA{0x1b, 0x7f, 0x4b, 255}, func(g growth) time.Duration { return g.Patch }},
	{"a message", color.RGBA{0x0b, 0x6e, 0x9e, 255}, func(g growth) time.Duration { return g.Message }},
}

// panel plots what x says of each size.
func panel(all []growth, title string, x func(growth) (float64, bool)) (*plot.Plot, error) {
	p := plot.New()
	p.BackgroundColor = color.White
	p.X.Label.Text, p.Y.Label.Text = title, "processor time, µs"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	var ticks []plot.Tick
	for i, line := range lines {
		var points plotter.XYs
		for _, g := range all {
			if at, ok := x(g); ok {
				points = append(points, plotter.XY{X: at, Y: float64(line.of(g)) / float64(time.Microsecond)})
				if i == 0 {
					ticks = append(ticks, plot.Tick{Value: at, Label: strconv.FormatFloat(at, 'f', -1, 64)})
				}
			}
		}
		drawn, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		drawn.Color, marks.Color, marks.Shape = line.colour, line.colour, draw.CircleGlyph{}
		drawn.Width = vg.Points(1.6)
		p.Add(drawn, marks)
		p.Legend.Add(line.name, drawn, marks)
	}
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	p.Y.Min, p.Y.Max = 5, 2_000_000 // room for the legend
	return p, nil
}
