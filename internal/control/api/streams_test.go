package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/link"
)

// follow opens a stream and returns its lines, once the first has come.
func (s *server) follow(path string, header []string) <-chan string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set(header[0], header[1])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s", path, resp.Status)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		defer resp.Body.Close()
		for scan := bufio.NewScanner(resp.Body); scan.Scan(); {
			if scan.Text() != "" {
				lines <- scan.Text()
			}
		}
	}()
	if first, open := <-lines; !open || !strings.Contains(first, "sequence") {
		s.t.Fatalf("%s begins with %q", path, first)
	}
	return lines
}

// TestStreamsEndWithTheRight follows a stamp's telemetry and a group of
// readers, and takes away what lets people do so.
func TestStreamsEndWithTheRight(t *testing.T) {
	s := newServer(t)
	s.playTenants()
	err := bus.AnswerFeed(s.conn, "stamp.test-1", link.TelemetryWatch, func(ctx context.Context, _ link.WatchLog, send func(link.LogRecord) error) error {
		if err := send(link.LogRecord{Sequence: 1}); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	answer(s, "stamp.test-1", link.ConsumerRead, func(req link.ReadConsumer) (page link.ConsumerPage, err error) {
		if req.After == 0 {
			page.Items, page.Position = []link.LogRecord{{Sequence: 1}}, 1
			return page, nil
		}
		<-t.Context().Done() // nothing comes any more
		return page, t.Context().Err()
	})
	const telemetry, group = "/api/v1/stamps/test-1/messages?follow=true", "/api/v1/stamps/test-1/consumers/g/messages?follow=true"
	of := func(account string) (streams [2]<-chan string, binding string) {
		bearer := s.bearing(account, "viewer", account+"-laptop")[0]
		var all struct {
			Items []struct{ ID, Account string }
		}
		if err := json.Unmarshal([]byte(s.must("GET", "/api/v1/bindings", "")), &all); err != nil {
			t.Fatal(err)
		}
		for _, b := range all.Items {
			if b.Account == account {
				binding = b.ID
			}
		}
		return [2]<-chan string{s.follow(telemetry, bearer), s.follow(group, bearer)}, binding
	}
	kept, _ := of("kay")
	for account, c := range map[string]struct {
		take func(binding string)
		says string
	}{
		"rob": {func(binding string) { s.must("DELETE", "/api/v1/bindings/"+binding, "") }, `"status":403`},
		"dis": {func(string) { s.must("POST", "/api/v1/accounts/dis/disable", "") }, `"status":401`},
		"del": {func(string) { s.must("DELETE", "/api/v1/accounts/del", "") }, `"status":401`},
	} {
		streams, binding := of(account)
		c.take(binding)
		began := time.Now()
		for _, lines := range streams {
			last := ""
			for line := range lines {
				last = line
			}
			if !strings.Contains(last, c.says) {
				t.Errorf("%s: the last line is %q", account, last)
			}
		}
		if took := time.Since(began); took > 5*time.Second { // a quarter of a second, on a machine with nothing else to do
			t.Errorf("%s: cut after %s", account, took)
		}
	}
	for _, lines := range kept {
		select {
		case line := <-lines:
			t.Errorf("somebody else's stream ended with %q", line)
		default:
		}
	}
}

// TestEntryGrantAndRecordNameOneAnother follows a change under a grant from its
// entry to the grant and the record, and back.
func TestEntryGrantAndRecordNameOneAnother(t *testing.T) {
	s := newServer(t)
	s.must("PUT", "/api/v1/environments/production", `{"apiVersion":"slipway/v1","kind":"Environment","metadata":{"name":"production"},"spec":{"access":"controlled"}}`)
	ada, bob, eve := s.bearing("ada", "admin", "ada-laptop")[0], s.bearing("bob", "approver", "bob-laptop")[0], s.bearing("eve", "auditor", "eve-laptop")[0]
	got := func(into any, method, path, body string, as []string) {
		t.Helper()
		status, text, _ := s.do(method, path, body, as...)
		if status != http.StatusOK {
			t.Fatalf("%s %s: %d %s", method, path, status, text)
		}
		if into == nil {
			return
		}
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	got(nil, "POST", "/api/v1/grants", `{"environment":"production","purpose":"hotfix","reason":"down","seconds":600,"scope":{"permissions":["stamp.write"]}}`, ada)
	got(nil, "POST", "/api/v1/grants/grant-1/approve", `{}`, bob)
	got(nil, "PUT", "/api/v1/stamps/prod-1", `{"apiVersion":"slipway/v1","kind":"Stamp","metadata":{"name":"prod-1"},"spec":{"environment":"production","region":"eu"}}`, ada)
	var entries struct{ Items []audit.Entry }
	got(&entries, "GET", "/api/v1/audit?grant=grant-1&action=stamp.*", "", eve)
	if len(entries.Items) != 1 || entries.Items[0].Grant != "grant-1" || entries.Items[0].Object != "stamp/prod-1" {
		t.Fatalf("%+v", entries.Items)
	}
	var shown struct {
		Entry    audit.Entry
		Recorded []gateway.Mark
	}
	got(&shown, "GET", "/api/v1/audit/entries/"+strconv.FormatInt(entries.Items[0].Sequence, 10), "", eve)
	if len(shown.Recorded) != 1 {
		t.Fatalf("%+v", shown)
	}
	mark := shown.Recorded[0]
	var lines struct{ Items []gateway.Line }
	got(&lines, "GET", "/api/v1/recordings/"+mark.Session+"/lines", "", eve)
	if len(lines.Items) != 2 || mark.Number != 1 || lines.Items[0].Request != shown.Entry.Request || !strings.Contains(lines.Items[0].Text, "/stamps/prod-1") {
		t.Errorf("%+v of %+v", lines.Items, mark)
	}
	var recordings struct{ Items []gateway.Session }
	got(&recordings, "GET", "/api/v1/recordings?grant=grant-1", "", eve)
	if len(recordings.Items) != 1 || recordings.Items[0].ID != mark.Session {
		t.Errorf("%+v", recordings.Items)
	}
	got(&entries, "GET", "/api/v1/audit?request="+lines.Items[1].Request, "", eve)
	if len(entries.Items) != 2 || entries.Items[1].Object != "stamp/prod-1" && entries.Items[0].Object != "stamp/prod-1" {
		t.Errorf("%+v", entries.Items) // the change, and that the session was opened for it
	}
	for _, e := range entries.Items {
		if e.Grant != "grant-1" {
			t.Errorf("%+v has no grant", e)
		}
	}
}
