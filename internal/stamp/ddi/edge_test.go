package ddi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/device"
)

const base = "/default/controller/v1/"

// root is what a poll shows.
type root struct {
	Config struct{ Polling struct{ Sleep string } }
	Links  map[string]struct{ Href string } `json:"_links"`
}

func (r *rig) poll(id string) root {
	r.t.Helper()
	got := r.as(id, "GET", base+id, "")
	if got.status != http.StatusOK {
		r.t.Fatalf("a poll: %d %s", got.status, got.body)
	}
	var parsed root
	r.parse(got.body, &parsed)
	work := 0
	for _, rel := range []string{"deploymentBase", "cancelAction", "confirmationBase"} {
		if _, shown := parsed.Links[rel]; shown {
			work++
		}
	}
	if work > 1 {
		r.t.Errorf("a poll shows %d pieces of work: %s", work, got.body)
	}
	return parsed
}

func (r *rig) parse(text string, into any) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		r.t.Fatalf("%v: %s", err, text)
	}
}

func status(execution, finished string, details ...string) string {
	text, err := json.Marshal(map[string]any{"id": "1", "time": "20261121T140825", "status": map[string]any{
		"execution": execution, "details": details, "result": map[string]any{"finished": finished, "progress": map[string]any{}},
	}})
	if err != nil {
		panic(err) // these are texts
	}
	return string(text)
}

// say sends feedback and expects a status.
func (r *rig) say(want int, id, kind string, action int64, body string, header ...string) {
	r.t.Helper()
	got := r.as(id, "POST", base+id+"/"+kind+"/"+strconv.FormatInt(action, 10)+"/feedback", body, header...)
	if got.status != want {
		r.t.Errorf("%s to %s/%d is answered %d %s, want %d", body, kind, action, got.status, got.body, want)
	}
}

func (r *rig) deploy(want int, id string, action int64, body string, header ...string) {
	r.t.Helper()
	r.say(want, id, "deploymentBase", action, body, header...)
}

var asSWUpdate = []string{"User-Agent", "libcurl-agent/1.0"}

