package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/client"
)

// size is a fleet: so many devices on so many stamps.
type size struct{ Devices, Stamps int }

// sizes are what the growth report compares: a stamp that fills up, and more
// stamps for as many devices.
var sizes = []size{{1_000, 1}, {10_000, 1}, {100_000, 1}, {10_000, 2}, {10_000, 4}, {10_000, 8}}

// growth is what something costs at a size: processor time of the server, and
// how long a query takes.
type growth struct {
	size
	Registration time.Duration
	Message      time.Duration
	Patch        time.Duration
	Query        time.Duration
	QueryTakes   time.Duration
	Memory       int // bytes, with 100 connections
}

// queries is how often the query is asked.
const queries = 50

// measureGrowth runs a server of its own for each size.
func measureGrowth(ctx context.Context, binary string, long time.Duration) ([]growth, error) {
	var all []growth
	for _, s := range sizes {
		dir, err := os.MkdirTemp("", "slipway-growth")
		if err != nil {
			return nil, err
		}
		g, err := measureSize(ctx, dir, binary, s, long)
		if removed := os.RemoveAll(dir); err == nil {
			err = removed
		}
		if err != nil {
			return nil, fmt.Errorf("%d devices on %d stamps: %w", s.Devices, s.Stamps, err)
		}
		fmt.Fprintf(os.Stderr, "%d devices on %d stamps: registration %s, message %s, patch %s, query %s of processor\n", s.Devices, s.Stamps, g.Registration, g.Message, g.Patch, g.Query)
		all = append(all, g)
	}
	return all, nil
}

func measureSize(ctx context.Context, dir, binary string, s size, long time.Duration) (growth, error) {
	g := growth{size: s}
	server, ready, err := startSlipway(ctx, dir, binary, declared(s)...)
	if err != nil {
		return g, err
	}
	defer server.stop()
	target, err := newTarget(server.command.Process.Pid, ready)
	if err != nil {
		return g, err
	}
	registrations, err := target.register(s.Devices)
	if err != nil {
		return g, err
	}
	g.Registration = registrations.cpu
	api, err := client.New(client.Options{URL: ready.API, Token: ready.AdminToken, CAFile: ready.CA})
	if err != nil {
		return g, err
	}
	conns, err := target.spread(ctx, api, connections)
	if err != nil {
		return g, err
	}
	defer closeAll(conns)
	for _, one := range []struct {
		cost *time.Duration
		kind loadKind
	}{{&g.Message, telemetryLoad}, {&g.Patch, twinLoad}} {
		r, err := load(target.pid, conns, one.kind, 4, long)
		if err != nil {
			return g, err
		}
		*one.cost = r.cpu
	}
	g.Memory = target.memory()
	cpu, began := cpuOf(target.pid), time.Now()
	for range queries {
		if _, err := api.Query(ctx, "SELECT deviceId FROM devices WHERE tags.batch = '7'", client.QueryOptions{Limit: 100}); err != nil {
			return g, err
		}
	}
	g.Query, g.QueryTakes = (cpuOf(target.pid)-cpu)/queries, time.Since(began)/queries
	return g, nil
}

// declared are an environment and its stamps, each with room for all.
func declared(s size) []string {
	parts := []string{"apiVersion: slipway/v1\nkind: Environment\nmetadata: { name: test }\nspec: {}\n"}
	for i := range s.Stamps {
		parts = append(parts, fmt.Sprintf("apiVersion: slipway/v1\nkind: Stamp\nmetadata: { name: test-%d }\nspec: { environment: test, region: local, capacity: 200000 }\n", i+1))
	}
	return parts
}

// spread connects as many devices of each stamp.
func (t *target) spread(ctx context.Context, api *client.Client, n int) ([]conn, error) {
	var all []conn
	for _, hub := range t.ready.Stamps {
		answers, err := api.Query(ctx, "SELECT deviceId FROM devices", client.QueryOptions{Stamp: hub.Name, Limit: n / len(t.ready.Stamps)})
		if err != nil {
			return all, err
		}
		for _, answer := range answers {
			for _, item := range answer.Items {
				var d struct{ DeviceID string }
				if err := json.Unmarshal(item, &d); err != nil {
					return all, err
				}
				c, err := t.connect(hub, d.DeviceID)
				if err != nil {
					return all, err
				}
				all = append(all, conn{c, d.DeviceID})
			}
		}
	}
	return all, nil
}

// printGrowth prints a Markdown table.
func printGrowth(w io.Writer, all []growth) {
	fmt.Fprint(w, "| devices | stamps | a registration | a message | a twin patch | a query | it takes | memory |\n|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, g := range all {
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %s | %s | %d MB |\n", thousands(g.Devices), g.Stamps, micros(g.Registration), micros(g.Message), micros(g.Patch), micros(g.Query), micros(g.QueryTakes), g.Memory>>20)
	}
}

func micros(d time.Duration) string {
	if d >= 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.1f µs", d.Seconds()*1e6)
}

func thousands(n int) string {
	return strings.TrimPrefix(fmt.Sprintf("%d,%03d", n/1000, n%1000), "0,")
}

// writeGrowth prints the table and writes the figures for tools/growthplot.
func writeGrowth(all []growth, file string) error {
	printGrowth(os.Stdout, all)
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
