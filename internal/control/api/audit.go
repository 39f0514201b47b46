package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/gateway"
)

// auditQuery selects entries of the audit log.
type auditQuery struct {
	Before      int64     `query:"before" minimum:"0" doc:"Entries older than this sequence"`
	Limit       int       `query:"limit" minimum:"1" maximum:"1000"`
	Actor       string    `query:"actor" maxLength:"200" doc:"Who; here and below, one that ends in * is what it begins with"`
	Action      string    `query:"action" maxLength:"200" doc:"Such as twin.patch, or promotion.*"`
	Object      string    `query:"object" maxLength:"300" doc:"Such as device/sensor-1, or release/*"`
	Environment string    `query:"environment" maxLength:"63"`
	Grant       string    `query:"grant" maxLength:"100"`
	Request     string    `query:"request" maxLength:"100" doc:"X-Request-Id of the answer to the request"`
	From        time.Time `query:"from" doc:"Not before this time"`
	To          time.Time `query:"to" doc:"Before this time"`
}

type entryRef struct {
	Sequence int64 `path:"sequence" minimum:"1"`
}

// provenEntry is an entry with the proof that it is in the log.
type provenEntry struct {
	Entry    audit.Entry    `json:"entry"`
	Proof    audit.Proof    `json:"proof"`
	Recorded []gateway.Mark `json:"recorded,omitempty" doc:"The lines of recorded sessions by which it came"`
}

type eraseAudit struct {
	Body struct {
		Actor  string `json:"actor,omitempty" maxLength:"200" doc:"Whose name to forget"`
		Object string `json:"object,omitempty" maxLength:"300" doc:"What to forget, such as device/sensor-1, and what is below it"`
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Why, in words that name nobody"`
	}
}

// erasedAudit says how much was forgotten.
type erasedAudit struct {
	Entries int64 `json:"entries"`
}

// signedLog is the newest checkpoint, and who keeps it elsewhere.
type signedLog struct {
	audit.Checkpoint
	Witnesses []audit.WitnessState `json:"witnesses"`
}

// auditLog registers the audit log: what it holds, and the proofs of it.
func (a *api) auditLog() {
	const base = "/api/v1/audit"
	route(a, "GET", base, "listAudit", "Who did what, newest first; that you looked is recorded", func(ctx context.Context, in *auditQuery) (*body[list[audit.Entry]], error) {
		limit := in.Limit
		if limit == 0 {
			limit = 100
		}
		entries, err := a.Audit.List(ctx, actorOf(ctx).Name, audit.Filter{
			Actor: in.Actor, Action: in.Action, Object: in.Object, Environment: in.Environment, Grant: in.Grant, Request: in.Request,
			From: in.From, To: in.To, Before: in.Before, Limit: limit,
		})
		next := ""
		if len(entries) == limit {
			next = strconv.FormatInt(entries[limit-1].Sequence, 10)
		}
		return listOf(entries, next), err
	})
	route(a, "GET", base+"/entries/{sequence}", "getAuditEntry", "An entry with the proof that it is in the signed log; that you looked is recorded", func(ctx context.Context, in *entryRef) (*body[provenEntry], error) {
		e, p, err := a.Audit.Show(ctx, actorOf(ctx).Name, in.Sequence)
		if err != nil {
			return nil, err
		}
		marks, err := a.Gateway.Recorded(ctx, e.Request)
		return &body[provenEntry]{provenEntry{e, p, marks}}, err
	})
	route(a, "GET", base+"/consistency", "getAuditConsistency", "The proof that the log begins with all that an earlier checkpoint covers", func(ctx context.Context, in *struct {
		From int64 `query:"from" required:"true" minimum:"1" doc:"Size of the earlier checkpoint"`
		To   int64 `query:"to" minimum:"0" doc:"Size of the later one; default the newest"`
	}) (*body[audit.Continuation], error) {
		c, err := a.Audit.Continue(ctx, in.From, in.To)
		return &body[audit.Continuation]{c}, err
	})
	route(a, "GET", base+"/checkpoint", "getAuditCheckpoint", "The newest signed checkpoint, and the witnesses that keep it", func(ctx context.Context, _ *nothing) (*body[signedLog], error) {
		c, err := a.Audit.Latest(ctx)
		if err != nil {
			return nil, err
		}
		return a.signedLog(ctx, c)
	})
	route(a, "GET", base+"/checkpoints", "listAuditCheckpoints", "Signed checkpoints, newest first", func(ctx context.Context, in *struct {
		Limit int `query:"limit" minimum:"1" maximum:"1000"`
	}) (*body[list[audit.Checkpoint]], error) {
		limit := in.Limit
		if limit == 0 {
			limit = 100
		}
		all, err := a.Audit.Checkpoints(ctx, limit)
		return listOf(all, ""), err
	})
	route(a, "POST", base+"/checkpoints", "signAudit", "Sign the log as it is, and give that to the witnesses", func(ctx context.Context, _ *nothing) (*body[signedLog], error) {
		c, err := a.Audit.Checkpoint(ctx, actorOf(ctx).Name)
		if err != nil {
			return nil, err
		}
		if err := a.Audit.Publish(ctx); err != nil {
			a.Logger.Warn("publishing a checkpoint of the audit log failed; trying again", "error", err)
		}
		return a.signedLog(ctx, c)
	})
	route(a, "POST", base+"/erasures", "eraseAudit", "Forget who somebody was, or what an object was; all proofs hold as before", func(ctx context.Context, in *eraseAudit) (*body[erasedAudit], error) {
		n, err := a.Audit.Erase(ctx, actorOf(ctx).Name, audit.Erasure{Actor: in.Body.Actor, Object: in.Body.Object, Reason: in.Body.Reason})
		return &body[erasedAudit]{erasedAudit{n}}, err
	})
	route(a, "GET", base+"/export", "exportAudit", "The whole log as lines of JSON, for `slipway audit verify`; that it was exported is recorded", a.exportAudit)
}

func (a *api) signedLog(ctx context.Context, c audit.Checkpoint) (*body[signedLog], error) {
	states, err := a.Audit.WitnessStates(ctx)
	return &body[signedLog]{signedLog{c, states}}, err
}

// exportAudit streams the log. What goes wrong on the way breaks the
// connection, so that nobody takes part of it for all.
func (a *api) exportAudit(ctx context.Context, _ *nothing) (*huma.StreamResponse, error) {
	export, err := a.Audit.Export(ctx, actorOf(ctx).Name)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		hctx.SetHeader("Content-Type", "application/jsonl")
		_, w := humago.Unwrap(hctx)
		if err := export.Write(ctx, w); err != nil {
			a.Logger.Warn("an export of the audit log was broken off", "error", err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}
