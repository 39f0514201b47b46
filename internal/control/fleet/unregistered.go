package fleet

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// A device that a back end makes on a stamp, without provisioning, has no
// registration. Here such devices take their place among the others.

// unregistered finds one of them.
func (f *Fleet) unregistered(ctx context.Context, id string) (link.Device, error) {
	names, err := f.stampNames(ctx, Filter{})
	if err != nil {
		return link.Device{}, err
	}
	found, _, _ := f.askAll(ctx, names, link.QueryDevices{Where: "deviceId = " + quote(id), Limit: 1})
	if len(found) == 0 || found[0].DeviceID != id {
		return link.Device{}, problem.New(problem.NotFound, "there is no device %s", id)
	}
	return found[0], nil
}

// quote writes a text as a condition does.
func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}

// askAll asks stamps for devices; gaps are those that did not answer.
func (f *Fleet) askAll(ctx context.Context, names []string, req link.QueryDevices) (all []link.Device, more bool, gaps []Gap) {
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, name := range names {
		asking.Go(func() {
			found, err := stampAsk(ctx, f, name, link.DeviceQuery, req)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				gaps = append(gaps, Gap{name, problem.Of(err).Message})
				return
			}
			all, more = append(all, found.Items...), more || found.More
		})
	}
	asking.Wait()
	slices.SortFunc(all, func(a, b link.Device) int { return strings.Compare(a.DeviceID, b.DeviceID) })
	return all, more, gaps
}

// asRegistration shows a device that has none as one that is assigned.
func (f *Fleet) asRegistration(ctx context.Context, d link.Device) (link.Registration, error) {
	s, err := f.environments.Stamp(ctx, d.Stamp)
	created := d.CreatedAt
	return link.Registration{
		DeviceID: d.DeviceID, Tenant: d.Tenant, Environment: s.Spec.Environment, Stamp: d.Stamp, Phase: link.PhaseAssigned,
		AssignedAt: &created, CreatedAt: d.CreatedAt, UpdatedAt: d.CreatedAt,
	}, err
}

// addUnregistered merges those that a filter selects into a page.
func (f *Fleet) addUnregistered(ctx context.Context, page Page, filter Filter) (Page, error) {
	names, err := f.stampNames(ctx, filter)
	if err != nil {
		return page, err
	}
	found, more, gaps := f.askAll(ctx, names, link.QueryDevices{Where: "enrollment = ''", Tenant: filter.Tenant, After: filter.After, Limit: filter.Limit})
	for _, d := range found {
		if page.Next != "" && d.DeviceID > page.Next || !strings.Contains(strings.ToLower(d.DeviceID), strings.ToLower(filter.Search)) {
			continue
		}
		if one, err := f.summaryOf(ctx, d); err == nil {
			page.Items = append(page.Items, one)
		}
	}
	sortDevices(page.Items)
	if len(page.Items) > filter.Limit {
		page.Items, more = page.Items[:filter.Limit], true
	}
	if more && page.Next == "" && len(page.Items) > 0 || len(page.Items) == filter.Limit && page.Next != "" {
		page.Next = page.Items[len(page.Items)-1].DeviceID
	}
	page.Incomplete = append(page.Incomplete, gaps...)
	return page, nil
}

// addMatches adds to the devices of a page those that matched and have no
// registration.
func (f *Fleet) addMatches(ctx context.Context, items []Device, ids []string, matched map[string]link.Device, filter Filter) []Device {
	known := map[string]bool{}
	for _, d := range items {
		known[d.DeviceID] = true
	}
	for _, id := range ids {
		d := matched[id]
		if known[id] || d.Enrollment != "" || !strings.Contains(strings.ToLower(id), strings.ToLower(filter.Search)) {
			continue
		}
		if one, err := f.summaryOf(ctx, d); err == nil {
			items = append(items, one)
		}
	}
	sortDevices(items)
	return items
}

func (f *Fleet) summaryOf(ctx context.Context, d link.Device) (Device, error) {
	r, err := f.asRegistration(ctx, d)
	return summary(r, d, true, true), err
}

func sortDevices(all []Device) {
	slices.SortFunc(all, func(a, b Device) int { return strings.Compare(a.DeviceID, b.DeviceID) })
}
