package up

import (
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
	"github.com/slipway/slipway/internal/simfleet"
)

// blueprint is what a new installation starts with.
//
//go:embed blueprint.yaml
var blueprint []byte

// demo is the enrolment of the simulated fleet.
//
//go:embed demo.yaml
var demo []byte

// self is who acts when the process itself does.
var self = access.Actor{Name: "slipway up"}

// settleTimeout bounds how long stamps may take to start.
const settleTimeout = time.Minute

// applyBlueprint declares what the first start, the demo and --file ask for,
// and waits until every stamp runs and provisioning knows it.
func (in *installation) applyBlueprint(ctx context.Context) error {
	declared, err := in.readFiles()
	if err != nil {
		return err
	}
	empty, err := in.control.Empty(ctx)
	if err != nil {
		return err
	}
	if empty && !declaresEnvironments(declared) {
		if err := in.apply(ctx, "blueprint.yaml", blueprint, false); err != nil {
			return err
		}
	}
	if err := in.control.Apply(ctx, self, declared, false); err != nil {
		return err
	}
	if in.Demo > 0 {
		if err := in.apply(ctx, "demo.yaml", demo, true); err != nil {
			return err
		}
	}
	return in.settle(ctx)
}

func (in *installation) readFiles() (all []resource.Resource, err error) {
	for _, file := range in.Files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		some, err := resource.Decode(file, text)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// declaresEnvironments reports whether files say themselves what environments
// there are; then the built-in ones would only be in the way.
func declaresEnvironments(all []resource.Resource) bool {
	return slices.ContainsFunc(all, func(r resource.Resource) bool { return r.Kind == resource.KindEnvironment })
}

func (in *installation) apply(ctx context.Context, file string, text []byte, onlyNew bool) error {
	all, err := resource.Decode(file, text)
	if err != nil {
		return err
	}
	return in.control.Apply(ctx, self, all, onlyNew)
}

// settle waits for stamps that start a moment later than control asks.
func (in *installation) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		err := in.control.Settled(ctx)
		if err == nil {
			return nil
		}
		if !problem.Is(err, problem.NotReady) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the installation did not become ready: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// runDemo runs the simulated fleet until ctx ends.
func (in *installation) runDemo(ctx context.Context) error {
	if in.Demo == 0 {
		return nil
	}
	text, err := in.control.GroupKey(ctx, "demo")
	if err != nil {
		return fmt.Errorf("demo fleet: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("demo fleet: %w", err)
	}
	fleet, err := simfleet.New(simfleet.Options{
		Devices: in.Demo, Provisioning: net.JoinHostPort(in.mqttHost, strconv.Itoa(in.ports.MQTT)), IDScope: in.provisioning.IDScope(),
		GroupKey: key, CA: in.ca.Pool(), StartRate: 10, Logger: in.Logger.With("part", "demo"),
	})
	if err != nil {
		return errors.Join(errors.New("demo fleet"), err)
	}
	return fleet.Run(ctx)
}
