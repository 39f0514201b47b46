package update_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"

	"github.com/slipway/slipway/device"
	"github.com/slipway/slipway/device/update"
)

// A gateway whose firmware is in two directories, of which one runs.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := gateway(ctx); err != nil {
		fmt.Println(err)
	}
}

func gateway(ctx context.Context) error {
	root, err := os.ReadFile("/etc/gateway/root.json") // it came with the device
	if err != nil {
		return err
	}
	client, err := device.New(device.Config{
		Provisioning: "provisioning.example.com", IDScope: "0ne00000001", RegistrationID: "gateway-17",
		Key: []byte(os.Getenv("DEVICE_KEY")), Store: device.FileStore("/var/lib/gateway/state.json"),
	})
	if err != nil {
		return err
	}
	updates, err := update.New(update.Config{
		Directory: "/var/lib/gateway/updates", Root: root, Hardware: "gw-100", Environments: []string{"production"},
		Components: map[string]update.Component{
			"firmware": {Version: "1.0.0", Handler: &update.Files{Path: "/opt/firmware", Unpack: true}},
		},
		SelfTest: func(ctx context.Context) error {
			return exec.CommandContext(ctx, "/opt/firmware/current/selftest").Run()
		},
		Logger: slog.Default(),
	}, client)
	if err != nil {
		return err
	}
	connected := make(chan struct{}, 1)
	client.OnDesired(func(_ int64, patch []byte) { updates.Desired(patch) })
	client.OnEvent(func(e device.Event) {
		if e.Kind == device.Connected {
			select {
			case connected <- struct{}{}:
			default:
			}
		}
	})
	go greet(ctx, client, updates, connected)
	ctx, cancel := context.WithCancelCause(ctx)
	go func() { cancel(updates.Run(ctx)) }()
	if err := client.Run(ctx); err != nil {
		return err
	}
	var restart *update.ErrRestart
	if errors.As(context.Cause(ctx), &restart) && restart.What == update.RestartDevice {
		return exec.Command("systemctl", "reboot").Run()
	}
	return nil
}

// greet reads the twin when a connection is new: what changed while there was
// none is not repeated.
func greet(ctx context.Context, client *device.Client, updates *update.Updater, connected <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-connected:
		}
		text, err := client.Twin(ctx)
		var twin struct {
			Desired json.RawMessage `json:"desired"`
		}
		if err == nil {
			err = json.Unmarshal(text, &twin)
		}
		if err != nil {
			slog.Warn("the twin cannot be read", "error", err)
			continue
		}
		at := client.Assignment()
		updates.Connected(at.Hub+"/"+at.DeviceID, twin.Desired)
	}
}
