package simfleet

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/device/update"
)

// order is one for firmware that is like metadata says.
func order(n int64, version string, metadata map[string]string) string {
	text, err := json.Marshal(map[string]any{update.Property: update.Order{Order: n, Release: version, Environment: "test", Software: []update.Software{{Name: "firmware", Version: version, Metadata: metadata}}}})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// said are what a device reported of its updates, in order.
func (c *cloud) said(t *testing.T, id string) (all []update.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range c.reports[id] {
		var document struct {
			Slipway *update.Report `json:"slipway"`
		}
		if err := json.Unmarshal([]byte(text), &document); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if document.Slipway != nil {
			all = append(all, *document.Slipway)
		}
	}
	return all
}

func (c *cloud) orderAll(f *Fleet, n int, text string) {
	c.mu.Lock()
	c.desired = text
	c.mu.Unlock()
	for _, d := range f.Devices() {
		c.say(d.ID, fmt.Sprintf("$iothub/twin/PATCH/properties/desired/?$version=%d", n), text)
	}
}

func TestDevicesFollowOrdersAsTheReleaseSays(t *testing.T) {
	run(t, 40, func(t *testing.T, c *cloud, f *Fleet) {
		pass(5 * time.Second)
		last := func(d *Device) update.Report { all := c.said(t, d.ID); return all[len(all)-1] }
		hardware := map[string]int{}
		for _, d := range f.Devices() {
			hardware[d.Hardware]++
			if r := last(d); r.Hardware != d.Hardware || r.Software["firmware"] != "1.4.2" || r.Order != 0 {
				t.Fatalf("%s begins with %+v", d.ID, r)
			}
		}
		if len(hardware) != 2 || hardware["gw-100"] < 8 || hardware["gw-200"] < 8 {
			t.Errorf("hardware: %v", hardware)
		}
		for i, c2 := range []struct {
			metadata map[string]string
			ends     func(hardware string) string
		}{
			{nil, func(string) string { return "confirmed v1" }},
			{map[string]string{"simulate": "fail-self-test"}, func(string) string { return "rolledBack v1" }},
			{map[string]string{"simulate": "fail-self-test", "simulateHardware": "gw-200"}, func(hardware string) string {
				if hardware == "gw-200" {
					return "rolledBack v1"
				}
				return "confirmed v3"
			}},
			{map[string]string{"simulate": "fail-install"}, func(string) string { return "failed" }},
			{map[string]string{"simulate": "silent"}, func(string) string { return "accepted" }},
			{nil, func(string) string { return "confirmed v6" }},
		} {
			c.orderAll(f, i+2, order(int64(i+1), fmt.Sprint("v", i+1), c2.metadata))
			pass(time.Minute)
			for _, d := range f.Devices() {
				r := last(d)
				if got := r.Phase + " " + r.Software["firmware"]; r.Order != int64(i+1) || !strings.HasPrefix(got, c2.ends(d.Hardware)) {
					t.Errorf("order %d: %s on %s says %+v", i+1, d.ID, d.Hardware, r)
				}
			}
		}
		var course []string
		for _, r := range c.said(t, f.Devices()[0].ID)[1:6] {
			course = append(course, r.Phase)
		}
		if got := strings.Join(course, " "); got != "accepted downloading installing trial confirmed" {
			t.Errorf("it says %s", got)
		}
		c.orderAll(f, 99, order(1, "v1", nil)) // an old one
		pass(time.Minute)
		if r := last(f.Devices()[0]); r.Order != 6 {
			t.Errorf("an old order was followed: %+v", r)
		}
	})
}

func TestAReleaseMakesConnectionsBreakMoreOften(t *testing.T) {
	var quiet, restless time.Duration
	for i := range 1000 {
		chance := -math.Log((float64(i) + 0.5) / 1000) // evenly over the distribution
		quiet += lasts(10*time.Minute, 0, chance)
		restless += lasts(10*time.Minute, behaves(update.Order{Software: []update.Software{{Metadata: map[string]string{"simulate": "reconnects+30%"}}}}, "gw-100").reconnects, chance)
	}
	if mean := quiet / 1000; mean < 9*time.Minute || mean > 11*time.Minute {
		t.Errorf("connections last %s", mean)
	}
	if share := float64(quiet) / float64(restless); share < 1.29 || share > 1.31 {
		t.Errorf("they break %.2f times as often", share)
	}
	runWith(t, Options{Devices: 3, ReconnectEvery: 10 * time.Minute, ReportEvery: time.Hour}, func(t *testing.T, c *cloud, f *Fleet) {
		pass(time.Minute)
		c.orderAll(f, 2, order(1, "v1", map[string]string{"simulate": "reconnects+900%"}))
		pass(time.Minute)
		before := f.Stats().Connects
		pass(time.Hour) // in which 180 connections break, and 18 did without the release
		if more := f.Stats().Connects - before; more < 90 || more > 270 {
			t.Errorf("%d connections were made anew", more)
		}
	})
}
