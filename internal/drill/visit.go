package drill

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/sastoken"
)

// twin is what a device reads of its twin.
type twin struct {
	Desired struct {
		Version int64 `json:"$version"`
	} `json:"desired"`
}

const visitTime = 30 * time.Second

// visit connects as a device does that was there before, and reads its twin.
func visit(ctx context.Context, ca *x509.CertPool, host string, port int, id string, key []byte) (t twin, err error) {
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	address := host
	if net.ParseIP(host) == nil {
		address = "127.0.0.1" // the name leads elsewhere: here there is nothing but this
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: ca, ServerName: host, MinVersion: tls.VersionTLS12}}
	raw, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		return t, err
	}
	conn := mqtt.NewClientConn(raw, 512<<10)
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetReadDeadline(time.Now().Add(visitTime)); err != nil {
		return t, err
	}
	scope := url.QueryEscape(host + "/devices/" + id)
	connack, err := conn.Connect(ctx, &mqtt.Connect{
		ProtocolName: "MQTT", ProtocolLevel: 4, ClientID: id, CleanSession: true, KeepAlive: 30, HasUsername: true, HasPassword: true,
		Username: host + "/" + id + "/?api-version=2021-04-12", Password: []byte(sastoken.Sign(key, scope, time.Now().Add(time.Hour), "")),
	})
	if err != nil {
		return t, err
	}
	if connack.Code != mqtt.Accepted {
		return t, fmt.Errorf("it was refused with code %d", connack.Code)
	}
	err = conn.Write(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Topic: "$iothub/twin/res/#"}}}, &mqtt.Publish{Topic: "$iothub/twin/GET/?$rid=1"})
	if err != nil {
		return t, err
	}
	for {
		packet, err := conn.Next()
		if err != nil {
			return t, err
		}
		answer, ok := packet.(*mqtt.Publish)
		if !ok || !strings.HasPrefix(answer.Topic, "$iothub/twin/res/") {
			continue
		}
		if !strings.HasPrefix(answer.Topic, "$iothub/twin/res/200/") {
			return t, fmt.Errorf("its twin was answered with %s", answer.Topic)
		}
		return t, json.Unmarshal(answer.Payload, &t)
	}
}