func TestAnUpdateAsSWUpdateDoesIt(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	if shown := r.poll("d1"); shown.Links["configData"].Href == "" || len(shown.Links) != 1 {
		t.Errorf("a device that is new is shown %+v", shown)
	}
	r.as("d1", "PUT", base+"d1/configData", `{"id":"","status":{"execution":"closed","result":{"finished":"success"},"details":[""]},"data":{"hw_revision":"1.0","serial":"d1"}}`, asSWUpdate...)
	if got := r.engine.last("d1"); got.Hardware != "1.0" || got.Software != nil || got.Order != 0 {
		t.Errorf("the attributes are reported as %+v", got)
	}
	if shown := r.poll("d1"); len(shown.Links) != 0 {
		t.Errorf("a device without an order is shown %+v", shown)
	}

	content := []byte(strings.Repeat("firmware ", 1000))
	r.engine.order("d1", 7, "1.1.0", content, nil)
	shown := r.poll("d1")
	order := r.as("d1", "GET", shown.Links["deploymentBase"].Href, "")
	var parsed struct {
		ID         string
		Deployment struct {
			Download, Update string
			Chunks           []struct {
				Part, Version, Name string
				Artifacts           []struct {
					Filename string
					Size     int64
					Hashes   map[string]string
					Links    map[string]struct{ Href string } `json:"_links"`
				}
			}
		}
	}
	r.parse(order.body, &parsed)
	chunk := parsed.Deployment.Chunks[0]
	if parsed.ID != "7" || parsed.Deployment.Update != "forced" || chunk.Part != "bApp" || chunk.Version != "1.1.0" || len(chunk.Artifacts[0].Hashes) != 3 || chunk.Artifacts[0].Size != int64(len(content)) {
		t.Errorf("the order is %s", order.body)
	}
	file := chunk.Artifacts[0].Links["download-http"].Href

	r.deploy(200, "d1", 7, status("proceeding", "none", "Installing Update Chunk Artifacts."), asSWUpdate...)
	if got := r.engine.last("d1"); got.Order != 7 || got.Phase != link.OrderInstalling {
		t.Errorf("the first feedback is reported as %+v", got)
	}
	if got := r.as("d1", "HEAD", file, ""); got.status != 200 || got.header.Get("Content-Length") != strconv.Itoa(len(content)) {
		t.Errorf("HEAD: %d %v", got.status, got.header)
	}
	if got := r.as("d1", "GET", file, "", "Range", "bytes=8990-"); got.status != 206 || got.body != string(content[8990:]) {
		t.Errorf("the rest: %d %q", got.status, got.body)
	}
	r.deploy(200, "d1", 7, status("proceeding", "none", "All Chunks Installed."), asSWUpdate...)
	if r.poll("d1").Links["deploymentBase"].Href == "" {
		t.Error("the link is gone between installation and restart")
	}
	r.deploy(200, "d1", 7, status("closed", "success", "Update Installed."), asSWUpdate...)
	if got := r.engine.last("d1"); got.Phase != link.OrderConfirmed || got.Software["firmware"] != "1.1.0" {
		t.Errorf("the end is reported as %+v", got)
	}
	r.deploy(410, "d1", 7, status("proceeding", "none", "late"), asSWUpdate...)
	shown = r.poll("d1")
	if shown.Links["deploymentBase"].Href != "" || shown.Links["configData"].Href == "" || !strings.Contains(shown.Links["installedBase"].Href, "/installedBase/7?c=") {
		t.Errorf("after the end a poll shows %+v", shown)
	}
	if got := r.as("d1", "GET", shown.Links["installedBase"].Href, ""); got.status != 200 || !strings.Contains(got.body, `"id":"7"`) {
		t.Errorf("what is installed: %d %s", got.status, got.body)
	}
}

func TestSuccessBeforeTheRestartIsNotConfirmed(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	r.engine.order("d1", 3, "2.0", []byte("x"), nil)
	rauc := []string{"User-Agent", "rauc-hawkbit-c-agent/1.4"}
	r.deploy(200, "d1", 3, status("closed", "success", "Software bundle installed successful."), rauc...)
	if got := r.engine.last("d1"); got.Phase != link.OrderInstalling || got.Progress != 100 || got.Software != nil {
		t.Errorf("success is reported as %+v", got)
	}
	r.as("d1", "PUT", base+"d1/configData", `{"mode":"merge","data":{"version":"1.0"}}`, rauc...)
	if got := r.engine.last("d1"); got.Phase != link.OrderInstalling || got.Software["firmware"] != "1.0" {
		t.Errorf("the old version is reported as %+v", got)
	}
	r.as("d1", "PUT", base+"d1/configData", `{"mode":"merge","data":{"version":"2.0"}}`, rauc...)
	if got := r.engine.last("d1"); got.Phase != link.OrderConfirmed || got.Order != 3 || got.Software["firmware"] != "2.0" {
		t.Errorf("the new version is reported as %+v", got)
	}
	// Another way to say the same, for a release whose clients are otherwise.
	r.engine.order("d1", 4, "3.0", []byte("y"), map[string]string{"confirm": "version"})
	r.deploy(200, "d1", 4, status("closed", "none"), asSWUpdate...)
	if got := r.engine.last("d1"); got.Phase != link.OrderInstalling {
		t.Errorf("success is reported as %+v", got)
	}
	if got := r.as("d1", "PUT", base+"d1/installedBase", `{"name":"firmware","version":"3.0"}`); got.status != 200 {
		t.Errorf("PUT installedBase: %d %s", got.status, got.body)
	}
	if got := r.engine.last("d1"); got.Phase != link.OrderConfirmed || got.Order != 4 {
		t.Errorf("what it runs is reported as %+v", got)
	}
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		before []string
		end    string
		phase  string
		reason string
	}{
		"refused":     {nil, status("closed", "failure", "[ERROR] wrong hardware", "Error processing update chunk", "bye"), link.OrderFailed, "[ERROR] wrong hardware; Error processing update chunk"},
		"said before": {[]string{status("proceeding", "none", "ERROR : HASH mismatch", "x", "ERROR : HASH mismatch")}, status("closed", "failure", "No suitable image"), link.OrderFailed, "ERROR : HASH mismatch"},
		"fallback":    {[]string{status("proceeding", "none", "All Chunks Installed.")}, status("closed", "failure", "Update Failed."), link.OrderRolledBack, "Update Failed."},
		"not skipped": {nil, status("closed", "success", "Skipped Update."), link.OrderFailed, "Skipped Update."},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.put("d1", "default")
			r.engine.order("d1", 1, "1.1", []byte("x"), nil)
			for _, text := range c.before {
				r.deploy(200, "d1", 1, text, asSWUpdate...)
			}
			r.deploy(200, "d1", 1, c.end, asSWUpdate...)
			if got := r.engine.last("d1"); got.Phase != c.phase || got.Error != c.reason {
				t.Errorf("reported %+v", got)
			}
			// It is not offered the same again, but another order is.
			if r.poll("d1").Links["deploymentBase"].Href != "" {
				t.Error("what failed is offered again")
			}
			r.engine.order("d1", 2, "1.1", []byte("x"), nil)
			if r.poll("d1").Links["deploymentBase"].Href == "" {
				t.Error("another attempt is not offered")
			}
		})
	}
}

