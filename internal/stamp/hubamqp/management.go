package hubamqp

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/amqp"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// manage answers a request about the event endpoint or one of its partitions.
func (c *client) manage(ctx context.Context, node string, m amqp.Message) amqp.Outcome {
	value, err := c.edge.describe(ctx, m)
	if err == nil {
		return c.reply(ctx, node, m, 200, "OK", value)
	}
	status := map[problem.Kind]int32{problem.NotFound: 404, problem.Invalid: 400}[problem.Of(err).Kind]
	if status == 0 {
		status = 500
	}
	return c.reply(ctx, node, m, status, problem.Of(err).Error(), amqp.Map{})
}

func (e *Edge) describe(ctx context.Context, m amqp.Message) (amqp.Map, error) {
	operation, kind := m.Application.Get("operation"), m.Application.Get("type")
	if operation != "READ" {
		return nil, problem.New(problem.Invalid, "the operation is READ, not %v", operation)
	}
	log := e.Hub.Logs.Reader(link.SourceTelemetry)
	created, newest, err := log.Times(ctx)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "com.microsoft:eventhub":
		ids := make(amqp.List, link.Partitions)
		for i := range ids {
			ids[i] = strconv.Itoa(i)
		}
		return amqp.Map{
			{Key: "name", Value: e.Hub.Stamp}, {Key: "type", Value: kind}, {Key: "created_at", Value: created},
			{Key: "partition_count", Value: int32(link.Partitions)}, {Key: "partition_ids", Value: ids},
		}, nil
	case "com.microsoft:partition":
		return e.describePartition(ctx, fmt.Sprint(m.Application.Get("partition")), newest)
	}
	return nil, problem.New(problem.Invalid, "%v cannot be described", kind)
}

// describePartition tells the bounds of a partition. They are those of the log
// that all partitions are in, so the newest message may be another one's.
func (e *Edge) describePartition(ctx context.Context, text string, newest time.Time) (amqp.Map, error) {
	partition, err := strconv.Atoi(text)
	if err != nil || partition < 0 || partition >= link.Partitions {
		return nil, problem.New(problem.NotFound, "there is no partition %q; there are 0 to %d", text, link.Partitions-1)
	}
	first, last, err := e.Hub.Logs.Reader(link.SourceTelemetry).Bounds(ctx)
	if err != nil {
		return nil, err
	}
	return amqp.Map{
		{Key: "name", Value: e.Hub.Stamp}, {Key: "type", Value: "com.microsoft:partition"}, {Key: "partition", Value: text},
		{Key: "begin_sequence_number", Value: number(first)}, {Key: "last_enqueued_sequence_number", Value: number(last)},
		{Key: "last_enqueued_offset", Value: strconv.FormatUint(last, 10)}, {Key: "last_enqueued_time_utc", Value: newest},
		{Key: "is_partition_empty", Value: last == 0 || first > last},
	}, nil
}
