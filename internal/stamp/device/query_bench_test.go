package device

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp/migrations"
	"github.com/slipway/slipway/internal/stamp/query"
	"github.com/slipway/slipway/internal/stamp/twin"
)

// fleetSize is how many devices queries are measured over.
const fleetSize = 100_000

// largeFleet is a stamp's database with that many devices: site has a thousand
// values, floor ten, firmware is reported and has no index.
func largeFleet(b *testing.B) *Devices {
	b.Helper()
	db, err := sqldb.Open(b.Context(), sqldbtest.At(b), migrations.FS)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	devices := NewDevices(db, twin.NewStore(db))
	var making sync.WaitGroup
	for worker := range 256 {
		making.Go(func() {
			for i := worker; i < fleetSize; i += 256 {
				content := &link.TwinContent{
					Tags:     fmt.Appendf(nil, `{"site":"s%d","floor":%d}`, i%1000, i%10),
					Reported: fmt.Appendf(nil, `{"firmware":"1.%d","temperature":%d}`, i%7, i%90),
				}
				req := link.PutIdentity{DeviceID: fmt.Sprintf("device-%06d", i), Epoch: 1, Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: []byte("0123456789abcdef")}, Enrollment: "line-7", Twin: content}
				if _, err := devices.Put(context.Background(), req, time.Unix(1_800_000_000, 0)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	making.Wait()
	return devices
}

// BenchmarkQuery measures one page of a query over 100,000 twins, by what it
// can be narrowed with, and the whole scan where there is nothing.
func BenchmarkQuery(b *testing.B) {
	devices := largeFleet(b)
	for name, text := range map[string]string{
		"by id":                "SELECT * FROM devices WHERE deviceId = 'device-054321'",
		"by tag, 100 of them":  "SELECT * FROM devices WHERE tags.site = 's321'",
		"by two tags":          "SELECT * FROM devices WHERE tags.site = 's321' AND tags.floor = 1",
		"by enrolment, a page": "SELECT * FROM devices WHERE enrollment = 'line-7'",
		"no index, a page":     "SELECT * FROM devices WHERE properties.reported.firmware = '1.3'",
		"no index, none":       "SELECT * FROM devices WHERE properties.reported.firmware = '9'",
		"count by no index":    "SELECT COUNT() AS n FROM devices WHERE properties.reported.temperature > 60",
	} {
		statement, err := query.ParseStatement(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			rows := 0
			for b.Loop() {
				result, err := devices.Run(b.Context(), statement, "", 100, func(e Entry) Entry { return e })
				if err != nil {
					b.Fatal(err)
				}
				rows = len(result.Rows)
			}
			b.ReportMetric(float64(rows), "rows")
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapInuse>>20), "heapMB")
		})
	}
}
