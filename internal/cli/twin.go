package cli

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
)

func (a *app) deviceTwin() *cobra.Command {
	get := a.twinGet()
	twin := a.read(&cobra.Command{
		Use: "twin ID", Short: "Show a device's twin; set and replace change it", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDevices, RunE: get.RunE,
	})
	twin.AddCommand(get, a.twinSet(), a.twinReplace())
	return twin
}

func (a *app) twinGet() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "get ID", Short: "Show a device's twin", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeDevices,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			twin, err := c.Twin(ctx, args[0])
			if err != nil {
				return ofDevice(err)
			}
			return a.showTwin(twin)
		}),
	})
}

// showTwin prints a twin, which is a document already.
func (a *app) showTwin(twin json.RawMessage) error {
	if a.asJSON {
		return a.json(twin)
	}
	return a.print("%s\n", indented(twin))
}

func (a *app) twinSet() *cobra.Command {
	var patch, ifMatch string
	var document json.RawMessage
	cmd := a.read(&cobra.Command{
		Use: "set ID [PATH=VALUE…]", Short: "Merge values into a device's tags and desired properties; null removes",
		Example: "  slipway device twin set sensor-0001 desired.reportEvery=10 tags.place.floor=2\n" +
			"  slipway device twin set sensor-0001 --patch '{\"tags\": {\"batch\": null}}'",
		Args: func(_ *cobra.Command, args []string) (err error) {
			if len(args) == 0 {
				return usage("name a device")
			}
			document, err = twinPatch(patch, args[1:])
			return err
		},
		ValidArgsFunction: a.completeDevices,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			twin, err := c.PatchTwin(ctx, args[0], ifMatch, document)
			if err != nil {
				return ofDevice(err)
			}
			return a.showTwin(twin)
		}),
	})
	cmd.Flags().StringVar(&patch, "patch", "", "JSON merge patch, instead of paths and values")
	ifMatchFlag(cmd, &ifMatch)
	return cmd
}

func ifMatchFlag(cmd *cobra.Command, ifMatch *string) {
	cmd.Flags().StringVar(ifMatch, "if-match", "", "change it only if its ETag is still this one")
}

func (a *app) twinReplace() *cobra.Command {
	var file, ifMatch string
	cmd := a.read(&cobra.Command{
		Use: "replace ID -f FILE", Short: "Replace a device's tags and desired properties by those of a JSON document",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeDevices,
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if file == "" {
				return usage("name a file with -f; - reads stdin")
			}
			text, err := a.readFile(file)
			if err != nil {
				return err
			}
			if !json.Valid(text) {
				return usage("%s must hold a JSON document", file)
			}
			twin, err := c.ReplaceTwin(ctx, args[0], ifMatch, text)
			if err != nil {
				return ofDevice(err)
			}
			return a.showTwin(twin)
		}),
	})
	cmd.Flags().StringVarP(&file, "file", "f", "", "JSON document; - is stdin")
	ifMatchFlag(cmd, &ifMatch)
	return cmd
}

// twinPatch makes a merge patch out of one given whole or of PATH=VALUE pairs.
func twinPatch(whole string, pairs []string) (json.RawMessage, error) {
	if (whole == "") == (len(pairs) == 0) {
		return nil, usage("give PATH=VALUE pairs or --patch, one of the two")
	}
	if whole != "" {
		if !json.Valid([]byte(whole)) {
			return nil, usage("--patch must be JSON, which %q is not", whole)
		}
		return json.RawMessage(whole), nil
	}
	patch := map[string]any{}
	for _, pair := range pairs {
		path, value, ok := strings.Cut(pair, "=")
		path = strings.TrimPrefix(path, "properties.")
		section, rest, nested := strings.Cut(path, ".")
		if !ok || !nested || section != "tags" && section != "desired" {
			return nil, usage("%q does not read tags.NAME=VALUE or desired.NAME=VALUE", pair)
		}
		keys := append([]string{section}, strings.Split(rest, ".")...)
		if section == "desired" {
			keys = append([]string{"properties"}, keys...)
		}
		if !put(patch, keys, valueOf(value)) {
			return nil, usage("%q does not fit with the other values: a part of its path is a value", pair)
		}
	}
	return json.Marshal(patch)
}

// put sets a nested member; false when a value stands where one must pass.
func put(into map[string]any, keys []string, value json.RawMessage) bool {
	for _, key := range keys[:len(keys)-1] {
		if _, there := into[key]; !there {
			into[key] = map[string]any{}
		}
		inner, ok := into[key].(map[string]any)
		if !ok {
			return false
		}
		into = inner
	}
	into[keys[len(keys)-1]] = value
	return true
}

// valueOf takes JSON as it is and everything else as text.
func valueOf(text string) json.RawMessage {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // text always has a JSON form
	}
	return quoted
}
