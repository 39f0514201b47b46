package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/slipway/slipway/device"
)

// transports are HTTPS clients by the CA they trust, as each keeps its
// connections.
var transports sync.Map

func (in *installation) https() *http.Client {
	made, _ := transports.LoadOrStore(in, &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: in.pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 64,
	}})
	return made.(*http.Client)
}

// provisioningURL is where a device registers over HTTPS.
func (in *installation) provisioningURL(id, rest string) string {
	p := in.ready.Provisioning
	return fmt.Sprintf("https://%s:%d/%s/registrations/%s%s", p.Host, p.HTTPS, p.IDScope, id, rest)
}

// call makes a request as a device of the group.
func (in *installation) call(method, id, rest, body string) (status int, answer string, header http.Header, err error) {
	req, err := http.NewRequest(method, in.provisioningURL(id, rest), bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, "", nil, err
	}
	req.Header.Set("Authorization", string(tokenFor(in.ready.Provisioning.IDScope+"/registrations/"+id, device.DeriveKey(groupKey, id), "registration")))
	resp, err := in.https().Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), resp.Header, err
}

// beginRegistration registers over HTTPS without waiting for the assignment.
func (in *installation) beginRegistration(id string) error {
	status, answer, _, err := in.call("PUT", id, "/register?api-version=2021-06-01", `{"registrationId":"`+id+`"}`)
	if err == nil && (status != http.StatusAccepted || !strings.Contains(answer, `"operationId"`)) {
		err = fmt.Errorf("%d %s", status, answer)
	}
	return err
}
