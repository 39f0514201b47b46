package main

import (
	"fmt"
	"io"
	"runtime"
	"time"
)

// result is one measurement.
type result struct {
	rate     float64 // per second
	cpu      time.Duration
	p50, p99 time.Duration
	text     string // instead, where there is no rate
}

func (r result) String() string {
	if r.text != "" {
		return r.text
	}
	s := fmt.Sprintf("%.0f/s, %.1f µs server CPU", r.rate, float64(r.cpu)/float64(time.Microsecond))
	if r.p99 > 0 {
		s += fmt.Sprintf(", p50 %s, p99 %s", r.p50.Round(10*time.Microsecond), r.p99.Round(10*time.Microsecond))
	}
	return s
}

// report gathers results by path and server.
type report struct {
	paths []string
	goals map[string]string
	found map[string][]measured
}

type measured struct {
	server string
	result
}

func newReport() *report { return &report{goals: map[string]string{}, found: map[string][]measured{}} }

func (r *report) add(path, goal, server string, found result) {
	if _, known := r.goals[path]; !known {
		r.paths = append(r.paths, path)
		r.goals[path] = goal
	}
	r.found[path] = append(r.found[path], measured{server, found})
}

// print prints a Markdown table; the last column is the ratio of our rate to
// the peer's. Peers keep messages in memory only; ours are in the log, safe
// from a killed process, before the device hears so.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d processors, load generator on the same machine\n\n| path | target | server | measured | ours ÷ its |\n|---|---|---|---|---|\n", runtime.Version(), runtime.NumCPU())
	for _, path := range r.paths {
		ours := r.found[path][0].rate
		for i, m := range r.found[path] {
			name, goal, ratio := path, r.goals[path], ""
			if i > 0 {
				name, goal = "", ""
				ratio = fmt.Sprintf("%.2f", ours/m.rate)
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", name, goal, m.server, m, ratio)
		}
	}
}