func TestAnotherOrderStopsTheOneBefore(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	r.engine.order("d1", 1, "1.1", []byte("x"), nil)
	r.deploy(200, "d1", 1, status("proceeding", "none", "begins"))
	r.say(405, "d1", "cancelAction", 1, status("closed", "success"))
	r.engine.order("d1", 2, "1.2", []byte("y"), nil)
	cancel := r.poll("d1").Links["cancelAction"].Href
	if !strings.HasSuffix(cancel, "/default/controller/v1/d1/cancelAction/1") {
		t.Fatalf("the cancellation is at %q", cancel)
	}
	if got := r.as("d1", "GET", cancel, ""); got.body != `{"cancelAction":{"stopId":"1"},"id":"1"}` {
		t.Errorf("the cancellation is %s", got.body)
	}
	if got := r.as("d1", "GET", base+"d1/deploymentBase/1", ""); got.status != 404 {
		t.Errorf("an order being cancelled is answered %d", got.status)
	}
	r.deploy(200, "d1", 1, status("proceeding", "none", "still at it"))
	r.say(200, "d1", "cancelAction", 1, status("closed", "success", "stopped"))
	r.say(410, "d1", "cancelAction", 1, status("closed", "success", "stopped"))
	if r.poll("d1").Links["deploymentBase"].Href == "" {
		t.Error("the next order is not offered")
	}

	// One that has been written cannot be stopped any more: it ends first.
	r.deploy(200, "d1", 2, status("proceeding", "none", "All Chunks Installed."))
	r.engine.order("d1", 3, "1.1", []byte("x"), nil)
	if !strings.Contains(r.poll("d1").Links["deploymentBase"].Href, "/deploymentBase/2?c=") {
		t.Error("what is written is not left to end")
	}
	r.deploy(200, "d1", 2, status("closed", "success"))
	if !strings.Contains(r.poll("d1").Links["deploymentBase"].Href, "/deploymentBase/3?c=") {
		t.Error("the next order is not offered")
	}

	// Nor one whose client would not.
	r.deploy(200, "d1", 3, status("proceeding", "none", "begins"))
	r.engine.withdraw("d1")
	if r.poll("d1").Links["cancelAction"].Href == "" {
		t.Error("what was withdrawn is not stopped")
	}
	r.say(200, "d1", "cancelAction", 3, status("rejected", "none", "too late"))
	if !strings.Contains(r.poll("d1").Links["deploymentBase"].Href, "/deploymentBase/3?c=") {
		t.Error("what cannot be stopped is not left to end")
	}
}

