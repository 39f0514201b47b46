package device

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/sastoken"
)

const (
	maxPacket        = 512 << 10
	answerTimeout    = 30 * time.Second
	registerTimeout  = 5 * time.Minute
	provisionVersion = "2021-06-01"
)

// dial opens a TLS connection to a host as provisioning spells it.
func (c *Client) dial(ctx context.Context, host string) (*mqtt.ClientConn, error) {
	name, address := c.config.address(host)
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	nc, err := c.config.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ServerName: name, RootCAs: c.config.CA, MinVersion: tls.VersionTLS12}
	if c.config.Certificate != nil {
		config.Certificates = []tls.Certificate{*c.config.Certificate}
	}
	secured := tls.Client(nc, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return mqtt.NewClientConn(secured, maxPacket), nil
}

// open connects and speaks CONNECT.
func (c *Client) open(ctx context.Context, host string, connect *mqtt.Connect) (*mqtt.ClientConn, *mqtt.Connack, error) {
	conn, err := c.dial(ctx, host)
	if err != nil {
		return nil, nil, err
	}
	connect.ProtocolName, connect.ProtocolLevel, connect.HasUsername = "MQTT", 4, true
	connect.HasPassword = len(connect.Password) > 0
	connectCtx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	connack, err := conn.Connect(connectCtx, connect)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, connack, nil
}

// token signs for a resource, nil for devices with a certificate.
func (c *Client) token(resource, policy string, life time.Duration) []byte {
	if c.config.Certificate != nil {
		return nil
	}
	return []byte(sastoken.Sign(c.config.Key, url.QueryEscape(resource), time.Now().Add(life), policy))
}

// provision asks where the device belongs.
func (c *Client) provision(ctx context.Context) (Assignment, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	resource := c.config.IDScope + "/registrations/" + c.config.RegistrationID
	conn, connack, err := c.open(ctx, c.config.Provisioning, &mqtt.Connect{
		ClientID: c.config.RegistrationID, CleanSession: true, KeepAlive: 120,
		Username: resource + "/api-version=" + provisionVersion + "&ClientVersion=" + url.QueryEscape(userAgent),
		Password: c.token(resource, "registration", c.config.TokenLife),
	})
	if err != nil {
		return Assignment{}, fmt.Errorf("provisioning: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() { stop(); conn.Close() }()
	if connack.Code != mqtt.Accepted {
		return Assignment{}, &refusal{final: connack.Code != mqtt.ServerUnavailable, message: connack.Code.String()}
	}
	r := &registering{conn: conn}
	if err := conn.Write(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Topic: "$dps/registrations/res/#", QoS: 1}}}); err != nil {
		return Assignment{}, err
	}
	return r.run(ctx, c.config.RegistrationID)
}

// registering is one conversation with provisioning.
type registering struct {
	conn *mqtt.ClientConn
	id   uint16
}

// provisioned is what provisioning answers.
type provisioned struct {
	OperationID string `json:"operationId"`
	Status      string `json:"status"`
	State       struct {
		AssignedHub  string `json:"assignedHub"`
		DeviceID     string `json:"deviceId"`
		ErrorMessage string `json:"errorMessage"`
	} `json:"registrationState"`
	Message string `json:"message"`
}

func (r *registering) run(ctx context.Context, registration string) (Assignment, error) {
	body, err := json.Marshal(map[string]string{"registrationId": registration})
	if err != nil {
		return Assignment{}, err
	}
	answer, wait, err := r.ask("$dps/registrations/PUT/iotdps-register/?$rid=1", body)
	for err == nil && answer.Status != "assigned" {
		if answer.Status != "assigning" && answer.Status != "unassigned" || answer.OperationID == "" {
			return Assignment{}, &refusal{final: true, message: answer.Status + ": " + answer.State.ErrorMessage}
		}
		if !sleep(ctx, wait) {
			return Assignment{}, ctx.Err()
		}
		answer, wait, err = r.ask("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId="+url.QueryEscape(answer.OperationID), nil)
	}
	if err != nil {
		return Assignment{}, err
	}
	return Assignment{Hub: answer.State.AssignedHub, DeviceID: answer.State.DeviceID}, nil
}

// ask publishes a request and waits for its answer and how long to wait
// before the next.
func (r *registering) ask(topic string, body []byte) (provisioned, time.Duration, error) {
	r.id++
	if err := r.conn.Write(&mqtt.Publish{Topic: topic, Payload: body, QoS: 1, PacketID: r.id + 1}); err != nil {
		return provisioned{}, 0, err
	}
	if err := r.conn.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return provisioned{}, 0, err
	}
	for {
		packet, err := r.conn.Next()
		if err != nil {
			return provisioned{}, 0, fmt.Errorf("provisioning: %w", err)
		}
		p, ok := packet.(*mqtt.Publish)
		if !ok {
			continue
		}
		rest, ok := strings.CutPrefix(p.Topic, "$dps/registrations/res/")
		if !ok {
			continue
		}
		if p.QoS > 0 {
			if err := r.conn.Write(&mqtt.Puback{PacketID: p.PacketID}); err != nil {
				return provisioned{}, 0, err
			}
		}
		return readAnswer(rest, p.Payload)
	}
}

// readAnswer reads {status}/?$rid=…&retry-after=… and its body.
func readAnswer(topic string, body []byte) (answer provisioned, wait time.Duration, err error) {
	text, query, _ := strings.Cut(topic, "/?")
	status, err := strconv.Atoi(text)
	if err != nil {
		return answer, 0, fmt.Errorf("provisioning answered on %q", topic)
	}
	wait = 2 * time.Second
	for field := range strings.SplitSeq(query, "&") {
		if value, ok := strings.CutPrefix(field, "retry-after="); ok {
			wait = max(time.Second, afterOf(value))
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, 0, fmt.Errorf("provisioning answered %d with %q", status, body)
	}
	if status >= 300 {
		return answer, wait, &refusal{final: !transient(status), retryAfter: wait, message: fmt.Sprintf("%d: %s", status, answer.Message)}
	}
	return answer, wait, nil
}
