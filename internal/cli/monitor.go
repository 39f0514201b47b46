package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/resource"
)

func (a *app) metrics() *cobra.Command {
	return a.group("metrics", "Ask about what the installation counts", "", a.metricsQuery())
}

func (a *app) metricsQuery() *cobra.Command {
	var since, step time.Duration
	cmd := a.read(&cobra.Command{
		Use: "query EXPR", Short: "Answer a query in PromQL", Args: cobra.ExactArgs(1),
		Long:    "Answer a query in PromQL: now, or with --since over a length of time.",
		Example: "  slipway metrics query up\n  slipway metrics query 'sum by (stamp) (rate(slipway_hub_messages_total{result=\"ok\"}[5m]))'\n  slipway metrics query slipway_hub_connections --since 1h --step 5m",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if step <= 0 {
				step = max(since/60, time.Second)
			}
			answer, err := c.QueryMetrics(ctx, args[0], since, step, a.now())
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(answer)
			}
			return a.showSeries(answer)
		}),
	})
	cmd.Flags().DurationVar(&since, "since", 0, "over so long until now, instead of now")
	cmd.Flags().DurationVar(&step, "step", 0, "a value for each so long, with --since (default a sixtieth of it)")
	return cmd
}

// sample is a value with its time, as Prometheus writes it.
type sample [2]any

func (s sample) at() string {
	seconds, _ := s[0].(float64)
	return time.UnixMilli(int64(seconds * 1000)).UTC().Format(time.RFC3339)
}

func (a *app) showSeries(answer client.QueryAnswer) error {
	if answer.Type == "scalar" || answer.Type == "string" {
		var one sample
		if err := json.Unmarshal(answer.Result, &one); err != nil {
			return err
		}
		return a.table([]string{"VALUE"}, [][]string{{fmt.Sprint(one[1])}})
	}
	var lines []struct {
		Metric map[string]string
		Value  *sample
		Values []sample
	}
	if err := json.Unmarshal(answer.Result, &lines); err != nil {
		return err
	}
	rows := [][]string{}
	for _, l := range lines {
		if l.Value != nil {
			rows = append(rows, []string{series(l.Metric), fmt.Sprint(l.Value[1])})
		}
		for _, v := range l.Values {
			rows = append(rows, []string{series(l.Metric), fmt.Sprint(v[1]), v.at()})
		}
	}
	if answer.Type == "matrix" {
		return a.table([]string{"SERIES", "VALUE", "AT"}, rows)
	}
	return a.table([]string{"SERIES", "VALUE"}, rows)
}

// series is one as PromQL writes it.
func series(labels map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if name != "__name__" {
			all = append(all, fmt.Sprintf("%s=%q", name, labels[name]))
		}
	}
	return labels["__name__"] + "{" + strings.Join(all, ",") + "}"
}

// selecting shows the alerts that labels select.
func selecting(match map[string]string) string {
	if len(match) == 0 {
		return "all"
	}
	return series(match)
}

func (a *app) alert() *cobra.Command {
	group := a.group("alert", "See what is not as it should be, and who is told", "",
		a.alertList(), a.alertTest(), a.alertSilence(), a.alertSilences(), a.alertUnsilence(), a.alertRules())
	group.Aliases = []string{"alerts"}
	return group
}

func (a *app) alertList() *cobra.Command {
	var firing, check bool
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List alerts, those that matter most first", Args: cobra.NoArgs,
		Example: "  slipway alert list\n  slipway alert list --firing --check   # exits 3 if one fires that is not silenced",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Alerts(ctx)
			if err != nil {
				return err
			}
			loud := 0
			rows := [][]string{}
			shown := all[:0]
			for _, one := range all {
				if one.State == "firing" && one.Silence == "" {
					loud++
				}
				if firing && one.State != "firing" {
					continue
				}
				shown = append(shown, one)
				rows = append(rows, []string{one.Name, one.State, one.Severity, one.Environment, one.Stamp, a.when(&one.Since), one.Silence, one.OnCall, one.Summary, one.Runbook})
			}
			if a.asJSON {
				err = jsonList(a, shown, "")
			} else {
				err = a.table([]string{"ALERT", "STATE", "SEVERITY", "ENVIRONMENT", "STAMP", "SINCE", "SILENCE", "ON CALL", "SUMMARY", "RUNBOOK"}, rows)
			}
			if err == nil && check && loud > 0 {
				return answer(exitNo)
			}
			return err
		}),
	})
	cmd.Flags().BoolVar(&firing, "firing", false, "only those that fire")
	cmd.Flags().BoolVar(&check, "check", false, "exit 3 if one fires that is not silenced")
	return cmd
}

func (a *app) alertTest() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "test [RECEIVER]", Short: "Send a test to one receiver, or all, and show how they took it", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeNames(resource.KindReceiver),
		Example:           "  slipway alert test\n  slipway alert test on-call-mail",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.TestAlert(ctx, strings.Join(args, ""))
			if err != nil {
				return err
			}
			failed := false
			rows := make([][]string, len(all))
			for i, t := range all {
				failed = failed || !t.OK
				rows[i] = []string{t.Receiver, t.Kind, yesNo(t.OK), t.Problem}
			}
			if a.asJSON {
				err = jsonList(a, all, "")
			} else {
				err = a.table([]string{"RECEIVER", "KIND", "TAKEN", "PROBLEM"}, rows)
			}
			if err == nil && failed {
				return answer(exitNo)
			}
			return err
		}),
	})
}

