package cli

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway/slipway/internal/client"
	"github.com/slipway/slipway/internal/control/gateway"
	"github.com/slipway/slipway/internal/problem"
)

func (a *app) session() *cobra.Command {
	group := a.group("session", "Recorded sessions: a shell on devices and data of an environment, and its replay", "Every line of a session is recorded before it is done, and what came back before you see it.\nWhere a grant is needed the session ends with the grant.",
		a.sessionOpen(), a.sessionList(), a.sessionShow(), a.sessionReplay(), a.sessionClose())
	group.Aliases = []string{"sessions"}
	return group
}

func (a *app) sessionOpen() *cobra.Command {
	var o client.SessionOpening
	cmd := &cobra.Command{
		Use: "open --environment ENVIRONMENT", Short: "Open a recorded shell: direct methods, twins, queries on stamps' data",
		Long: "Open a recorded shell. It reads commands from the terminal, or from a file or a pipe until that\n" +
			"ends; help lists them. Where the environment wants a grant for what a command does, you\n" +
			"need an active one.\n\nExit codes: 0 closed by you; 7 the grant is over; 3 a command read from a file failed.",
		Example: "  slipway session open --environment production --device pump-7 --reason INC-12\n  echo 'query SELECT COUNT() FROM devices' | slipway session open --environment production",
		Args:    cobra.NoArgs,
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			s, err := c.OpenSession(ctx, o)
			if err != nil {
				return err
			}
			until := ""
			if s.Until != nil {
				until = ", until " + s.Until.UTC().Format("15:04:05 UTC") + " by " + s.Grant
			}
			a.note("%s in %s is recorded%s; help lists the commands\n", s.ID, s.Environment, until)
			return a.converse(ctx, c, s)
		}),
	}
	cmd.Flags().StringVar(&o.Environment, "environment", "", "environment to work in")
	cmd.Flags().StringVar(&o.Device, "device", "", "device that commands are about; may be chosen later")
	cmd.Flags().StringVar(&o.Stamp, "stamp", "", "stamp whose data is asked; default every stamp of the environment")
	cmd.Flags().StringVar(&o.Reason, "reason", "", "why, for the record")
	required(cmd, "environment")
	a.complete(cmd, "environment", environments)
	return cmd
}

// converse reads lines and shows their answers, until there are no more, the
// session is closed, or its grant is over.
func (a *app) converse(ctx context.Context, c *client.Client, s gateway.Session) error {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	go func() {
		closed, err := c.FollowSession(ctx, s.ID, 0, func(gateway.Line) error { return nil })
		if err == nil && closed != nil {
			leave(problem.New(problem.Denied, "session %s is closed: %s", s.ID, closed.Outcome))
		}
	}()
	lines := make(chan string)
	go func() {
		defer close(lines)
		typed := bufio.NewScanner(a.in)
		typed.Buffer(nil, 1<<20)
		for typed.Scan() {
			select {
			case lines <- typed.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	failed := false
	for {
		a.prompt(s)
		select {
		case <-ctx.Done():
			return a.leftBy(ctx, c, s)
		case line, more := <-lines:
			if !more {
				return a.hangUp(c, s, failed)
			}
			if strings.TrimSpace(line) == "" {
				continue
			}
			answered, err := c.TypeLine(ctx, s.ID, line)
			if err != nil {
				if ctx.Err() != nil {
					return a.leftBy(ctx, c, s)
				}
				return err
			}
			failed = failed || answered.Failed
			s = answered.Session
			if err := a.print("%s\n", cleanLines(answered.Output)); err != nil {
				return err
			}
			if s.ClosedAt != nil && strings.TrimSpace(line) == "exit" {
				return a.parted(s, failed)
			}
		}
	}
}

func (a *app) prompt(s gateway.Session) {
	if !a.inTTY {
		return
	}
	about := s.Environment
	if s.Device != "" {
		about += "/" + s.Device
	}
	a.note("%s> ", about)
}

// leftBy says why a session ended that nobody closed here.
func (a *app) leftBy(ctx context.Context, c *client.Client, s gateway.Session) error {
	cause := context.Cause(ctx)
	if problem.Is(cause, problem.Denied) {
		return withHint(cause, "slipway session replay %s shows what was done", s.ID)
	}
	// Interrupted: the session is not left open behind.
	if _, err := c.CloseSession(context.WithoutCancel(ctx), s.ID); err != nil {
		return err
	}
	return cause
}

// hangUp closes a session at the end of its input.
func (a *app) hangUp(c *client.Client, s gateway.Session, failed bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	closed, err := c.CloseSession(ctx, s.ID)
	if err != nil {
		return err
	}
	return a.parted(closed, failed)
}

// parted says what is left of a session.
func (a *app) parted(s gateway.Session, failed bool) error {
	a.note("%s is closed; its record has sha256 %s\n", s.ID, s.Digest)
	if failed && !a.inTTY {
		return answer(exitNo)
	}
	return nil
}

// cleanLines makes text from elsewhere fit for a terminal, line by line.
func cleanLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = clean(l)
	}
	return strings.Join(lines, "\n")
}

var sessionHeader = []string{"SESSION", "ENVIRONMENT", "PERSON", "BY", "GRANT", "DEVICE", "OPENED", "LINES", "CLOSED", "OUTCOME"}

func (a *app) sessionRows(all []gateway.Session) [][]string {
	rows := make([][]string, len(all))
	for i, s := range all {
		rows[i] = []string{s.ID, s.Environment, s.Name, s.Way, s.Grant, s.Device, a.when(&s.OpenedAt), strconv.Itoa(s.Lines), a.when(s.ClosedAt), s.Outcome}
	}
	return rows
}

func (a *app) sessionList() *cobra.Command {
	var environment, person, of, after string
	var open bool
	cmd := a.read(&cobra.Command{
		Use: "list", Short: "List recorded sessions, newest first", Args: cobra.NoArgs,
		Example: "  slipway session list --environment production --open",
		RunE: a.call(func(ctx context.Context, c *client.Client, _ []string) error {
			page, err := c.Sessions(ctx, environment, person, of, open, after)
			if err != nil {
				return err
			}
			if a.asJSON {
				return jsonList(a, page.Items, page.Next)
			}
			return a.table(sessionHeader, a.sessionRows(page.Items))
		}),
	})
	cmd.Flags().StringVar(&environment, "environment", "", "only those in this environment")
	cmd.Flags().StringVar(&person, "person", "", "only those of this person")
	cmd.Flags().StringVar(&of, "grant", "", "only those under this grant")
	cmd.Flags().BoolVar(&open, "open", false, "only those that are open")
	cmd.Flags().StringVar(&after, "after", "", "begin after the page before, with its next")
	a.complete(cmd, "environment", environments)
	return cmd
}

func (a *app) sessionShow() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "show ID", Short: "Show a session, and whether its record is still what it was when it was closed", Args: cobra.ExactArgs(1),
		Long: "Show a session. The record of a closed one is read anew and held against the digest that the\naudit log was given.\n\nExit codes: 3 the record was changed.",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			s, err := c.Session(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(s)
			}
			if err := a.table(sessionHeader, a.sessionRows([]gateway.Session{s})); err != nil || s.ClosedAt == nil {
				return err
			}
			v, err := c.VerifySession(ctx, args[0])
			if err != nil {
				return err
			}
			if !v.Same {
				a.note("the record was changed after it was closed: it no longer has sha256 %s\n", v.Digest)
				return answer(exitNo)
			}
			return a.print("the record has sha256 %s, as the audit log has it\n", v.Digest)
		}),
	})
}

