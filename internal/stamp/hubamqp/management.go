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
	switch kind {
	case "com.microsoft:eventhub":
		created, err := e.Hub.Logs.Reader(link.SourceTelemetry).Created(ctx)
		if err != nil {
			return nil, err
		}
		ids := make(amqp.List, link.Partitions)
		for i := range ids {
			ids[i] = strconv.Itoa(i)
		}
		return amqp.Map{
			{Key: "name", Value: e.Hub.Stamp}, {Key: "type", Value: kind}, {Key: "created_at", Value: created},
			{Key: "partition_count", Value: int32(link.Partitions)}, {Key: "partition_ids", Value: ids},
		}, nil
	case "com.microsoft:partition":
		return e.describePartition(ctx, fmt.Sprint(m.Application.Get("partition")))
	}
	return nil, problem.New(problem.Invalid, "%v cannot be described", kind)
}

// describePartition tells the bounds of a partition.
func (e *Edge) describePartition(ctx context.Context, text string) (amqp.Map, error) {
	partition, err := strconv.Atoi(text)
	if err != nil || partition < 0 || partition >= link.Partitions {
		return nil, problem.New(problem.NotFound, "there is no partition %q; there are 0 to %d", text, link.Partitions-1)
	}
	b, err := e.Hub.Logs.PartitionBounds(ctx, partition)
	if err != nil {
		return nil, err
	}
	sequence, offset, at := number(b.Last), strconv.FormatUint(b.Last, 10), b.LastAt
	if b.Last == 0 { // as Event Hubs says it of one without messages
		sequence, offset, at = -1, "-1", time.Time{}
	}
	return amqp.Map{
		{Key: "name", Value: e.Hub.Stamp}, {Key: "type", Value: "com.microsoft:partition"}, {Key: "partition", Value: text},
		{Key: "begin_sequence_number", Value: number(b.First)}, {Key: "last_enqueued_sequence_number", Value: sequence},
		{Key: "last_enqueued_offset", Value: offset}, {Key: "last_enqueued_time_utc", Value: at},
		{Key: "is_partition_empty", Value: b.Last == 0},
	}, nil
}
