// Package console is control over HTML: pages from the server that work
// without scripts, and server-sent fragments of the same pages for what moves.
// It decides nothing; it calls the subjects the API calls.
package console

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/backup"
	"github.com/slipway/slipway/internal/control/fleet"
	"github.com/slipway/slipway/internal/control/gate"
	"github.com/slipway/slipway/internal/control/place"
	"github.com/slipway/slipway/internal/control/promotion"
	"github.com/slipway/slipway/internal/control/release"
	"github.com/slipway/slipway/internal/control/rollout"
	"github.com/slipway/slipway/internal/control/signin"
	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/resource"
)

// Access opens, finds and ends the sessions of people, and says what they may
// do.
type Access interface {
	Login(ctx context.Context, token string, from access.Login) (cookie string, err error)
	Session(ctx context.Context, cookie string) (access.Session, error)
	Logout(ctx context.Context, cookie string) error
	HoldRequest(w http.ResponseWriter, r *http.Request, actor access.Actor) (held *http.Request, letGo func())
	place.Checker
}

// Audit tells who did what, and proves it.
type Audit interface {
	List(ctx context.Context, actor string, f audit.Filter) ([]audit.Entry, error)
	Show(ctx context.Context, actor string, sequence int64) (audit.Entry, audit.Proof, error)
	Latest(ctx context.Context) (audit.Checkpoint, error)
	WitnessStates(ctx context.Context) ([]audit.WitnessState, error)
}

// Environments tells what is declared, and changes it.
type Environments interface {
	List(ctx context.Context) ([]resource.Environment, error)
	Stamps(ctx context.Context) ([]resource.Stamp, error)
	Routes(ctx context.Context, actor access.Actor, secrets bool) ([]resource.Route, error)
	Route(ctx context.Context, actor access.Actor, name string, secrets bool) (resource.Route, error)
	PutStamp(ctx context.Context, actor access.Actor, name string, spec resource.StampSpec, ifMatch string, dryRun bool) (resource.Stamp, error)
}

