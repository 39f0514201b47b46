package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/up"
)

// TestDevicesWorkOverHTTPSAndWebSockets lets the unmodified device SDK send,
// receive and upload without MQTT's own port.
func TestDevicesWorkOverHTTPSAndWebSockets(t *testing.T) {
	t.Parallel()
	in := start(t)
	s := in.stamp("test-1")
	service := in.policy("test-1", "iothubowner").PrimaryConnectionString
	uploaded := map[string]string{}
	in.driveWith(t, "devicehttp.js", s, map[string]any{"service": service, "host": s.Host}, func(line string) string {
		if strings.HasPrefix(line, "READY") {
			for _, args := range [][]string{{"first", "--message-id", "c2d-1", "--property", "k=v"}, {"second"}, {"third"}} {
				in.must(append([]string{"device", "message", "send", "web-1"}, args...)...)
			}
		}
		if text, ok := strings.CutPrefix(line, "UPLOADED "); ok {
			var file struct{ Name, Sha string }
			if err := json.Unmarshal([]byte(text), &file); err != nil {
				t.Error(err)
			}
			uploaded[file.Name] = file.Sha
		}
		return ""
	})
	if len(uploaded) != 2 {
		t.Fatalf("uploaded %v", uploaded)
	}
	for name, sum := range uploaded {
		file := in.must("upload", "get", "test-1", "web-1/"+name)
		if got := sha256.Sum256([]byte(file)); hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s came back as %d other bytes", name, len(file))
		}
	}
	if out := in.must("upload", "list", "test-1", "--device", "web-1"); strings.Count(out, "completed") != 2 {
		t.Errorf("the uploads are\n%s", out)
	}
	if out := in.must("device", "messages", "web-1", "--json"); !strings.Contains(out, `"seven \u0026 more"`) || !strings.Contains(out, `"messageId":"m-1"`) {
		t.Errorf("the log holds %s", out)
	}
}

// hubHTTP makes requests of a hub as a plain HTTP client.
type hubHTTP struct {
	t      *testing.T
	client *http.Client
	stamp  up.ReadyStamp
}

func (in *installation) hubHTTP(s up.ReadyStamp) hubHTTP {
	return hubHTTP{in.t, &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: in.tls(s.Host)}}, s}
}

