package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// kafka produces messages keyed by their device, so that those of one stay in
// order.
type kafka struct {
	client  *kgo.Client
	options Options
}

func openKafka(spec link.Kafka, o Options) (*kafka, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(spec.Brokers...), kgo.DefaultProduceTopic(spec.Topic), kgo.ClientID("slipway-" + o.Stamp + "-" + o.Route),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchMaxBytes(8 << 20),
		kgo.MaxBufferedBytes(16 << 20), kgo.RetryTimeout(sendWait),
	}
	if spec.TLS {
		options = append(options, kgo.Dialer((&tlsDialer{o}).dial))
	} else {
		options = append(options, kgo.Dialer(o.Guard.DialContext))
	}
	if spec.User != "" {
		options = append(options, kgo.SASL(scram.Auth{User: spec.User, Pass: spec.Password}.AsSha256Mechanism()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, problem.New(problem.Invalid, "kafka: %w", err)
	}
	return &kafka{client, o}, nil
}

// Send implements Endpoint. The context bounds it, as the client's own timeout
// for records counts from the time of the message: a backlog would never leave.
func (k *kafka) Send(ctx context.Context, batch []Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendWait+5*time.Second)
	defer cancel()
	records := make([]*kgo.Record, len(batch))
	for i, m := range batch {
		records[i] = &kgo.Record{
			Key: []byte(m.DeviceID), Value: m.JSON, Timestamp: m.EnqueuedTime,
			Headers: []kgo.RecordHeader{{Key: "slipway-message-id", Value: []byte(k.options.ID(m.Sequence))}},
		}
	}
	err := k.client.ProduceSync(ctx, records...).FirstErr()
	if errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) {
		return problem.New(problem.TooLarge, "kafka: %w", err)
	}
	if errors.Is(err, kerr.InvalidRecord) {
		return problem.New(problem.Invalid, "kafka: %w", err)
	}
	return err
}

// Close implements Endpoint.
func (k *kafka) Close() error {
	k.client.Close()
	return nil
}

// tlsDialer connects with TLS where the guard allows.
type tlsDialer struct{ Options }

func (d *tlsDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	plain, err := d.Guard.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	secured := tls.Client(plain, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return secured, nil
}
