package cli

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/decommission"
	"github.com/slipway/slipway/internal/problem"
)

func (a *app) deviceDecommission() *cobra.Command {
	var reason string
	var wipe, timeout time.Duration
	var wait, status bool
	cmd := a.read(&cobra.Command{
		Use: "decommission DEVICE…", Short: "Take devices out of use: barred, told to wipe themselves, removed", Args: cobra.MinimumNArgs(1),
		Long: "Take devices out of use for good. Each is first barred from registering, and the certificates\nit was given are revoked; then it is told to wipe itself, and waited for as long as --wipe\n" +
			"says; then its connection is cut, its credentials are gone from its stamp, and it stays as a\ntombstone. `slipway device recommission` takes that back. What is kept of it stays until it is\ntoo old; `slipway erasure start` erases it.",
		Example: "  slipway device decommission sensor-1 --reason \"sold\" --wait\n  slipway device decommission sensor-1 sensor-2 --reason \"stolen\" --wipe 0\n  slipway device decommission sensor-1 --status --json",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if !status && reason == "" {
				return usage("say why with --reason")
			}
			all := make([]decommission.Decommission, len(args))
			for i, id := range args {
				var err error
				if all[i], err = c.Decommission(ctx, id); !status {
					all[i], err = c.StartDecommission(ctx, id, reason, int64(wipe/time.Second))
				}
				if err != nil {
					return err
				}
			}
			if wait {
				limited, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				if err := a.awaitDecommissions(limited, c, all); err != nil {
					return err
				}
			}
			return a.showDecommissions(all)
		}),
	})
	flags := cmd.Flags()
	flags.StringVar(&reason, "reason", "", "why, for others and for the audit log")
	flags.DurationVar(&wipe, "wipe", 10*time.Minute, "how long the device is waited for to wipe itself; 0 does not ask it")
	flags.BoolVar(&status, "status", false, "only tell how far it is")
	flags.BoolVar(&wait, "wait", false, "wait until it is decommissioned; exit code 8 where that takes longer than --timeout")
	flags.DurationVar(&timeout, "timeout", 15*time.Minute, "how long to wait")
	return cmd
}

// awaitDecommissions follows devices until nothing is left to do.
func (a *app) awaitDecommissions(ctx context.Context, c *client.Client, all []decommission.Decommission) error {
	defer a.progress("")
	for i := 0; i < len(all); {
		now, err := c.Decommission(ctx, all[i].Device)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			all[i] = now
		}
		if err == nil && !now.Active() {
			i++
			continue
		}
		a.progress(all[i].Device + ": " + string(all[i].State) + " " + all[i].Problem)
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return problem.New(problem.TimedOut, "%s is still %s; `slipway device decommission %s --status` tells how far it is", all[i].Device, all[i].State, all[i].Device)
			}
			return ctx.Err()
		case <-time.After(followEvery):
		}
	}
	return nil
}

func (a *app) showDecommissions(all []decommission.Decommission) error {
	if a.asJSON {
		return jsonList(a, all, "")
	}
	rows := make([][]string, len(all))
	for i, d := range all {
		wiped := d.Wipe.Outcome
		if d.Wipe.Status != 0 {
			wiped += " (" + strconv.Itoa(d.Wipe.Status) + ")"
		}
		rows[i] = []string{d.Device, string(d.State), wiped, a.when(&d.At), a.when(d.RemovedAt), d.By, d.Problem}
	}
	return a.table([]string{"DEVICE", "STATE", "WIPE", "SINCE", "REMOVED", "BY", ""}, rows)
}

func (a *app) deviceRecommission() *cobra.Command {
	var reason string
	cmd := a.read(&cobra.Command{
		Use: "recommission DEVICE", Short: "Let a decommissioned device register again", Args: cobra.ExactArgs(1),
		Example: "  slipway device recommission sensor-1 --reason \"it was another one\"",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			d, err := c.Recommission(ctx, args[0], reason)
			if err != nil {
				return err
			}
			return a.showDecommissions([]decommission.Decommission{d})
		}),
	})
	because(cmd, &reason)
	return cmd
}

func (a *app) deviceDecommissioned() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "decommissioned", Short: "List devices taken out of use, newest first", Args: cobra.NoArgs, Example: "  slipway device decommissioned --json",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Decommissions(ctx)
			if err != nil {
				return err
			}
			return a.showDecommissions(all)
		}),
	})
}
