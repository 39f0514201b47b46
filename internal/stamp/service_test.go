package stamp_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/throttle"
)

// backEnd makes requests of a stamp as a back end with all rights.
type backEnd struct {
	t     *testing.T
	url   string
	token string
}

func (r *rig) backEnd() backEnd {
	r.t.Helper()
	server := httptest.NewServer(r.stamp.HTTPHandler())
	r.t.Cleanup(server.Close)
	for _, p := range ask(r, link.PolicyList, link.None{}).Items {
		if p.Name == "iothubowner" {
			return backEnd{r.t, server.URL, sastoken.Sign(p.PrimaryKey, host, time.Now().Add(time.Hour), p.Name)}
		}
	}
	r.t.Fatal("there is no policy iothubowner")
	return backEnd{}
}

// said is an answer.
type said struct {
	code   int
	header http.Header
	text   string
}

func (b backEnd) do(method, path, body string, header ...string) said {
	b.t.Helper()
	return b.as(b.token, method, path, body, header...)
}

func (b backEnd) as(token, method, path, body string, header ...string) said {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path+"?api-version=2021-04-12", strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Authorization", token)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return said{resp.StatusCode, resp.Header, string(text)}
}

func (b backEnd) must(method, path, body string, header ...string) map[string]any {
	b.t.Helper()
	a := b.do(method, path, body, header...)
	var document map[string]any
	if a.code > 204 || a.text != "" && a.text[0] == '{' && json.Unmarshal([]byte(a.text), &document) != nil {
		b.t.Fatalf("%s %s: %d %s", method, path, a.code, a.text)
	}
	return document
}

// refused checks an error as SDKs parse it.
func (b backEnd) refused(what string, a said, code int, name string) {
	b.t.Helper()
	var body struct{ Message, ExceptionMessage string }
	if err := json.Unmarshal([]byte(a.text), &body); err != nil || a.code != code || a.header.Get("Iothub-Errorcode") != name ||
		!strings.HasPrefix(body.Message, "ErrorCode:"+name+";") || !strings.HasPrefix(body.ExceptionMessage, "Tracking ID:") || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		b.t.Errorf("%s: %d %s %v", what, a.code, a.text, a.header)
	}
}

func TestEachKindOfOperationIsHeldToItsRate(t *testing.T) {
	t.Parallel()
	limits := hub.DefaultLimits
	limits.Operations = maps.Clone(throttle.Default)
	maps.Copy(limits.Operations, throttle.Rates{throttle.Queries: 0.2, throttle.Registry: 0.2, throttle.TwinReads: 0.2, throttle.TwinUpdates: 0.2})
	r := newRigOf(t, limits)
	r.put("d", 1)
	b := r.backEnd()
	query := func() said { return b.do("POST", "/devices/query", `{"query":"SELECT * FROM devices"}`) }
	if a := query(); a.code != 200 {
		t.Fatalf("the first: %d %s", a.code, a.text)
	}
	a := query()
	b.refused("the second", a, 429, "ThrottlingException")
	if after, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || after < 1 || after > 5 || !strings.Contains(a.text, "Operation type: queries") {
		t.Errorf("the second: %v, %s", a.header, a.text)
	}
	if a := b.do("GET", "/devices/d", ""); a.code != 200 {
		t.Errorf("another kind: %d %s", a.code, a.text)
	}
	b.refused("in bulk", b.do("POST", "/devices", `[{"id":"a"},{"id":"b"}]`), 429, "ThrottlingException")
	c := r.connect("d", true)
	c.subscribe(mqtt.Filter{Topic: twinFilter})
	for i, want := range []string{"200", "429"} {
		c.send(&mqtt.Publish{Topic: fmt.Sprintf("$iothub/twin/GET/?$rid=%d", i)})
		if _, body := c.expect(fmt.Sprintf("$iothub/twin/res/%s/?$rid=%d", want, i)); want == "429" && !strings.Contains(body, `"errorCode":429001`) {
			t.Errorf("the body is %s", body)
		}
	}
	for i, want := range []string{"204", "429"} {
		c.send(&mqtt.Publish{Topic: fmt.Sprintf("$iothub/twin/PATCH/properties/reported/?$rid=p%d", i), Payload: []byte(`{"a":1}`)})
		if _, body := c.expect(fmt.Sprintf("$iothub/twin/res/%s/?$rid=p%d", want, i)); want == "429" && !strings.Contains(body, `"errorCode":429001`) {
			t.Errorf("the body is %s", body)
		}
	}
}

func TestOddIDsAreAsGoodAsOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.backEnd()
	for _, id := range []string{`-.+%_#*?!(),=@$':`, "%2F", "a%20b", "...", "a.b.*", "x?api-version=1", "d'", "$iothub", "::1"} {
		path := url.PathEscape(id)
		made := b.must("PUT", "/devices/"+path, `{"deviceId":`+strconv.Quote(id)+`}`)
		if made["deviceId"] != id {
			t.Fatalf("%s was made as %v", id, made)
		}
		own, err := base64.StdEncoding.DecodeString(made["authentication"].(map[string]any)["symmetricKey"].(map[string]any)["primaryKey"].(string))
		if err != nil {
			t.Fatal(err)
		}
		b.must("PUT", "/devices/"+path+"/modules/"+path, `{}`)
		b.must("PATCH", "/twins/"+path, `{"tags":{"größe":"µ-\u0001","name":`+strconv.Quote(id)+`}}`)
		quoted := strings.ReplaceAll(strings.ReplaceAll(id, `\`, `\\`), `'`, `\'`)
		for _, condition := range []string{"deviceId = '" + quoted + "'", "tags.name = '" + quoted + "'", "tags.größe = 'µ-\\u0001' AND deviceId = '" + quoted + "'"} {
			text, err := json.Marshal(map[string]string{"query": "SELECT * FROM devices WHERE " + condition})
			if err != nil {
				t.Fatal(err)
			}
			var found []map[string]any
			a := b.do("POST", "/devices/query", string(text))
			if err := json.Unmarshal([]byte(a.text), &found); err != nil || len(found) != 1 || found[0]["deviceId"] != id {
				t.Errorf("%s: %d %s", condition, a.code, a.text)
			}
		}
		// Some SDKs encode the whole resource, others the id within it as well.
		token := sastoken.Sign(own, url.PathEscape(host+"/devices/"+id), time.Now().Add(time.Hour), "")
		if a := b.as(token, "POST", "/devices/"+path+"/messages/events", "", "iothub-app-Line", "7"); a.code != 204 {
			t.Errorf("%s sent: %d %s", id, a.code, a.text)
		}
		if a := b.as(token, "POST", "/devices/"+path+"/messages/events", `[{"body":"","properties":{"iothub-app-Groß":"ü & =","iothub-messageid":"m"}}]`, "Content-Type", "application/vnd.microsoft.iothub.json"); a.code != 204 {
			t.Errorf("%s sent a batch: %d %s", id, a.code, a.text)
		}
		page := ask(r, link.TelemetryRead, link.ReadLog{DeviceID: id})
		if len(page.Items) != 2 || page.Items[0].Properties["line"] != "7" || page.Items[1].Properties["Groß"] != "ü & =" || page.Items[1].SystemProperties["messageId"] != "m" || page.Items[1].DeviceID != id {
			t.Errorf("%s said %+v", id, page.Items)
		}
		if !strings.ContainsAny(id, "#+") {
			connect := connectOf(id, true)
			connect.Password = []byte(sastoken.Sign(own, url.QueryEscape(host+"/devices/"+url.PathEscape(id)), time.Now().Add(time.Hour), ""))
			c, code := r.dial(connect)
			if code != mqtt.Accepted {
				t.Errorf("%s over MQTT: %s", id, code)
				continue
			}
			c.subscribe(mqtt.Filter{Topic: "devices/" + id + "/messages/devicebound/#", QoS: 1})
			c.send(&mqtt.Publish{Topic: "devices/" + id + "/messages/events/", QoS: 1, PacketID: 9})
			expectPacket[mqtt.Puback](c)
			ask(r, link.MessageSend, link.SendMessage{DeviceID: id, Properties: map[string]string{"größe & =": "µ"}})
			if topic, body := c.expect("devices/" + id + "/messages/devicebound/"); body != "" || !strings.Contains(topic, "gr%C3%B6%C3%9Fe%20%26%20%3D=%C2%B5") {
				t.Errorf("%s was sent %s %q", id, topic, body)
			}
		}
		b.must("DELETE", "/devices/"+path, "")
		b.refused("gone", b.do("GET", "/devices/"+path+"/modules/"+path, ""), 404, "ModuleNotFound")
	}
}

func TestPreconditionsAndRefusalsAsSDKsReadThem(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.backEnd()
	made := b.must("PUT", "/devices/d", `{"deviceId":"d"}`)
	etag := made["etag"].(string)
	body := `{"deviceId":"d","status":"enabled"}`
	for _, stale := range []string{`"AAAA"`, "AAAA", `W/"AAAA"`} {
		b.refused("a stale change "+stale, b.do("PUT", "/devices/d", body, "If-Match", stale), 412, "PreconditionFailed")
		b.refused("a stale deletion "+stale, b.do("DELETE", "/devices/d", "", "If-Match", stale), 412, "PreconditionFailed")
		b.refused("a stale twin "+stale, b.do("PATCH", "/twins/d", `{"tags":{"a":1}}`, "If-Match", stale), 412, "PreconditionFailed")
	}
	for _, form := range []string{`"%s"`, `%s`, `W/"%s"`} {
		etag = b.must("PUT", "/devices/d", body, "If-Match", fmt.Sprintf(form, etag))["etag"].(string)
	}
	for _, any := range []string{`*`, `"*"`} {
		b.must("PUT", "/devices/d", body, "If-Match", any)
		b.must("PATCH", "/twins/d", `{"tags":{"a":1}}`, "If-Match", any)
	}
	// What a change does not name of the credentials stays.
	b.must("PUT", "/devices/x509", `{"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"`+strings.Repeat("AB", 20)+`"}}}`)
	after := b.must("PUT", "/devices/x509", `{"status":"disabled","statusReason":"größer"}`, "If-Match", "*")
	kept := after["authentication"].(map[string]any)
	if kept["type"] != "selfSigned" || kept["x509Thumbprint"].(map[string]any)["primaryThumbprint"] != strings.Repeat("AB", 20) || after["status"] != "disabled" || after["statusReason"] != "größer" {
		t.Errorf("a change of the status alone made it %v", after)
	}
	for what, c := range map[string]struct {
		method, path, body, ifMatch string
		code                        int
		name                        string
	}{
		"a device that is there":          {"PUT", "/devices/d", body, "", 409, "DeviceAlreadyExists"},
		"a change of nobody":              {"PUT", "/devices/x", `{"deviceId":"x"}`, `"*"`, 404, "DeviceNotFound"},
		"another in the body":             {"PUT", "/devices/d", `{"deviceId":"e"}`, "", 400, "ArgumentInvalid"},
		"a body that is none":             {"PUT", "/devices/y", `{`, "", 400, "IotHubFormatError"},
		"an id that is none":              {"PUT", "/devices/a%2Fb%20c", `{}`, "", 400, "ArgumentInvalid"},
		"a slash in an id":                {"PUT", "/devices/a%2Fb", `{}`, "", 400, "ArgumentInvalid"},
		"a slash in an id that is read":   {"GET", "/twins/a%2Fb", "", "", 400, "ArgumentInvalid"},
		"a slash in a module's id":        {"PUT", "/devices/d/modules/a%2Fb", `{}`, "", 400, "ArgumentInvalid"},
		"modules of nobody":               {"GET", "/devices/x/modules", "", "", 404, "DeviceNotFound"},
		"a module of nobody":              {"PUT", "/devices/x/modules/m", `{}`, "", 404, "DeviceNotFound"},
		"a module that is not there":      {"GET", "/devices/d/modules/m", "", "", 404, "ModuleNotFound"},
		"a twin of nobody":                {"GET", "/twins/x", "", "", 404, "DeviceNotFound"},
		"a twin that is no object":        {"PATCH", "/twins/d", `[]`, "", 400, "ArgumentInvalid"},
		"a twin too deep":                 {"PATCH", "/twins/d", `{"tags":` + strings.Repeat(`{"a":`, 12) + "1" + strings.Repeat("}", 13), "", 400, "ArgumentInvalid"},
		"a query that is none":            {"POST", "/devices/query", `{"query":"SELECT"}`, "", 400, "ArgumentInvalid"},
		"a configuration nobody has made": {"GET", "/configurations/c", "", "", 404, "ConfigurationNotFound"},
		"a job nobody has made":           {"GET", "/jobs/v2/j", "", "", 404, "JobNotFound"},
	} {
		var header []string
		if c.ifMatch != "" {
			header = []string{"If-Match", c.ifMatch}
		}
		b.refused(what, b.do(c.method, c.path, c.body, header...), c.code, c.name)
	}
}