// Fleet shows devices and changes them.
type Fleet interface {
	Overview(ctx context.Context) ([]fleet.Level, error)
	Stamps(ctx context.Context) ([]resource.Stamp, error)
	Stamp(ctx context.Context, name string) (resource.Stamp, error)
	Capacity(ctx context.Context) ([]fleet.Capacity, error)
	Tenants(ctx context.Context) ([]resource.Tenant, error)
	List(ctx context.Context, filter fleet.Filter) (fleet.Page, error)
	Show(ctx context.Context, id string) (fleet.Detail, error)
	Placement(ctx context.Context, id string) (link.Placement, error)
	PatchTwin(ctx context.Context, actor access.Actor, id, ifMatch string, patch json.RawMessage) (link.Twin, error)
	ReplaceTwin(ctx context.Context, actor access.Actor, id, ifMatch string, document json.RawMessage) (link.Twin, error)
	InvokeMethod(ctx context.Context, actor access.Actor, req link.InvokeMethod) (link.MethodResult, error)
	SendMessage(ctx context.Context, actor access.Actor, m link.SendMessage) (link.QueuedMessage, error)
	Queued(ctx context.Context, id string) (link.QueuedMessages, error)
	PurgeMessages(ctx context.Context, actor access.Actor, id string) (link.Purged, error)
	Telemetry(ctx context.Context, stamp string, req link.ReadLog) (link.LogPage, error)
	Events(ctx context.Context, stamp string, req link.ReadLog) (link.LogPage, error)
	FollowTelemetry(ctx context.Context, stamp string, req link.WatchLog, each func(link.LogRecord) error) error
	FollowEvents(ctx context.Context, stamp string, req link.WatchLog, each func(link.LogRecord) error) error
	StartMove(ctx context.Context, actor access.Actor, req link.StartMove) (link.Move, error)
	Move(ctx context.Context, id string) (link.Move, error)
	Moves(ctx context.Context, limit int) (link.Moves, error)
	MoveDevices(ctx context.Context, req link.ListMoveDevices) (link.MovedDevices, error)
	Enrollment(ctx context.Context, ref link.EnrollmentRef) (link.Enrollment, error)
	Enrollments(ctx context.Context, req link.ListEnrollments) (link.Enrollments, error)
	PutEnrollment(ctx context.Context, actor access.Actor, req link.PutEnrollment) (link.Enrollment, error)
	DeleteEnrollment(ctx context.Context, actor access.Actor, ref link.EnrollmentRef) error
	SecretsRead(ctx context.Context, actor access.Actor, ref link.EnrollmentRef) error
	Authorities(ctx context.Context) ([]link.Authority, error)
	AddAuthority(ctx context.Context, actor access.Actor, req link.AddAuthority) (link.Authority, error)
	VerifyAuthority(ctx context.Context, actor access.Actor, req link.VerifyAuthority) (link.Authority, error)
	DeleteAuthority(ctx context.Context, actor access.Actor, name string) error
	Scope(ctx context.Context) (link.Scope, error)
	Query(ctx context.Context, environment, stamp string, req link.RunQuery) ([]fleet.Answer, error)
	SavedQueries(ctx context.Context) ([]fleet.SavedQuery, error)
	SaveQuery(ctx context.Context, actor access.Actor, name, text string) error
	ForgetQuery(ctx context.Context, actor access.Actor, name string) error
	Jobs(ctx context.Context) ([]link.Job, error)
	CancelJob(ctx context.Context, actor access.Actor, stamp, id string) (link.Job, error)
	Configurations(ctx context.Context) ([]link.Configuration, error)
	DeadLetters(ctx context.Context, stamp string, req link.DeadLetterPage) (link.DeadLetters, error)
	ReplayDeadLetters(ctx context.Context, actor access.Actor, stamp string, ref link.DeadLetterRef) (link.Purged, error)
	PurgeDeadLetters(ctx context.Context, actor access.Actor, stamp string, ref link.DeadLetterRef) (link.Purged, error)
	Uploads(ctx context.Context, stamp, device string, limit int) ([]link.Upload, error)
	ReadUpload(ctx context.Context, actor access.Actor, stamp, blob string, each func(link.UploadChunk) error) error
	Updates(ctx context.Context, stamp string, req link.ListUpdates) (link.Updates, error)
	Update(ctx context.Context, stamp, device string) (link.Update, error)
}

// Releases tells what there is to be promoted.
type Releases interface {
	Get(ctx context.Context, name string) (link.Release, error)
	List(ctx context.Context, before int64, limit int) ([]link.Release, error)
	Components(ctx context.Context, name string) ([]release.Component, error)
	Diff(ctx context.Context, a, b string) ([]release.Change, error)
}

// Signing tells whether devices of an environment may install a release.
type Signing interface {
	Admitted(ctx context.Context, environment, release string) (admitted bool, reason string, err error)
}

// Promotions shows how releases go from environment to environment, and takes
// people's words on them.
type Promotions interface {
	Board(ctx context.Context) ([]promotion.Lane, error)
	Show(ctx context.Context, id string) (promotion.Dossier, error)
	Verifications(ctx context.Context, release string) ([]promotion.Verification, error)
	Rejections(ctx context.Context, environment string) ([]promotion.Rejection, error)
	Start(ctx context.Context, actor access.Actor, environment, release, reason string) (promotion.Promotion, error)
	Retry(ctx context.Context, actor access.Actor, id, reason string) (promotion.Promotion, error)
	Approve(ctx context.Context, actor access.Actor, id, reason string) (promotion.Promotion, error)
	Reject(ctx context.Context, actor access.Actor, id, reason string) (promotion.Promotion, error)
	Abort(ctx context.Context, actor access.Actor, id, reason string, leave, force bool) (promotion.Promotion, error)
	Rollback(ctx context.Context, actor access.Actor, way promotion.Return) (promotion.Promotion, error)
	Hold(ctx context.Context, actor access.Actor, environment, reason string, all bool, life time.Duration) (promotion.Hold, error)
	EndHold(ctx context.Context, actor access.Actor, id string) (promotion.Hold, error)
	Lift(ctx context.Context, actor access.Actor, environment, release, reason string) (promotion.Rejection, error)
	ApproveWaiver(ctx context.Context, actor access.Actor, id string) (promotion.Waiver, error)
	ReviewWaiver(ctx context.Context, actor access.Actor, id, found string) (promotion.Waiver, error)
}