func TestTheFirstFeedbackIsTheLastCheck(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	r.engine.order("d1", 1, "1.1", []byte("x"), nil)
	r.poll("d1")
	r.engine.withdraw("d1")
	r.deploy(404, "d1", 1, status("proceeding", "none", "begins"))
	r.engine.order("d1", 2, "1.2", []byte("y"), nil)
	r.deploy(404, "d1", 1, status("proceeding", "none", "begins"))
	// An order that the census says is settled is not begun either, but one
	// that was begun goes on.
	r.engine.states["d1"] = link.UpdateFailed
	r.deploy(404, "d1", 2, status("proceeding", "none", "begins"))
	r.engine.states["d1"] = link.UpdatePending
	r.deploy(200, "d1", 2, status("proceeding", "none", "begins"))
	r.engine.states["d1"] = link.UpdateFailed
	if r.poll("d1").Links["deploymentBase"].Href == "" {
		t.Error("the link of what has begun is gone")
	}
	r.deploy(200, "d1", 2, status("closed", "success"), asSWUpdate...)
}

// A client that did not hear the answer says the same again; it counts once,
// and not at all before the stamp has taken it.
func TestFeedbackThatComesAgain(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	r.engine.order("d1", 1, "1.1", []byte("x"), nil)
	for range 3 {
		r.deploy(200, "d1", 1, status("proceeding", "none", "one"))
	}
	if n := len(r.engine.reports["d1"]); n != 1 {
		t.Errorf("reported %d times", n)
	}
	r.engine.failing = fmt.Errorf("away")
	r.deploy(500, "d1", 1, status("closed", "failure", "no"))
	r.engine.failing = nil
	r.deploy(200, "d1", 1, status("closed", "failure", "no"))
	if got := r.engine.last("d1"); got.Phase != link.OrderFailed {
		t.Errorf("reported %+v", got)
	}
}

func TestManyMessages(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	r.engine.order("d1", 1, "1.1", []byte("x"), nil)
	lines := make([]string, 48)
	for i := range lines {
		lines[i] = fmt.Sprintf("line %d \x07 %s", i, strings.Repeat("x", 1000))
	}
	r.deploy(200, "d1", 1, status("proceeding", "none", lines...))
	r.deploy(200, "d1", 1, status("proceeding", "none", lines...)+" ")
	r.deploy(200, "d1", 1, status("proceeding", "none", "a", "b", "c", "d"))
	got := r.as("d1", "GET", base+"d1/deploymentBase/1?actionHistory=2", "")
	if !strings.Contains(got.body, `"actionHistory":{"status":"PROCEEDING","messages":["c","d"]}`) {
		t.Errorf("history: %s", got.body)
	}
	got = r.as("d1", "GET", base+"d1/deploymentBase/1?actionHistory=-1", "")
	if n := strings.Count(got.body, "line "); n != 46 || strings.Contains(got.body, "\\u0007") || len(got.body) > 40_000 {
		t.Errorf("%d lines in %d bytes", n, len(got.body))
	}
	r.deploy(413, "d1", 1, status("proceeding", "none", strings.Repeat("x", 70_000)))
	for _, text := range []string{"", "{", "[]", `{"status":{}}`, status("begun", "none"), status("closed", "perhaps")} {
		r.deploy(400, "d1", 1, text)
	}
}

