package endpoint

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/slipway/slipway/internal/link"
)

// natsEndpoint publishes each message on a subject.
type natsEndpoint struct {
	spec    link.NATS
	options Options
	conn    *nats.Conn
	stream  jetstream.JetStream
}

// guarded lets the NATS client connect where the guard allows.
type guarded struct{ Options }

// Dial implements nats.CustomDialer.
func (g guarded) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), connectWait)
	defer cancel()
	return g.Guard.DialContext(ctx, network, address)
}

// connectWait bounds how long an endpoint may take to be connected to, and
// sendWait how long a batch may take to be confirmed.
const (
	connectWait = 10 * time.Second
	sendWait    = 30 * time.Second
)

func (n *natsEndpoint) connect() (err error) {
	if n.conn != nil {
		return nil
	}
	options := []nats.Option{nats.Name("slipway " + n.options.Stamp + " " + n.options.Route), nats.SetCustomDialer(guarded{n.options}), nats.Timeout(connectWait), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1)}
	switch {
	case n.spec.User != "":
		options = append(options, nats.UserInfo(n.spec.User, n.spec.Password))
	case n.spec.Password != "":
		options = append(options, nats.Token(n.spec.Password))
	}
	if n.conn, err = nats.Connect(n.spec.URL, options...); err != nil {
		return err
	}
	n.stream, err = jetstream.New(n.conn, jetstream.WithPublishAsyncMaxPending(256))
	return err
}

// Send implements Endpoint.
func (n *natsEndpoint) Send(ctx context.Context, batch []Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	if err := n.connect(); err != nil {
		return err
	}
	if n.spec.JetStream {
		return n.store(ctx, batch)
	}
	for _, m := range batch {
		if err := n.conn.PublishMsg(n.message(m)); err != nil {
			return err
		}
	}
	return n.conn.FlushWithContext(ctx)
}

// store publishes to a stream and waits until it has confirmed every message.
func (n *natsEndpoint) store(ctx context.Context, batch []Message) error {
	confirmed := make([]jetstream.PubAckFuture, len(batch))
	for i, m := range batch {
		var err error
		if confirmed[i], err = n.stream.PublishMsgAsync(n.message(m), jetstream.WithMsgID(n.options.ID(m.Sequence))); err != nil {
			return err
		}
	}
	for _, c := range confirmed {
		select {
		case <-c.Ok():
		case err := <-c.Err():
			return err
		case <-ctx.Done():
			return fmt.Errorf("the stream did not confirm in time: %w", ctx.Err())
		}
	}
	return nil
}

func (n *natsEndpoint) message(m Message) *nats.Msg {
	// A device id may hold what NATS gives a meaning.
	token := strings.NewReplacer("%", "%25", ".", "%2E", "*", "%2A", ">", "%3E", " ", "%20").Replace(m.DeviceID)
	out := nats.NewMsg(strings.ReplaceAll(n.spec.Subject, "$device", token))
	out.Header.Set("Slipway-Message-Id", n.options.ID(m.Sequence))
	out.Data = m.JSON
	return out
}

// Close implements Endpoint.
func (n *natsEndpoint) Close() error {
	if n.conn != nil {
		n.conn.Close()
	}
	return nil
}