// Rollouts shows how releases come onto stamps and devices, and steers that.
type Rollouts interface {
	Show(ctx context.Context, id string) (rollout.View, error)
	Matrix(ctx context.Context, release string) ([]rollout.Cell, error)
	Pause(ctx context.Context, actor access.Actor, id, reason string) (rollout.Rollout, error)
	Resume(ctx context.Context, actor access.Actor, id, reason string) (rollout.Rollout, error)
	Skip(ctx context.Context, actor access.Actor, id, stamp, reason string) (rollout.Rollout, error)
	Abort(ctx context.Context, actor access.Actor, id, reason string, leave, force bool) (rollout.Rollout, error)
}

// Backups shows backups and drills, and asks for more.
type Backups interface {
	Overview(ctx context.Context) (backup.BackupOverview, error)
	List(ctx context.Context, peer string, before time.Time, limit int) ([]backup.Backup, error)
	Days(ctx context.Context, days int) ([]backup.Day, error)
	Get(ctx context.Context, id string) (backup.Backup, error)
	Drills(ctx context.Context, before time.Time, limit int) ([]backup.Drill, error)
	Drill(ctx context.Context, id string) (backup.Drill, error)
	Ask(ctx context.Context, actor access.Actor, only []string, anew bool) ([]backup.Backup, error)
	Verify(ctx context.Context, actor access.Actor, id string) (backup.Backup, error)
	AskDrill(ctx context.Context, actor access.Actor) (backup.Drill, error)
}

// Gates shows what stops releases, and stops them.
type Gates interface {
	PastHalts(ctx context.Context) ([]gate.Halt, error)
	Halts(ctx context.Context, environment string) ([]gate.Halt, error)
	Halt(ctx context.Context, actor access.Actor, h gate.Halt, life time.Duration) (gate.Halt, error)
	Lift(ctx context.Context, actor access.Actor, id, reason string) (gate.Halt, error)
	History(ctx context.Context, promotion string) ([]gate.Result, error)
	Vulnerable(ctx context.Context, release string) ([]gate.Finding, error)
}

// Options are the subjects the console shows.
type Options struct {
	Access         Access
	Places         *place.Finder  // where things are, to ask for rights there
	SignIn         *signin.SignIn // nil where people come with tokens alone
	Audit          Audit
	Environments   Environments
	Fleet          Fleet
	Releases       Releases
	Signing        Signing
	Promotions     Promotions
	Rollouts       Rollouts
	Gates          Gates
	Alerts         Alerts
	Journal        Journal
	Incidents      Incidents
	Metrics        Metrics
	Backups        Backups
	Flags          Flags
	Drift          Drift
	Configurations Configurations
	Derivations    Derivations // what environments inherit
	Grants         Grants
	Gateway        Gateway
	Permissions    []string // that a grant can give
	Logger         *slog.Logger

	Retention Retention
	Erasures  Erasures
	Retired   Decommissions

	// Provisioning is the endpoint devices register at, "host:port"; empty
	// when control does not know it.
	Provisioning string
	Version      string // of the program
}

type console struct {
	Options
	pulse   *pulse
	streams chan struct{} // one for each open event stream
	now     func() time.Time
}

// New returns the console's handler. Cookies are marked secure on requests
// that came over TLS.
func New(o Options) http.Handler {
	c := &console{Options: o, streams: make(chan struct{}, maxStreams), now: time.Now}
	c.pulse = newPulse(o.Fleet.Overview)
	mux := http.NewServeMux()
	for pattern, h := range c.open() {
		mux.Handle(pattern, c.serve(h))
	}
	closed := c.closed()
	checkLines(closed)
	for pattern, h := range closed {
		mux.Handle(pattern, c.serve(c.loggedIn(c.permitted(pattern, h))))
	}
	mux.HandleFunc("GET /assets/{file...}", serveAsset)
	return secured(http.NewCrossOriginProtection().Handler(mux))
}

