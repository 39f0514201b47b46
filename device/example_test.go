package device_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/slipway/slipway/device"
)

// A sensor that knows its endpoint, its scope and its group's key, and is
// otherwise told all it needs.
func Example() {
	groupKey, err := base64.StdEncoding.DecodeString(os.Getenv("GROUP_KEY"))
	if err != nil {
		fmt.Println(err)
		return
	}
	sensor, err := device.New(device.Config{
		Provisioning: "provisioning.example.com", IDScope: "0ne00000001", RegistrationID: "sensor-17",
		Key:    device.DeriveKey(groupKey, "sensor-17"),
		Store:  device.FileStore("/var/lib/sensor/state.json"),
		Logger: slog.Default(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	sensor.OnMethod("identify", func(context.Context, []byte) (int, []byte) {
		return 200, []byte(`{"blinking":true}`)
	})
	sensor.OnEvent(func(e device.Event) {
		if e.Kind != device.Connected {
			return
		}
		if _, err := sensor.Report(ctx, []byte(`{"firmware":{"version":"1.0.0"},"selfTest":"ok"}`)); err != nil {
			slog.Warn("not reported", "error", err)
		}
	})
	go sensor.Periodic(ctx, func() time.Duration { return 10 * time.Second }, func(context.Context) {
		m := device.Message{ContentType: "application/json", ContentEncoding: "utf-8", Body: []byte(`{"temperature":21.5}`)}
		if err := sensor.Enqueue(m); err != nil {
			slog.Warn("not sent", "error", err)
		}
	})
	if err := sensor.Run(ctx); err != nil {
		fmt.Println(err)
	}
}

func ExampleDeriveKey() {
	key := device.DeriveKey([]byte("the group's key, from base64"), "sensor-17")
	fmt.Println(len(key), "bytes")
	// Output: 32 bytes
}
