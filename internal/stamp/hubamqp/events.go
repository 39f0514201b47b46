package hubamqp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/amqp"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// maxReaders is how many may read one partition in one group without an owner.
const maxReaders = 5

// reader is one client that reads a partition.
type reader struct {
	epoch int64 // of an owner; less than 0 for one that shares
	stop  context.CancelCauseFunc
}

// errStolen ends a reader whose partition has got another owner.
var errStolen = &amqp.Error{Condition: amqp.LinkStolen, Description: "another receiver with a higher epoch reads the partition now"}

// eventSource answers a client that wants to read a partition:
// {entity}/ConsumerGroups/{group}/Partitions/{n}. The entity is the stamp's
// name, or messages/events.
func (e *Edge) eventSource(node string, a amqp.Attach) (func(context.Context, *amqp.Sender) error, *amqp.Error) {
	group, partition, ok := e.partitionOf(node)
	if !ok {
		return nil, &amqp.Error{Condition: amqp.NotFound, Description: fmt.Sprintf("nothing can be received from %q; telemetry is at %s/ConsumerGroups/{group}/Partitions/{0 to %d}", a.Source, e.Hub.Stamp, link.Partitions-1)}
	}
	from, err := positionOf(a.Filter)
	if err != nil {
		return nil, &amqp.Error{Condition: amqp.InvalidField, Description: err.Error()}
	}
	epoch := int64(-1)
	switch given := a.Properties.Get("com.microsoft:epoch").(type) {
	case int64:
		epoch = given
	case int32:
		epoch = int64(given)
	}
	seat := &reader{epoch: epoch}
	key := group + "/" + strconv.Itoa(partition)
	if refused := e.mayRead(key, epoch); refused != nil {
		return nil, refused
	}
	return func(ctx context.Context, s *amqp.Sender) error {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		seat.stop = stop
		if refused := e.sit(key, seat); refused != nil {
			return refused
		}
		defer e.rise(key, seat)
		return e.sendEvents(ctx, s, partition, from)
	}, nil
}

func (e *Edge) partitionOf(node string) (group string, partition int, ok bool) {
	rest, ok := strings.CutPrefix(node, "messages/events/")
	if !ok {
		rest, ok = strings.CutPrefix(node, strings.ToLower(e.Hub.Stamp)+"/")
	}
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 4 || parts[0] != "consumergroups" || parts[2] != "partitions" {
		return "", 0, false
	}
	partition, err := strconv.Atoi(parts[3])
	return parts[1], partition, err == nil && partition >= 0 && partition < link.Partitions
}

func (e *Edge) mayRead(key string, epoch int64) *amqp.Error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.conflict(key, epoch)
}

// conflict tells why a reader cannot come in beside those who are there. The
// caller holds mu.
func (e *Edge) conflict(key string, epoch int64) *amqp.Error {
	others := e.readers[key]
	for _, other := range others {
		if other.epoch > epoch {
			return &amqp.Error{Condition: amqp.LinkStolen, Description: fmt.Sprintf("a receiver with epoch %d reads the partition; come with a higher one", other.epoch)}
		}
	}
	if epoch < 0 && len(others) >= maxReaders {
		return &amqp.Error{Condition: amqp.ResourceLimit, Description: fmt.Sprintf("%d receivers read the partition in this consumer group already; use another group", maxReaders)}
	}
	return nil
}

// sit takes a place at a partition; an owner has the others leave.
func (e *Edge) sit(key string, seat *reader) *amqp.Error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if refused := e.conflict(key, seat.epoch); refused != nil {
		return refused
	}
	if seat.epoch >= 0 {
		for _, other := range e.readers[key] {
			other.stop(errStolen)
		}
		e.readers[key] = nil
	}
	e.readers[key] = append(e.readers[key], seat)
	return nil
}

func (e *Edge) rise(key string, seat *reader) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.readers[key] = slices.DeleteFunc(e.readers[key], func(other *reader) bool { return other == seat })
	if len(e.readers[key]) == 0 {
		delete(e.readers, key)
	}
}

// position is where a client begins to read: after a sequence, or at a time.
type position struct {
	after  uint64
	latest bool
	time   time.Time
}

var selector = regexp.MustCompile(`^amqp\.annotation\.x-opt-(offset|sequence-number|enqueued-time(?:-utc)?) (>=?) '?([^']*)'?$`)

