package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// LogCopy says what a copy of a log is of, as Restore needs it.
type LogCopy struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// Counts are the numbers of a log's records.
type Counts struct {
	Messages uint64 `json:"messages"`
	First    uint64 `json:"first_seq"`
	Last     uint64 `json:"last_seq"`
}

// Counts reads them out of the state of a copy.
func (c LogCopy) Counts() (n Counts, err error) { return n, json.Unmarshal(c.State, &n) }

// answered is what the servers say to a request of their own API.
type answered struct {
	Config  json.RawMessage `json:"config"`
	State   json.RawMessage `json:"state"`
	Deliver string          `json:"deliver_subject"`
	Error   *struct {
		Description string `json:"description"`
	} `json:"error"`
}

const (
	// copyChunk is what travels at once of a copy, and copyWait how long the
	// other side may be silent.
	copyChunk = 512 << 10
	copyWait  = 30 * time.Second
)

func (c *Conn) manage(ctx context.Context, subject string, request any) (a answered, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, copyWait)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return a, err
	}
	return a, a.read(m.Data)
}

func (a *answered) read(data []byte) error {
	if err := json.Unmarshal(data, a); err != nil {
		return err
	}
	if a.Error != nil {
		return errors.New(a.Error.Description)
	}
	return nil
}

// Copy writes the log as it is at one moment, while others go on to append.
// What is written is not compressed: two copies have in common what the logs
// have.
func (l *Log) Copy(ctx context.Context, to io.Writer) (LogCopy, error) {
	c, err := l.copy(ctx, to)
	if err != nil {
		return c, fmt.Errorf("copy %s: %w", l.name, err)
	}
	return c, nil
}

func (l *Log) copy(ctx context.Context, to io.Writer) (LogCopy, error) {
	nc := l.conn.nc
	inbox := nc.NewRespInbox()
	chunks, err := nc.SubscribeSync(inbox)
	if err != nil {
		return LogCopy{}, err
	}
	defer func() { _ = chunks.Unsubscribe() }() // the connection may be gone
	if err := chunks.SetPendingLimits(-1, -1); err != nil {
		return LogCopy{}, err
	}
	begun, err := l.conn.manage(ctx, "$JS.API.STREAM.SNAPSHOT."+l.stream.CachedInfo().Config.Name, map[string]any{
		"deliver_subject": inbox, "no_consumers": true, "chunk_size": copyChunk, "jsck": true,
	})
	if err != nil {
		return LogCopy{}, err
	}
	packed, unpacked := io.Pipe()
	written := make(chan error, 1)
	go func() {
		_, err := io.Copy(to, s2.NewReader(packed))
		written <- err
		packed.CloseWithError(err)
	}()
	err = receive(ctx, chunks, unpacked)
	unpacked.CloseWithError(err)
	if writeErr := <-written; err == nil {
		err = writeErr
	}
	return LogCopy{begun.Config, begun.State}, err
}

// receive writes what the servers send, telling them of each chunk.
func receive(ctx context.Context, chunks *nats.Subscription, to io.Writer) error {
	for {
		waiting, cancel := context.WithTimeout(ctx, copyWait)
		m, err := chunks.NextMsgWithContext(waiting)
		cancel()
		if err != nil {
			return err
		}
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return fmt.Errorf("the servers ended it: %s %s", status, m.Header.Get("Description"))
			}
			return nil
		}
		if _, err := to.Write(m.Data); err != nil {
			return err
		}
		if m.Reply != "" {
			if err := m.Respond(nil); err != nil {
				return err
			}
		}
	}
}

// RestoreLog makes a log of a copy. There must be none of its name. A log that
// does not come back whole is taken away again.
func (c *Conn) RestoreLog(ctx context.Context, copied LogCopy, from io.Reader) error {
	var config map[string]json.RawMessage
	var name string
	if err := json.Unmarshal(copied.Config, &config); err != nil {
		return fmt.Errorf("restore a log: %w", err)
	}
	if err := json.Unmarshal(config["name"], &name); err != nil {
		return fmt.Errorf("restore a log: %w", err)
	}
	config["num_replicas"] = json.RawMessage(fmt.Sprint(max(1, c.replicas)))
	if err := c.restore(ctx, name, config, copied, from); err != nil {
		return fmt.Errorf("restore %s: %w", name, err)
	}
	return nil
}

func (c *Conn) restore(ctx context.Context, name string, config map[string]json.RawMessage, copied LogCopy, from io.Reader) error {
	want, err := copied.Counts()
	if err != nil {
		return err
	}
	begun, err := c.manage(ctx, "$JS.API.STREAM.RESTORE."+name, map[string]any{"config": config, "state": copied.State})
	if err != nil {
		return err
	}
	err = c.send(ctx, begun.Deliver, from)
	if err == nil {
		err = c.compare(ctx, name, want)
	}
	if err != nil {
		if js, jsErr := jetstream.New(c.nc); jsErr == nil {
			_ = js.DeleteStream(context.WithoutCancel(ctx), name) // there may be none
		}
	}
	return err
}

// send hands a copy to the servers, chunk by chunk; an empty one ends it.
func (c *Conn) send(ctx context.Context, subject string, from io.Reader) error {
	packed, unpacked := io.Pipe()
	go func() {
		w := s2.NewWriter(unpacked)
		_, err := io.Copy(w, from)
		unpacked.CloseWithError(errors.Join(err, w.Close()))
	}()
	defer packed.Close()
	chunk := make([]byte, copyChunk)
	for {
		n, readErr := io.ReadFull(packed, chunk)
		if n > 0 {
			if err := c.hand(ctx, subject, chunk[:n]); err != nil {
				return err
			}
		}
		switch {
		case readErr == io.EOF, readErr == io.ErrUnexpectedEOF:
			return c.hand(ctx, subject, nil)
		case readErr != nil:
			return readErr
		}
	}
}

func (c *Conn) hand(ctx context.Context, subject string, chunk []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 2*copyWait)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, subject, chunk)
	if err != nil || len(m.Data) == 0 {
		return err
	}
	var a answered
	return a.read(m.Data)
}

// compare holds a log that came back against what was copied.
func (c *Conn) compare(ctx context.Context, name string, want Counts) error {
	js, err := jetstream.New(c.nc)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	got := stream.CachedInfo().State
	// Where there is no record the first is told in several ways.
	if got.Msgs != want.Messages || want.Messages > 0 && got.FirstSeq != want.First || got.LastSeq != want.Last {
		return fmt.Errorf("there came %d records, %d to %d, of %d, %d to %d", got.Msgs, got.FirstSeq, got.LastSeq, want.Messages, want.First, want.Last)
	}
	return nil
}
