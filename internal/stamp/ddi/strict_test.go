package ddi_test

import (
	"bufio"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/stamp/device"
)

// small is a client as Zephyr's: one connection for everything, buffers of
// fixed length, no chunks, texts found by search.
type small struct {
	t      *testing.T
	conn   net.Conn
	reader *bufio.Reader
	host   string
	token  string
}

// ask returns the body of an answer, which must be 200 and say how long it is.
func (s *small) ask(method, path, body string) string {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.conn, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: TargetToken %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		method, path, s.host, s.token, len(body), body); err != nil {
		s.t.Fatal(err)
	}
	status, err := s.reader.ReadString('\n')
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		s.t.Fatalf("%s %s: %s", method, path, status)
	}
	length := -1
	for {
		line, err := s.reader.ReadString('\n')
		if err != nil {
			s.t.Fatal(err)
		}
		line = strings.TrimSpace(line)
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		switch {
		case strings.EqualFold(name, "Transfer-Encoding"), strings.EqualFold(name, "Connection") && strings.Contains(value, "close"):
			s.t.Fatalf("%s %s: %s", method, path, line)
		case strings.EqualFold(name, "Content-Length"):
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	if length < 0 {
		s.t.Fatalf("%s %s: no Content-Length", method, path)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(s.reader, text); err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// linkTo is the part of a link from what the client looks for on.
func (s *small) linkTo(text, what string, room int) string {
	s.t.Helper()
	at := strings.Index(text, what)
	if at < 0 {
		s.t.Fatalf("%q is not in %s", what, text)
	}
	found, _, _ := strings.Cut(text[at:], `"`)
	if len(found) > room {
		s.t.Fatalf("%q has %d characters, and there is room for %d", found, len(found), room)
	}
	return found
}

func TestAClientWithSmallBuffers(t *testing.T) {
	r := newRig(t)
	const id = "nrf52840dk_nrf52840-0123456789abcdef"
	r.put(id, "default")
	content := []byte(strings.Repeat("image ", 5000))
	r.engine.order(id, 2147483646, "1.1", content, nil)
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	s := &small{t, conn, bufio.NewReader(conn), "hub", device.UpdateToken(keyOf(id), id)}
	if len(s.token) != 32 {
		t.Errorf("a token has %d characters", len(s.token))
	}
	root := s.ask("GET", "/default/controller/v1/"+id, "")
	if sleep := s.linkTo(strings.TrimPrefix(root[strings.Index(root, `"sleep":"`):], `"sleep":"`), "", 8); len(sleep) != 8 {
		t.Errorf("it is to sleep %q", sleep)
	}
	s.ask("PUT", "/default/controller/v1/"+id+"/configData", `{"mode":"merge","data":{"VIN":"0123456789abcdef","hwRevision":"3"}}`)
	if got := r.engine.last(id); got.Hardware != "3" {
		t.Errorf("reported %+v", got)
	}
	order := s.ask("GET", "/default/controller/v1/"+id+"/"+s.linkTo(root, "deploymentBase/", 49), "")
	var parsed struct {
		ID         string
		Deployment struct {
			Chunks []struct {
				Part      string
				Artifacts []struct {
					Size   int
					Hashes struct{ SHA256 string }
				}
			}
		}
	}
	r.parse(order, &parsed)
	if n, err := strconv.ParseInt(parsed.ID, 10, 32); err != nil || n < 1 || len(parsed.Deployment.Chunks) != 1 || parsed.Deployment.Chunks[0].Part != "bApp" || len(parsed.Deployment.Chunks[0].Artifacts) != 1 {
		t.Fatalf("the order is %s", order)
	}
	if !strings.Contains(order, `"download-http":{"href":`) {
		t.Errorf("no link that it knows: %s", order)
	}
	image := s.ask("GET", s.linkTo(order, "/DEFAULT/controller/v1", 199), "")
	digest := sha256.Sum256([]byte(image))
	if hex.EncodeToString(digest[:]) != parsed.Deployment.Chunks[0].Artifacts[0].Hashes.SHA256 || len(image) != parsed.Deployment.Chunks[0].Artifacts[0].Size {
		t.Error("the image is another one")
	}
	// It restarts, finds the same action, and is done.
	if again := s.ask("GET", "/default/controller/v1/"+id, ""); !strings.Contains(again, "deploymentBase/"+parsed.ID) {
		t.Errorf("after the restart: %s", again)
	}
	s.ask("POST", "/default/controller/v1/"+id+"/deploymentBase/"+parsed.ID+"/feedback", `{"id":"`+parsed.ID+`","status":{"result":{"finished":"success"},"execution":"closed"}}`)
	if got := r.engine.last(id); got.Order != 2147483646 || got.Phase != link.OrderInstalling {
		t.Errorf("reported %+v", got)
	}
}

// An address without its checksum is none to the Python client; and it sends
// members that say nothing.
func TestAClientThatWantsTheChecksum(t *testing.T) {
	r := newRig(t)
	r.put("d1", "acme")
	r.engine.order("d1", 9, "1.1", []byte("x"), map[string]string{"part": "os", "board": "b1"})
	var shown root
	r.parse(r.as("d1", "GET", "/acme/controller/v1/d1", "", "Accept", "application/json").body, &shown)
	address, err := url.Parse(shown.Links["deploymentBase"].Href)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strconv.ParseInt(address.Query().Get("c"), 10, 32); err != nil {
		t.Fatalf("the address is %s", address)
	}
	got := r.as("d1", "GET", address.String(), "", "Accept", "application/json")
	if got.header.Get("Content-Type") != "application/json" || !strings.Contains(got.body, `"metadata":[{"key":"board","value":"b1"}]`) || !strings.Contains(got.body, `"part":"os"`) || !strings.Contains(got.body, "/ACME/controller/v1/d1/softwaremodules/900/artifacts/") {
		t.Errorf("%s: %s", got.header.Get("Content-Type"), got.body)
	}
	for _, body := range []string{
		`{"id":"9","status":{"execution":"proceeding","result":{"finished":"none","progress":{}},"details":[""]}}`,
		`{"id":"9","time":"20260101T000000","status":{"execution":"download","result":{"finished":"none","progress":{"cnt":"a"}},"details":null},"more":[1]}`,
		`{"status":{"execution":"closed","code":0,"timestamp":1,"result":{"finished":"success"}}}`,
	} {
		got := r.as("d1", "POST", "/acme/controller/v1/d1/deploymentBase/9/feedback", body)
		if got.status != http.StatusOK {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
}

// hara asks again with what it has, and takes only links that are called http.
func TestAClientThatAsksForChanges(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	r.engine.order("d1", 1, "1.1", []byte("x"), nil)
	tags := map[string]string{}
	get := func(address string) (status int, body string) {
		got := r.as("d1", "GET", address, "", "If-None-Match", tags[address], "Accept", "application/hal+json")
		if got.status == 200 {
			tags[address] = got.header.Get("ETag")
		}
		return got.status, got.body
	}
	_, first := get(base + "d1")
	if status, _ := get(base + "d1"); status != http.StatusNotModified {
		t.Errorf("nothing new: %d", status)
	}
	var shown root
	r.parse(first, &shown)
	at := shown.Links["deploymentBase"].Href
	_, order := get(at)
	if status, _ := get(at); status != http.StatusNotModified {
		t.Errorf("the same order: %d", status)
	}
	var document map[string]any
	decoder := json.NewDecoder(strings.NewReader(order))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil || strings.Contains(order, `"download":{`) {
		t.Errorf("%v: %s", err, order)
	}
	// Another order has another address.
	r.engine.order("d1", 2, "1.2", []byte("y"), nil)
	status, next := get(base + "d1")
	r.parse(next, &shown)
	if status != 200 || shown.Links["deploymentBase"].Href == at {
		t.Errorf("%d %s", status, next)
	}
}

// RAUC's updater takes nothing but 200 and ids that are texts, wants one file in
// one chunk, goes on where a download ended, and sends each line of its log.
func TestAClientThatSendsEachLine(t *testing.T) {
	r := newRig(t)
	r.put("d1", "default")
	content := []byte(strings.Repeat("bundle ", 1000))
	r.engine.order("d1", 4, "2.0", content, map[string]string{"part": "os"})
	rauc := []string{"User-Agent", "rauc-hawkbit-c-agent/1.0"}
	ask := func(method, address, body string, header ...string) reply {
		t.Helper()
		got := r.as("d1", method, address, body, append(header, rauc...)...)
		if len(header) == 0 && got.status != http.StatusOK {
			t.Fatalf("%s %s: %d %s", method, address, got.status, got.body)
		}
		return got
	}
	var shown root
	r.parse(ask("GET", base+"d1", "").body, &shown)
	ask("PUT", shown.Links["configData"].Href, `{"mode":"merge","data":{"hardware":"b","version":"1.0"}}`)
	var order struct {
		ID         string
		Deployment struct {
			Chunks []struct {
				Artifacts []struct {
					Hashes struct{ SHA1 string }
					Links  map[string]struct{ Href string } `json:"_links"`
				}
			}
		}
	}
	r.parse(ask("GET", shown.Links["deploymentBase"].Href, "").body, &order)
	if len(order.Deployment.Chunks) != 1 || len(order.Deployment.Chunks[0].Artifacts) != 1 {
		t.Fatalf("the order is %+v", order)
	}
	file := order.Deployment.Chunks[0].Artifacts[0]
	at := file.Links["download-http"].Href
	got := content[:1234]
	rest := ask("GET", at, "", "Range", "bytes=1234-")
	got = append(got[:len(got):len(got)], rest.body...)
	if digest := sha1.Sum(got); rest.status != http.StatusPartialContent || hex.EncodeToString(digest[:]) != file.Hashes.SHA1 {
		t.Errorf("the rest: %d, %d bytes in all", rest.status, len(got))
	}
	if whole := ask("GET", at, "", "Range", fmt.Sprintf("bytes=%d-", len(content))); whole.status != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("nothing left: %d", whole.status)
	}
	before := len(r.engine.reports["d1"])
	for i := range 23 {
		ask("POST", base+"d1/deploymentBase/4/feedback", status("proceeding", "none", fmt.Sprintf("%d%% Copying image", 4*i)))
	}
	if n := len(r.engine.reports["d1"]) - before; n != 1 {
		t.Errorf("lines of a log were reported %d times", n)
	}
	ask("POST", base+"d1/deploymentBase/4/feedback", status("closed", "success", "Software bundle installed successful."))
	if got := r.engine.last("d1"); got.Phase != link.OrderInstalling || got.Progress != 100 {
		t.Errorf("reported %+v", got)
	}
	// After the restart.
	shown = r.poll("d1")
	ask("PUT", shown.Links["configData"].Href, `{"mode":"merge","data":{"hardware":"b","version":"2.0"}}`)
	if got := r.engine.last("d1"); got.Phase != link.OrderConfirmed || got.Order != 4 {
		t.Errorf("reported %+v", got)
	}
}
