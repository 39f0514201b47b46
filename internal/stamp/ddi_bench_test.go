package stamp_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/bus"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
	"github.com/slipway/slipway/internal/stamp"
	"github.com/slipway/slipway/internal/stamp/device"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/telemetry"
)

// BenchmarkUpdatePolls is what a poll of an update client costs a whole stamp,
// over HTTP without TLS, while every device has an order. The first round of
// polls, in which the devices get their orders, is not counted.
func BenchmarkUpdatePolls(b *testing.B) {
	const devices = 2000
	server, err := bus.Start(b.Context(), bus.Options{Name: "link", Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Stop)
	conn, err := server.Connect("control")
	if err != nil {
		b.Fatal(err)
	}
	content := []byte("firmware")
	sum := sha256.Sum256(content)
	err = bus.Answer(conn, link.ControlPeer, link.ArtifactRead, func(context.Context, link.ReadPart) (link.Part, error) {
		return link.Part{Size: int64(len(content)), Data: content}, nil
	})
	if err != nil {
		b.Fatal(err)
	}
	own, err := server.Connect("stamp")
	if err != nil {
		b.Fatal(err)
	}
	limits := hub.DefaultLimits
	limits.RequestRate, limits.RequestBurst = 1e9, 1e9 // each device polls far more often than it would
	s, err := stamp.New(b.Context(), stamp.Options{
		Name: "test-1", Dir: b.TempDir(), Database: sqldbtest.At(b), Link: own, Limits: limits, Retention: telemetry.DefaultRetention, Logger: quiet, Now: time.Now,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	web := httptest.NewServer(s.HTTPHandler())
	b.Cleanup(web.Close)

	var adding sync.WaitGroup
	for i := range devices {
		adding.Go(func() {
			for {
				_, err := bus.Ask(b.Context(), conn, link.StampPeer("test-1"), link.IdentityPut, link.PutIdentity{
					DeviceID: fmt.Sprintf("d%d", i), Epoch: 1, Auth: link.Auth{Type: link.AuthSAS, PrimaryKey: key}, Enrollment: "e",
				})
				if err == nil || b.Context().Err() != nil {
					return
				}
			}
		})
	}
	adding.Wait()
	r := link.Release{Name: "v1", Digest: "d1", Counter: 1, Spec: link.ReleaseSpec{Software: []link.Software{{Name: "firmware", Version: "1", Artifacts: []link.Artifact{
		{File: "a.swu", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), SHA1: "1", MD5: "1"},
	}}}}}
	if _, err := bus.Ask(b.Context(), conn, link.StampPeer("test-1"), link.ReleasesPut, link.Releases{Version: 1, Environment: "test", Base: &r}); err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	poll := func(i int) (string, error) {
		id := fmt.Sprintf("d%d", i%devices)
		req, err := http.NewRequest("GET", web.URL+"/default/controller/v1/"+id, nil)
		if err != nil {
			return "", err
		}
		req.Header.Set("Authorization", "TargetToken "+device.UpdateToken(key, id))
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%d %s", resp.StatusCode, text)
		}
		return string(text), err
	}
	for i := range devices {
		adding.Go(func() {
			for b.Context().Err() == nil { // until it is shown its order
				if text, err := poll(i); err == nil && strings.Contains(text, "deploymentBase") {
					return
				}
			}
		})
	}
	adding.Wait()

	var next atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	b.SetParallelism(16)
	b.ResetTimer()
	began := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		var mine []time.Duration
		for pb.Next() {
			begin := time.Now()
			if _, err := poll(int(next.Add(1))); err != nil {
				b.Error(err)
			}
			mine = append(mine, time.Since(begin))
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, mine...)
	})
	b.ReportMetric(float64(len(took))/time.Since(began).Seconds(), "polls/s")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