func (a *app) sessionReplay() *cobra.Command {
	var speed float64
	var idle time.Duration
	var raw bool
	cmd := &cobra.Command{
		Use: "replay ID", Short: "Replay what was done in a session, and what came back", Args: cobra.ExactArgs(1),
		Long: "Replay a session line by line: at once, or at the pace at which it happened with --speed. An open\n" +
			"session is followed until it is closed. --raw writes the record as an asciicast, version 2,\n" +
			"whose SHA-256 is the digest in the audit log once the session is closed.",
		Example: "  slipway session replay session-12\n  slipway session replay session-12 --speed 4 --idle 2s\n  slipway session replay session-12 --raw > session-12.cast",
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			if raw {
				return c.SessionRecord(ctx, args[0], a.out)
			}
			if speed < 0 {
				return usage("--speed is 0 for at once, or how many times as fast as it happened, not %v", speed)
			}
			s, err := c.Session(ctx, args[0])
			if err != nil {
				return err
			}
			a.note("%s: %s, %s in %s, %s\n", s.ID, clean(s.Name), s.Way, s.Environment, s.OpenedAt.UTC().Format(time.RFC3339))
			last := int64(0)
			closed, err := c.FollowSession(ctx, args[0], 0, func(l gateway.Line) error {
				if err := pause(ctx, time.Duration(l.At-last)*time.Microsecond, speed, idle); err != nil {
					return err
				}
				last = l.At
				return a.replayed(l)
			})
			if err == nil && closed != nil {
				a.note("closed: %s\n", clean(closed.Outcome))
			}
			return err
		}),
	}
	cmd.Flags().Float64Var(&speed, "speed", 0, "how many times as fast as it happened; 0 is at once")
	cmd.Flags().DurationVar(&idle, "idle", 3*time.Second, "the longest pause between two lines, with --speed")
	cmd.Flags().BoolVar(&raw, "raw", false, "write the record as an asciicast")
	return cmd
}

// pause waits as long as there was between two lines, faster by speed.
func pause(ctx context.Context, between time.Duration, speed float64, longest time.Duration) error {
	if speed == 0 || between <= 0 {
		return nil
	}
	wait := time.NewTimer(min(time.Duration(float64(between)/speed), longest))
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return nil
	}
}

// replayed prints a line of a record.
func (a *app) replayed(l gateway.Line) error {
	at := fmt.Sprintf("%02d:%02d:%06.3f", l.At/3600e6, l.At/60e6%60, float64(l.At%60e6)/1e6)
	text := cleanLines(l.Text)
	if l.Kind == gateway.In {
		return a.print("%s > %s\n", at, text)
	}
	return a.print("%s\n", text)
}

func (a *app) sessionClose() *cobra.Command {
	return a.read(&cobra.Command{
		Use: "close ID", Short: "Close a session of yours", Args: cobra.ExactArgs(1),
		RunE: a.call(func(ctx context.Context, c *client.Client, args []string) error {
			s, err := c.CloseSession(ctx, args[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(s)
			}
			return a.print("%s closed; its record has sha256 %s\n", s.ID, s.Digest)
		}),
	})
}