func (a *app) alertSilence() *cobra.Command {
	var reason string
	var length time.Duration
	cmd := a.read(&cobra.Command{
		Use: "silence LABEL=VALUE…", Short: "Tell nobody of some alerts for a time", Args: cobra.MinimumNArgs(1),
		Example: "  slipway alert silence alertname=DeadLetters stamp=test-1 --for 2h --reason 'the endpoint is rebuilt'\n  slipway alert silence 'environment=dev|test' --for 8h --reason night",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			match := map[string]string{}
			for _, arg := range args {
				name, value, found := strings.Cut(arg, "=")
				if !found {
					return usage("a label reads name=value, and %q does not", arg)
				}
				match[name] = value
			}
			s, err := c.Silence(ctx, match, reason, length)
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(s)
			}
			_, err = fmt.Fprintf(a.out, "silence %s until %s\n", s.ID, s.EndsAt.Format(time.RFC3339))
			return err
		}),
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever wonders (required)")
	cmd.Flags().DurationVar(&length, "for", time.Hour, "how long")
	return cmd
}

func (a *app) alertSilences() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "silences", Short: "List silences in force or to come", Args: cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Silences(ctx)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, all, "")
			}
			rows := make([][]string, len(all))
			for i, s := range all {
				rows[i] = []string{s.ID, selecting(s.Match), a.when(&s.StartsAt), s.EndsAt.Format(time.RFC3339), s.CreatedBy, s.Reason}
			}
			return a.table([]string{"SILENCE", "ALERTS", "FROM", "UNTIL", "BY", "REASON"}, rows)
		}),
	})
}

func (a *app) alertUnsilence() *cobra.Command {
	return &cobra.Command{
		Use: "unsilence ID", Short: "End a silence now", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error { return c.EndSilence(ctx, args[0]) }),
	}
}

func (a *app) alertRules() *cobra.Command {
	return &cobra.Command{
		Use: "rules", Short: "Write every rule, shipped or declared, as a file for a Prometheus of one's own", Args: cobra.NoArgs,
		Example: "  slipway alert rules > slipway-rules.yml\n  promtool check rules slipway-rules.yml",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			text, err := c.RuleFile(ctx)
			if err == nil {
				_, err = fmt.Fprint(a.out, text)
			}
			return err
		}),
	}
}

func (a *app) alertRule() *cobra.Command {
	return a.nounCommands(noun{
		kind: resource.KindAlertRule, use: "alert-rule", words: "alert rule", gone: "its alerts end with it",
		header: []string{"NAME", "STATE", "FIRING", "SEVERITY", "EXPRESSION", "PROBLEM"},
		row: func(_ *app, s client.Stored) ([]string, error) {
			spec, status, err := parts[resource.AlertRuleSpec, resource.AlertRuleStatus](s)
			return []string{s.Metadata.Name, status.State, strconv.Itoa(status.Firing), spec.Severity, strings.Join(strings.Fields(spec.Expr), " "), status.Problem}, err
		},
	})
}

func (a *app) receiver() *cobra.Command {
	return a.nounCommands(noun{
		kind: resource.KindReceiver, use: "receiver", words: "receiver", secrets: true, gone: "it is told nothing any more",
		header: []string{"NAME", "KIND", "ALERTS", "SENT", "FAILED", "LAST", "PROBLEM"},
		row: func(a *app, s client.Stored) ([]string, error) {
			spec, status, err := parts[resource.ReceiverSpec, resource.ReceiverStatus](s)
			kind := "alertmanager"
			switch {
			case spec.Webhook != nil:
				kind = "webhook"
			case spec.Email != nil:
				kind = "email"
			case spec.Chat != nil:
				kind = "chat"
			}
			return []string{s.Metadata.Name, kind, selecting(spec.Match), strconv.FormatUint(status.Sent, 10), strconv.FormatUint(status.Failed, 10), a.when(status.SentAt), status.Problem}, err
		},
	})
}

func (a *app) onCall() *cobra.Command {
	return a.nounCommands(noun{
		kind: resource.KindOnCall, use: "on-call", words: "on-call", gone: "nobody is named on its alerts any more",
		header: []string{"NAME", "NOW", "CONTACT", "UNTIL", "NEXT", "ALERTS"},
		row: func(a *app, s client.Stored) ([]string, error) {
			spec, status, err := parts[resource.OnCallSpec, resource.OnCallStatus](s)
			return []string{s.Metadata.Name, status.Now.Name, status.Now.Contact, status.Until.Format(time.RFC3339), status.Next.Name, selecting(spec.Match)}, err
		},
	})
}

func (a *app) slo() *cobra.Command {
	group := a.nounCommands(noun{
		kind: resource.KindSLO, use: "slo", words: "SLO", gone: "a shipped one of the name is there again",
		header: []string{"NAME", "OBJECTIVE", "ENVIRONMENT", "STATE", "SHARE", "BUDGET LEFT", "BURN 1H", "BURN 6H"},
		row: func(_ *app, s client.Stored) ([]string, error) {
			spec, status, err := parts[resource.SLOSpec, resource.SLOStatus](s)
			worst := resource.Standing{State: "unknown"}
			for _, t := range status.Items {
				if worst.Budget == nil || t.Budget != nil && *t.Budget < *worst.Budget {
					worst = t
				}
			}
			return []string{s.Metadata.Name, share(&spec.Objective), worst.Environment, worst.State, share(worst.Share), share(worst.Budget), times(worst.BurnShort), times(worst.BurnLong)}, err
		},
	})
	group.Long = "See how well things go, held against what was promised. The list shows each SLO\nwhere it stands worst; `slipway slo get NAME` shows every environment."
	return group
}

// share is a share in percent; none is nothing.
func share(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(math.Round(*v*1e5)/1e3, 'f', -1, 64) + " %"
}

// times is a factor; none is nothing.
func times(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'f', 1, 64) + "×"
}
