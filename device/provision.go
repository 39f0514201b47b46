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

	"github.com/slipway/slipway/device/retry"
	"github.com/slipway/slipway/internal/mqtt"
	"github.com/slipway/slipway/internal/sastoken"
)

const (
	maxPacket        = 512 << 10
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
	config.ClientSessionCache = c.sessions
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
	return []byte(sastoken.Sign(c.config.Key, escape(resource), c.config.Clock().Add(life), policy))
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
	stop := context.AfterFunc(ctx, func() { c.hangUp(conn) })
	defer func() { stop(); c.hangUp(conn) }()
	if connack.Code != mqtt.Accepted {
		return Assignment{}, refusedConnect(false, connack.Code)
	}
	r := &registering{client: c, conn: conn}
	assignment, err := r.run(ctx)
	if ctx.Err() != nil {
		err = ctx.Err() // the reason why the connection failed
	}
	return assignment, err
}

// registering is one conversation with provisioning.
type registering struct {
	client *Client
	conn   *mqtt.ClientConn
	id     uint16
}

// provisioned is what provisioning answers.
type provisioned struct {
	OperationID string `json:"operationId"`
	Status      string `json:"status"`
	State       struct {
		AssignedHub  string `json:"assignedHub"`
		DeviceID     string `json:"deviceId"`
		ErrorCode    int    `json:"errorCode"`
		ErrorMessage string `json:"errorMessage"`
	} `json:"registrationState"`
}

func (r *registering) run(ctx context.Context) (Assignment, error) {
	if err := r.conn.Write(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Topic: "$dps/registrations/res/#", QoS: 1}}}); err != nil {
		return Assignment{}, err
	}
	body, err := json.Marshal(map[string]string{"registrationId": r.client.config.RegistrationID})
	if err != nil {
		return Assignment{}, err
	}
	answer, after, err := r.ask("$dps/registrations/PUT/iotdps-register/?", "", body)
	for err == nil && pending(answer) {
		wait := r.client.config.Policy.Poll(after, r.client.chance)
		if !sleep(ctx, wait) {
			return Assignment{}, ctx.Err()
		}
		answer, after, err = r.ask("$dps/registrations/GET/iotdps-get-operationstatus/?", "&operationId="+escape(answer.OperationID), nil)
	}
	if err != nil {
		return Assignment{}, err
	}
	return decided(answer)
}

// escape is for topics, in which '+' is a wildcard [MQTT-3.3.2-2].
func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

func pending(a provisioned) bool {
	return (a.Status == "assigning" || a.Status == "unassigned") && a.OperationID != ""
}

// decided is what the last answer means. A failure bears the status of its
// reason in the first digits of its code.
func decided(a provisioned) (Assignment, error) {
	switch {
	case a.Status != "assigned":
		status := a.State.ErrorCode / 1000
		return Assignment{}, &Refusal{Permanent: !retry.Transient(status), Status: status, Message: strings.TrimSuffix(a.Status+": "+a.State.ErrorMessage, ": ")}
	case a.State.AssignedHub == "" || a.State.DeviceID == "":
		return Assignment{}, errors.New("provisioning assigned the device, but named no hub or no device id")
	}
	return Assignment{Hub: a.State.AssignedHub, DeviceID: a.State.DeviceID}, nil
}

// ask publishes a request and waits for its answer and how long to wait
// before the next, 0 when the answer does not say.
func (r *registering) ask(topic, more string, body []byte) (provisioned, time.Duration, error) {
	r.id++
	rid := strconv.Itoa(int(r.id))
	if err := r.conn.Write(&mqtt.Publish{Topic: topic + "$rid=" + rid + more, Payload: body, QoS: 1, PacketID: r.id + 1}); err != nil {
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
		if p.QoS > 0 {
			if err := r.conn.Write(&mqtt.Puback{PacketID: p.PacketID}); err != nil {
				return provisioned{}, 0, err
			}
		}
		rest, ok := strings.CutPrefix(p.Topic, "$dps/registrations/res/")
		if status, query, _ := strings.Cut(rest, "/?"); ok && fields(query)["$rid"] == rid {
			return readAnswer(status, query, p.Payload, time.Now())
		}
	}
}

// readAnswer reads {status}/?$rid=…&retry-after=… and its body.
func readAnswer(text, query string, body []byte, now time.Time) (answer provisioned, after time.Duration, err error) {
	status, err := strconv.Atoi(text)
	if err != nil {
		return answer, 0, fmt.Errorf("provisioning answered with status %q", excerpt([]byte(text)))
	}
	after = retry.After(fields(query)["retry-after"], now)
	if status >= 300 {
		return answer, after, refusedRequest(false, status, after, body)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, after, fmt.Errorf("provisioning answered %d with %q", status, excerpt(body))
	}
	return answer, after, nil
}