func (h hubHTTP) do(method, path, token string, header map[string]string, body string) (int, http.Header, string) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), method, "https://"+h.stamp.Host+":"+strconv.Itoa(h.stamp.HTTPS)+path, bytes.NewReader([]byte(body)))
	if err != nil {
		h.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	resp, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func TestTheHubRefusesWhatItShould(t *testing.T) {
	t.Parallel()
	in := start(t)
	s := in.stamp("test-1")
	hub := in.hubHTTP(s)
	owner := in.policy("test-1", "iothubowner")
	key, err := base64.StdEncoding.DecodeString(owner.PrimaryKey)
	if err != nil {
		t.Fatal(err)
	}
	token := sastoken.Sign(key, url.QueryEscape(s.Host), time.Now().Add(time.Hour), "iothubowner")
	deviceKey := []byte("0123456789abcdef0123456789abcdef")
	for _, id := range []string{"d", "other"} {
		if code, _, text := hub.do("PUT", "/devices/"+id+"?api-version=2021-04-12", token, nil, `{"deviceId":"`+id+`","authentication":{"symmetricKey":{"primaryKey":"`+base64.StdEncoding.EncodeToString(deviceKey)+`"}}}`); code != 200 {
			t.Fatalf("create: %d %s", code, text)
		}
	}
	own := sastoken.Sign(deviceKey, url.QueryEscape(s.Host+"/devices/d"), time.Now().Add(time.Hour), "")
	expired := sastoken.Sign(deviceKey, url.QueryEscape(s.Host+"/devices/d"), time.Now().Add(-time.Hour), "")
	for name, c := range map[string]struct {
		method, path, token, body string
		header                    map[string]string
		code                      int
		says                      string
	}{
		"no token":                 {"POST", "/devices/d/messages/events", "", "x", nil, 401, "ErrorCode:IotHubUnauthorizedAccess;"},
		"an expired token":         {"POST", "/devices/d/messages/events", expired, "x", nil, 401, "IotHubUnauthorizedAccess"},
		"another device":           {"POST", "/devices/other/messages/events", own, "x", nil, 401, "IotHubUnauthorizedAccess"},
		"an odd id":                {"POST", "/devices/a%2Fb/messages/events", own, "x", nil, 400, "no slash"},
		"the registry as a device": {"GET", "/devices/d", own, "", nil, 401, "its own modules"},
		"an unknown path":          {"GET", "/devices/d/nothing", own, "", nil, 404, "InvalidProtocolVersion"},
		"a foreign lock":           {"DELETE", "/devices/d/messages/devicebound/nothing", own, "", nil, 412, "DeviceMessageLockLost"},
		"an empty batch":           {"POST", "/devices/d/messages/events", own, "[]", map[string]string{"Content-Type": "application/vnd.microsoft.iothub.json"}, 400, "1 to 500"},
		"a batch that is none":     {"POST", "/devices/d/messages/events", own, "{", map[string]string{"Content-Type": "application/vnd.microsoft.iothub.json"}, 400, "a batch is an array"},
		"a message too large":      {"POST", "/devices/d/messages/events", own, strings.Repeat("x", 262145), nil, 413, "at most 262144"},
		"a path for a file":        {"POST", "/devices/d/files", own, `{"blobName":"../../x"}`, nil, 400, "not dots"},
		"no such upload":           {"POST", "/devices/d/files/notifications/x", own, `{"isSuccess":true}`, nil, 404, "no upload"},
		"an unsigned file":         {"GET", "/uploads/d/x", "", "", nil, 403, "<Code>AuthenticationFailed</Code>"},
		"a forged file":            {"PUT", "/uploads/d/x?sp=rw&se=2099-01-01T00:00:00Z&scid=1&sig=aaaa", "", "", nil, 403, "AuthenticationFailed"},
		"a query of another hub":   {"POST", "/devices/query", sastoken.Sign(key, "elsewhere", time.Now().Add(time.Hour), "iothubowner"), `{}`, nil, 401, "not for this service"},
		"a bad page":               {"POST", "/devices/query", token, `{"query":"SELECT * FROM devices"}`, map[string]string{"x-ms-max-item-count": "5000"}, 400, "1 to 1000"},
		"a foreign continuation":   {"POST", "/devices/query", token, `{"query":"SELECT * FROM devices"}`, map[string]string{"x-ms-continuation": "e30"}, 400, "not one of this query"},
		"a query that nests":       {"POST", "/devices/query", token, `{"query":"SELECT * FROM devices WHERE ` + strings.Repeat("(", 2000) + `"}`, nil, 400, "nested at most"},
		"a stale twin":             {"PATCH", "/twins/d", token, `{"tags":{"a":1}}`, map[string]string{"If-Match": `"bm8="`}, 412, "PreconditionFailed"},
		"a method to nobody":       {"POST", "/twins/d/methods", token, `{"methodName":"x","responseTimeoutInSeconds":5}`, nil, 404, `\"errorCode\":404103`},
	} {
		code, header, text := hub.do(c.method, c.path+sep(c.path)+"api-version=2021-04-12", c.token, c.header, c.body)
		matched := false
		for want := range strings.SplitSeq(c.says, "|") {
			matched = matched || strings.Contains(text, want)
		}
		if code != c.code || !matched {
			t.Errorf("%s: %d %s %v", name, code, text, header)
		}
	}
	if code, _, text := hub.do("POST", "/devices/d/messages/events?api-version=2021-04-12", own, map[string]string{"iothub-app-a": "b"}, "fine"); code != 204 {
		t.Errorf("after all that: %d %s", code, text)
	}
	people := "Bearer " + in.ready.AdminToken
	if code, _, text := hub.do("GET", "/statistics/devices", people, nil, ""); code != 200 || !strings.Contains(text, `"totalDeviceCount":2`) {
		t.Errorf("with a token of ours: %d %s", code, text)
	}
}

func sep(path string) string {
	if strings.Contains(path, "?") {
		return "&"
	}
	return "?"
}