// positionOf reads the selector of a source's filter, as Event Hubs clients
// write it. Without one, everything is read.
func positionOf(filter amqp.Map) (position, error) {
	value := filter.Get("apache.org:selector-filter:string")
	if described, ok := value.(amqp.Described); ok {
		value = described.Value
	}
	text, ok := value.(string)
	if value == nil {
		return position{}, nil
	}
	parts := selector.FindStringSubmatch(strings.TrimSpace(text))
	if !ok || parts == nil {
		return position{}, fmt.Errorf("the selector %q cannot be read; it is like amqp.annotation.x-opt-offset > '17'", text)
	}
	if parts[1] == "offset" && parts[3] == "@latest" {
		return position{latest: true}, nil
	}
	n, err := strconv.ParseInt(parts[3], 10, 64)
	if err != nil {
		return position{}, fmt.Errorf("the selector %q compares with %q, which is no number", text, parts[3])
	}
	inclusive := parts[2] == ">="
	if strings.HasPrefix(parts[1], "enqueued-time") {
		at := time.UnixMilli(n)
		if !inclusive {
			at = at.Add(time.Millisecond)
		}
		return position{time: at}, nil
	}
	if inclusive {
		n--
	}
	return position{after: uint64(max(n, 0))}, nil
}

// start is the sequence after which to read.
func (p position) start(ctx context.Context, log telemetry.Reader) (uint64, error) {
	if !p.time.IsZero() {
		return log.Before(ctx, p.time)
	}
	_, last, err := log.Bounds(ctx)
	if p.latest {
		return last, err
	}
	return min(p.after, last), err
}

// sendEvents sends what is in a partition and what comes, as fast as the client
// takes it. Nobody else waits for that.
func (e *Edge) sendEvents(ctx context.Context, s *amqp.Sender, partition int, from position) error {
	log := e.Hub.Logs.Reader(link.SourceTelemetry)
	after, err := from.start(ctx, log)
	if err != nil {
		return err
	}
	settled := s.Attach().Settled
	err = log.Follow(ctx, after, func(r link.LogRecord) error {
		if r.DeviceID == "" || link.IsProbe(r.DeviceID) || telemetry.Partition(r.DeviceID) != partition {
			return nil
		}
		_, err := s.Send(ctx, event(r), settled)
		return err
	})
	if cause := context.Cause(ctx); errors.Is(cause, errStolen) {
		return errStolen
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// event is a telemetry message as Event Hubs clients know it.
func event(r link.LogRecord) amqp.Message {
	m := amqp.Message{Annotations: amqp.Map{
		{Key: amqp.Symbol("x-opt-sequence-number"), Value: number(r.Sequence)},
		{Key: amqp.Symbol("x-opt-offset"), Value: strconv.FormatUint(r.Sequence, 10)},
		{Key: amqp.Symbol("x-opt-enqueued-time"), Value: r.EnqueuedTime},
		{Key: amqp.Symbol("x-opt-partition-key"), Value: r.DeviceID},
	}}
	for _, name := range slices.Sorted(maps.Keys(r.SystemProperties)) {
		system(&m, name, r)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Properties)) {
		m.Application = append(m.Application, amqp.Pair{Key: name, Value: r.Properties[name]})
	}
	if m.Data = r.BodyBase64; r.Body != nil {
		m.Data = r.Body
	}
	return m
}

// system puts a system property where back ends look for it: those that AMQP
// has into the properties, the others into annotations.
func system(m *amqp.Message, name string, r link.LogRecord) {
	value := r.SystemProperties[name]
	switch name {
	case "messageId":
		m.Properties.MessageID = value
	case "correlationId":
		m.Properties.CorrelationID = value
	case "userId":
		m.Properties.UserID = []byte(value)
	case "to":
		m.Properties.To = value
	case "contentType":
		m.Properties.ContentType = value
	case "contentEncoding":
		m.Properties.ContentEncoding = value
	case "iothub-enqueuedtime":
		m.Annotations = append(m.Annotations, amqp.Pair{Key: amqp.Symbol(name), Value: r.EnqueuedTime})
	default:
		m.Annotations = append(m.Annotations, amqp.Pair{Key: amqp.Symbol(name), Value: value})
	}
}

func number(sequence uint64) int64 { return int64(min(sequence, math.MaxInt64)) }