// open are the pages for everybody.
func (c *console) open() map[string]handler {
	return map[string]handler{
		"GET /login":              c.showLogin,
		"POST /login":             c.login,
		"POST /login/password":    c.loginPassword,
		"GET /login/code":         c.showCode,
		"POST /login/code":        c.loginCode,
		"POST /login/passkey/ask": c.askPasskey,
		"POST /login/passkey":     c.loginPasskey,
		"GET /login/provider":     c.loginProvider,
		"GET " + providerBack:     c.loginVouched,
		"GET /invitation":         c.showInvitation,
		"POST /invitation":        c.acceptInvitation,
		"/":                       notFound,
	}
}

// closed are the pages for people with a session. Each POST among them is
// refused without the session's CSRF token.
func (c *console) closed() map[string]sessionHandler {
	return map[string]sessionHandler{
		"POST /logout":                      c.logout,
		"POST /theme":                       c.setTheme,
		"GET /account":                      c.account,
		"POST /account/app":                 c.beginApp,
		"POST /account/app/confirm":         c.confirmApp,
		"POST /account/passkey/ask":         c.beginPasskey,
		"POST /account/passkey":             c.addPasskey,
		"POST /account/recovery":            c.newRecoveryCodes,
		"POST /account/factors/remove":      c.removeFactor,
		"POST /account/sessions/end":        c.endOwnSession,
		"POST /account/tokens":              c.makeOwnToken,
		"POST /account/tokens/revoke":       c.revokeOwnToken,
		"GET /people":                       c.people,
		"POST /people":                      c.addPerson,
		"POST /people/do":                   c.doPerson,
		"POST /people/roles":                c.giveRole,
		"POST /people/roles/take":           c.takeRole,
		"POST /people/sessions/end":         c.endSession,
		"GET /{$}":                          c.home,
		"GET /live":                         c.homeLive,
		"GET /devices":                      c.devices,
		"GET /devices/{id}":                 c.device,
		"GET /devices/{id}/live":            c.deviceLive,
		"POST /devices/{id}/twin":           c.saveTwin,
		"POST /devices/{id}/method":         c.invokeMethod,
		"POST /devices/{id}/messages":       c.sendMessage,
		"POST /devices/{id}/messages/purge": c.purgeMessages,
		"GET /moves":                        c.moves,
		"GET /moves/new":                    c.planMove,
		"POST /moves":                       c.startMove,
		"GET /moves/{id}":                   c.move,
		"GET /moves/{id}/live":              c.moveLive,
		"GET /enrollments":                  c.enrollments,
		"GET /enrollments/new":              c.planEnrollment,
		"POST /enrollments/new":             c.makeEnrollment,
		"POST /enrollments/{name}":          c.changeEnrollment(link.Individual),
		"POST /enrollment-groups/{name}":    c.changeEnrollment(link.Group),
		"GET /authorities":                  c.authorities,
		"POST /authorities":                 c.changeAuthorities,
		"GET /query":                        c.query,
		"POST /query/save":                  c.saveQuery,
		"POST /query/forget":                c.forgetQuery,
		"GET /routes":                       c.routes,
		"GET /routes/live":                  c.routesLive,
		"GET /routes/{name}":                c.route,
		"GET /routes/{name}/live":           c.routeLive,
		"POST /routes/{name}/dead-letters":  c.useDeadLetters,
		"GET /topology":                     c.topology,
		"GET /topology/live":                c.topologyLive,
		"GET /stamps/{name}":                c.stamp,
		"GET /stamps/{name}/live":           c.stampLive,
		"POST /stamps/{name}/state":         c.setStamp,
		"GET /capacity":                     c.capacity,
		"GET /tenants/{name}":               c.tenant,
		"POST /tenants/{name}/move":         c.moveTenant,
		"GET /capacity/live":                c.capacityLive,
		"GET /jobs":                         c.jobs,
		"GET /jobs/live":                    c.jobsLive,
		"POST /jobs/cancel":                 c.cancelJob,
		"GET /files":                        c.files,
		"GET /files/content":                c.file,
		"GET /enrollments/{name}":           c.enrollment(link.Individual),
		"GET /enrollment-groups/{name}":     c.enrollment(link.Group),
		"GET /audit":                        c.auditLog,
		"GET /alerts":                       c.alerts,
		"GET /alerts/live":                  c.alertsLive,
		"POST /alerts/silence":              c.silence,
		"POST /alerts/unsilence":            c.endSilence,
		"POST /alerts/test":                 c.testAlert,
		"GET /monitor":                      c.monitor,
		"GET /monitor/live":                 c.monitorLive,
		"GET /slos":                         c.slos,
		"GET /logs":                         c.logs,
		"GET /incidents":                    c.incidents,
		"POST /incidents":                   c.openIncident,
		"GET /incidents/{id}":               c.incident,
		"POST /incidents/{id}":              c.changeIncident,
		"GET /timeline":                     c.timeline,
		"GET /traces":                       c.traces,
		"GET /traces/{trace}":               c.trace,
		"GET /slos/live":                    c.slosLive,
		"GET /runbooks/{name}":              c.runbook,
		"GET /audit/{sequence}":             c.auditEntry,
		"GET /pipeline":                     c.pipeline,
		"GET /pipeline/live":                c.pipelineLive,
		"GET /matrix":                       c.matrix,
		"GET /matrix/live":                  c.matrixLive,
		"GET /care":                         c.care,
		"POST /care/run":                    c.cleanUp,
		"POST /care/holds":                  c.placeHold,
		"POST /care/holds/{id}/lift":        c.liftHold,
		"POST /care/erasures":               c.startErasure,
		"GET /erasures/{id}":                c.erasure,
		"GET /erasures/{id}/proof":          c.erasureProof,
		"POST /devices/{id}/decommission":   c.decommissionDevice,
		"POST /devices/{id}/recommission":   c.recommissionDevice,
		"GET /backups":                      c.backups,
		"POST /backups":                     c.createBackups,
		"GET /backups/{id}":                 c.backup,
		"POST /backups/{id}/verify":         c.verifyBackup,
		"GET /drills/{id}":                  c.drill,
		"POST /drills":                      c.askDrill,
		"GET /freezes":                      c.freezes,
		"GET /promotions/{id}":              c.promotion,
		"GET /promotions/{id}/live":         c.promotionLive,
		"GET /rollouts/{id}":                c.rollout,
		"GET /rollouts/{id}/live":           c.rolloutLive,
		"GET /flags":                        c.flags,
		"GET /drift":                        c.drift,
		"GET /configurations":               c.configurations,
		"GET /configurations/{name}":        c.configuration,
		"GET /parity/{from}/{to}":           c.parity,
		"GET /environments/{name}":          c.environment,
		"GET /flags/{name}":                 c.flag,
		"GET /releases":                     c.releases,
		"GET /releases/{name}":              c.release,
		"GET /access-reviews":               c.reviews,
		"GET /access-reviews/{id}":          c.review,
		"GET /grants":                       c.grants,
		"GET /grants/live":                  c.grantsLive,
		"GET /grants/new":                   c.planGrant,
		"POST /grants":                      c.askGrant,
		"GET /grants/{id}":                  c.grant,
		"GET /grants/{id}/live":             c.grantLive,
		"GET /recordings":                   c.recordings,
		"GET /recordings/{id}":              c.recording,
		"GET /recordings/{id}/live":         c.recordingLive,
		"GET /recordings/{id}/record":       c.recordingFile,
		"GET /acts/{act}":                   c.askAct,
		"POST /acts/{act}":                  c.doAct,
	}
}