func TestWhoMayAsk(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	r.put("d2", "acme")
	token := func(id, of string) []string {
		return []string{"Authorization", "TargetToken " + device.UpdateToken(keyOf(of), id)}
	}
	for name, c := range map[string]struct {
		path   string
		header []string
		want   int
	}{
		"its token":            {base + "d1", token("d1", "d1"), 200},
		"tenant in upper case": {"/DEFAULT/controller/v1/d1", token("d1", "d1"), 200},
		"nothing":              {base + "d1", nil, 401},
		"an empty token":       {base + "d1", []string{"Authorization", "TargetToken "}, 401},
		"another's key":        {base + "d1", token("d1", "d2"), 401},
		"another's token":      {base + "d1", token("d2", "d2"), 401},
		"another tenant":       {base + "d2", token("d2", "d2"), 401},
		"its tenant":           {"/acme/controller/v1/d2", token("d2", "d2"), 200},
		"unknown":              {base + "d3", token("d3", "d3"), 401},
		"no id":                {base + "a%20b", token("a b", "a b"), 401},
		"a module":             {base + "d1%2Fm", token("d1/m", "d1"), 401},
		"a gateway's, off":     {base + "d1", []string{"Authorization", "GatewayToken x"}, 401},
		"nothing there":        {base + "d1/else", token("d1", "d1"), 404},
		"wrong method":         {base + "d1/configData", token("d1", "d1"), 405},
	} {
		if got := r.as("", "GET", c.path, "", c.header...); got.status != c.want {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}

	on, err := r.edge.SetGateway(t.Context(), link.SetUpdateGateway{Tenant: "default", On: true})
	if err != nil {
		t.Fatal(err)
	}
	gateway := []string{"Authorization", "GatewayToken " + on.Token}
	for path, want := range map[string]int{base + "d1": 200, base + "d3": 401, base + "d2": 401, "/acme/controller/v1/d2": 401} {
		if got := r.as("", "GET", path, "", gateway...); got.status != want {
			t.Errorf("the gateway at %s: %d", path, got.status)
		}
	}
	again, err := r.edge.SetGateway(t.Context(), link.SetUpdateGateway{Tenant: "default", On: true})
	if err != nil || again.Token == on.Token {
		t.Fatalf("the token made anew: %v", err)
	}
	if got := r.as("", "GET", base+"d1", "", gateway...); got.status != 401 {
		t.Errorf("the token before: %d", got.status)
	}
	if _, err := r.edge.SetGateway(t.Context(), link.SetUpdateGateway{Tenant: "default"}); err != nil {
		t.Fatal(err)
	}
	if got := r.as("", "GET", base+"d1", "", "Authorization", "GatewayToken "+again.Token); got.status != 401 {
		t.Errorf("a token taken away: %d", got.status)
	}
}

func TestAttributes(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	put := func(want int, body string) {
		t.Helper()
		if got := r.as("d1", "PUT", base+"d1/configData", body); got.status != want {
			t.Errorf("%.80s: %d %s", body, got.status, got.body)
		}
	}
	put(200, `{"data":{"hardware":"board a","software.app":"7","software.os":"3","n":1,"a.b $":"x"}}`)
	got := r.engine.last("d1")
	if got.Hardware != "board a" || len(got.Software) != 2 || got.Software["app"] != "7" || got.Software["os"] != "3" {
		t.Errorf("reported %+v", got)
	}
	kept, err := r.hub.Twins.Get(t.Context(), "d1")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(kept.Reported.Values["ddi"]); err != nil || !strings.Contains(string(text), `"a_b__":"x"`) || !strings.Contains(string(text), `"n":"1"`) {
		t.Errorf("the twin holds %s, %v", text, err)
	}
	put(200, `{"mode":"remove","data":{"software.os":""}}`)
	if got := r.engine.last("d1"); len(got.Software) != 1 {
		t.Errorf("reported %+v", got)
	}
	before := len(r.engine.reports["d1"])
	put(200, `{"mode":"replace","data":{"hardware":"board a","software.app":"7","n":"1","a.b $":"x"}}`)
	if after := len(r.engine.reports["d1"]); after != before {
		t.Errorf("what is known was reported again")
	}
	put(400, `{"mode":"forget","data":{}}`)
	put(400, `{"data":{"a":{}}}`)
	put(413, `{"data":{"a":"`+strings.Repeat("x", 600)+`"}}`)
	many := map[string]string{}
	for i := range 101 {
		many[strconv.Itoa(i)] = "x"
	}
	text, err := json.Marshal(map[string]any{"data": many})
	if err != nil {
		t.Fatal(err)
	}
	put(413, string(text))
}

func TestFiles(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	r.put("d2", "default")
	content := []byte("0123456789")
	o := r.engine.order("d1", 5, "1.1", content, nil)
	path := "/DEFAULT/controller/v1/d1/softwaremodules/500/artifacts/app%201.1.swu"
	etag := `"` + o.Software[0].Artifacts[0].SHA1 + `"`
	for name, c := range map[string]struct {
		header []string
		status int
		body   string
	}{
		"whole":                  {nil, 200, "0123456789"},
		"the rest":               {[]string{"Range", "bytes=4-"}, 206, "456789"},
		"the end":                {[]string{"Range", "bytes=-2"}, 206, "89"},
		"nothing left":           {[]string{"Range", "bytes=10-"}, 416, ""},
		"of this edition":        {[]string{"Range", "bytes=8-", "If-Range", etag}, 206, "89"},
		"of another edition":     {[]string{"Range", "bytes=8-", "If-Range", `"x"`}, 200, "0123456789"},
		"only this edition":      {[]string{"If-Match", etag}, 200, "0123456789"},
		"only another edition":   {[]string{"If-Match", `"x"`}, 412, ""},
		"only if it has changed": {[]string{"If-None-Match", etag}, 304, ""},
	} {
		got := r.as("d1", "GET", path, "", c.header...)
		if got.status != c.status || c.body != "" && got.body != c.body || got.header.Get("ETag") != etag && c.status < 400 {
			t.Errorf("%s: %d %q %v", name, got.status, got.body, got.header)
		}
		if c.status == 416 && got.header.Get("Content-Range") != "bytes */10" {
			t.Errorf("%s: %v", name, got.header)
		}
	}
	if got := r.as("d1", "GET", path, "", "Range", "bytes=0-0,9-9"); got.status != 206 || !strings.HasPrefix(got.header.Get("Content-Type"), "multipart/byteranges") {
		t.Errorf("two parts: %d %v", got.status, got.header)
	}
	if got := r.as("d1", "GET", path+".MD5SUM", ""); got.body != o.Software[0].Artifacts[0].MD5+"  app 1.1.swu" {
		t.Errorf("the checksum: %d %q", got.status, got.body)
	}
	if got := r.as("d1", "GET", "/default/controller/v1/d1/softwaremodules/500/artifacts", ""); got.status != 200 || !strings.Contains(got.body, `"filename":"app 1.1.swu"`) {
		t.Errorf("the list: %d %s", got.status, got.body)
	}
	for _, other := range []string{"/softwaremodules/501/artifacts/app%201.1.swu", "/softwaremodules/400/artifacts/app%201.1.swu", "/softwaremodules/x/artifacts/y", "/softwaremodules/500/artifacts/other"} {
		if got := r.as("d1", "GET", base+"d1"+other, ""); got.status != 404 {
			t.Errorf("%s: %d", other, got.status)
		}
	}
	if got := r.as("d2", "GET", base+"d2/softwaremodules/500/artifacts/app%201.1.swu", ""); got.status != 404 {
		t.Errorf("another's file: %d", got.status)
	}
	if got := r.as("", "GET", path, ""); got.status != 401 {
		t.Errorf("without a token: %d", got.status)
	}
}

func TestWindows(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	r.put("d2", "default")
	noon := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	r.at(noon)
	for _, id := range []string{"d1", "d2"} {
		r.engine.order(id, 1, "1.1", []byte("x"), map[string]string{"window": "23:00-02:00 Europe/Berlin"})
	}
	if r.poll("d1").Links["deploymentBase"].Href != "" {
		t.Error("an order is shown outside its window")
	}
	r.deploy(404, "d1", 1, status("proceeding", "none", "begins"))
	// RAUC's client fetches meanwhile, and holds.
	rauc := []string{"User-Agent", "rauc-hawkbit-c-agent/1.4"}
	got := r.as("d2", "GET", base+"d2/deploymentBase/1", "", rauc...)
	if !strings.Contains(got.body, `"download":"forced","update":"skip","maintenanceWindow":"unavailable"`) {
		t.Errorf("to hold: %d %s", got.status, got.body)
	}
	r.deploy(200, "d2", 1, status("downloaded", "none"), rauc...)
	if got := r.as("d2", "GET", base+"d2/deploymentBase/1", "", rauc...); !strings.Contains(got.body, `"update":"skip"`) {
		t.Errorf("to hold: %d %s", got.status, got.body)
	}
	r.at(noon.Add(9*time.Hour + time.Minute)) // 23:01 in Berlin
	if r.poll("d1").Links["deploymentBase"].Href == "" {
		t.Error("an order is not shown in its window")
	}
	if got := r.as("d2", "GET", base+"d2/deploymentBase/1", "", rauc...); !strings.Contains(got.body, `"update":"forced"`) {
		t.Errorf("to install: %d %s", got.status, got.body)
	}
	r.engine.order("d1", 2, "1.2", []byte("x"), map[string]string{"window": "sometimes"})
	if r.poll("d1").Links["deploymentBase"].Href != "" {
		t.Error("an order is shown whose window cannot be read")
	}
}

func TestConditionalPolls(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	r.engine.order("d1", 1, "1.1", []byte("x"), nil)
	first := r.as("d1", "GET", base+"d1", "")
	if got := r.as("d1", "GET", base+"d1", "", "If-None-Match", first.header.Get("ETag")); got.status != 304 || got.body != "" {
		t.Errorf("nothing new: %d %s", got.status, got.body)
	}
	r.engine.order("d1", 2, "1.2", []byte("x"), nil)
	if got := r.as("d1", "GET", base+"d1", "", "If-None-Match", first.header.Get("ETag")); got.status != 200 {
		t.Errorf("something new: %d", got.status)
	}
}

// A device that is enrolled with a certificate shows that, and no token.
func TestDevicesWithCertificates(t *testing.T) {
	r := newRig(t)
	certificate, thumbprint := selfSigned(t, "d1")
	_, err := r.hub.Devices.Put(t.Context(), link.PutIdentity{
		DeviceID: "d1", Epoch: 1, Auth: link.Auth{Type: link.AuthSelfSigned, PrimaryThumbprint: thumbprint}, Enrollment: "e",
	}, r.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.edge.Token(t.Context(), link.DeviceRef{DeviceID: "d1"}); !problem.Is(err, problem.Conflict) {
		t.Errorf("a token without a key: %v", err)
	}
	server := httptest.NewUnstartedServer(r.edge)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	defer server.Close()
	other, _ := selfSigned(t, "d1")
	for name, c := range map[string]struct {
		shown  []tls.Certificate
		header string
		want   int
	}{
		"its own":            {[]tls.Certificate{certificate}, "", 200},
		"another":            {[]tls.Certificate{other}, "", 401},
		"none":               {nil, "", 401},
		"beside a bad token": {[]tls.Certificate{certificate}, "TargetToken x", 401},
	} {
		transport := server.Client().Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = c.shown
		req, err := http.NewRequest("GET", server.URL+base+"d1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.header != "" {
			req.Header.Set("Authorization", c.header)
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
		transport.CloseIdleConnections()
	}
}

// selfSigned makes a certificate for a device, and its SHA-256.
func selfSigned(t *testing.T, name string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, hex.EncodeToString(digest[:])
}
