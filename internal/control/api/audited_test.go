package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/sqldb"
)

// mutation is a valid request of an operation. {NAME} in it is what an earlier
// answer said: keep is the name of what this one's says, and which member.
type mutation struct {
	id, path, body string
	keep           [2]string
	as             string                                  // the kept token that sends it; empty is the first
	away           bool                                    // who would carry it out does not answer, which is recorded too
	before         func(s *server, kept map[string]string) // has something be there that a request is about
}

// mutations are in an order in which each finds what it is about.
var mutations = []mutation{
	{id: "putEnvironment", path: "environments/dev", body: `{"spec":{"promotion":{"gates":[{"name":"agreed","approvals":{"count":2}}]}}}`},
	{id: "putEnvironment", path: "environments/next", body: `{"spec":{"promotesFrom":"dev"}}`},
	{id: "putEnvironment", path: "environments/spare", body: `{"spec":{}}`},
	{id: "deleteEnvironment", path: "environments/spare"},
	{id: "putBlueprint", path: "blueprints/plan", body: `{"spec":{"stamps":[{"name":"a","region":"r"}]}}`},
	{id: "deleteBlueprint", path: "blueprints/plan"},
	{id: "setSecret", path: "environments/dev/secrets/key", body: `{"value":"v"}`},
	{id: "deleteSecret", path: "environments/dev/secrets/key"},
	{id: "putStamp", path: "stamps/spare-1", body: `{"spec":{"environment":"dev","region":"r","state":"closed"}}`},
	{id: "putTenant", path: "tenants/spare", body: `{"spec":{}}`},
	{id: "putRoute", path: "routes/r1", body: `{"spec":{"environment":"test","source":"telemetry","endpoint":{"webhook":{"url":"https://example.com/hook"}}}}`},
	{id: "replayDeadLetters", path: "routes/r1/dead-letters/replay", body: `{"stamp":"test-1"}`, away: true},
	{id: "purgeDeadLetters", path: "routes/r1/dead-letters/purge", body: `{"stamp":"test-1"}`, away: true},
	{id: "deleteRoute", path: "routes/r1"},
	{id: "putEnrollmentGroup", path: "enrollment-groups/g", body: `{"spec":{"environment":"test","attestation":{"symmetricKey":{}}}}`, away: true},
	{id: "putEnrollment", path: "enrollments/e", body: `{"spec":{"environment":"test","attestation":{"symmetricKey":{}}}}`, away: true},
	{id: "deleteEnrollmentGroup", path: "enrollment-groups/g", away: true},
	{id: "deleteEnrollment", path: "enrollments/e", away: true},
	{id: "patchTwin", path: "devices/acme-1/twin", body: `{"tags":{"a":1}}`, away: true},
	{id: "replaceTwin", path: "devices/acme-1/twin", body: `{"tags":{"a":1}}`, away: true},
	{id: "invokeMethod", path: "devices/acme-1/methods/reboot", body: `{}`, away: true},
	{id: "sendCommand", path: "devices/acme-1/commands", body: `{"body":"eA=="}`, away: true},
	{id: "purgeCommands", path: "devices/acme-1/commands", away: true},
	{id: "importDevices", path: "environments/test/import-devices", body: `{"devices":[{"deviceId":"old-1"}]}`, away: true},
	{id: "startMove", path: "moves", body: `{"to":"dev","devices":["acme-1"]}`, away: true},
	{id: "cancelJob", path: "stamps/test-1/jobs/j/cancel", away: true},
	{id: "setUpdateGateway", path: "stamps/test-1/update-gateway", body: `{"tenant":"acme","on":true}`, away: true},
	{id: "rotatePolicy", path: "stamps/test-1/policies/service/rotate", body: `{"key":"primary"}`, away: true},
	{id: "rotateProvisioningPolicy", path: "provisioning/policies/service/rotate", body: `{"key":"primary"}`, away: true},
	{id: "seekConsumer", path: "stamps/test-1/consumers/g/seek", body: `{}`, away: true},
	{id: "deleteConsumer", path: "stamps/test-1/consumers/g", away: true},
	{id: "addAuthority", path: "provisioning/authorities/a", body: `{"certificate":"x"}`, away: true},
	{id: "verifyAuthority", path: "provisioning/authorities/a/verify", body: `{"certificate":"x"}`, away: true},
	{id: "deleteAuthority", path: "provisioning/authorities/a", away: true},
	{id: "revokeCertificate", path: "provisioning/certificates/1/revoke", away: true},
	{id: "answerReadiness", path: "environments/test/readiness/answers/R1", body: `{"owner":"mia","reason":"the vendor has shown it","until":"` + time.Now().AddDate(0, 1, 0).UTC().Format(time.RFC3339) + `"}`},
	{id: "withdrawReadiness", path: "environments/test/readiness/answers/R1"},
	{id: "ownReadiness", path: "readiness-owners/operations", body: `{"owner":"mia"}`},
	{id: "saveQuery", path: "saved-queries/q", body: `{"query":"SELECT * FROM devices"}`},
	{id: "forgetQuery", path: "saved-queries/q"},

	{id: "writeArtifact", path: "artifacts/" + digestOf("firmware") + "/content?file=fw", body: "firmware"},
	{id: "createRelease", path: "releases", body: `{"metadata":{"name":"v1"},"spec":{"configuration":{"a":1}}}`},
	{id: "createRelease", path: "releases", body: `{"metadata":{"name":"v2"},"spec":{"configuration":{"a":2}}}`},
	{id: "deleteRelease", path: "releases/v2"},
	{id: "pruneArtifacts", path: "artifacts/prune", body: `{}`},
	{id: "uploadTestResults", path: "releases/v1/test-results", body: `{"suite":"s","files":[{"name":"r.xml","content":"<testsuite name=\"s\" tests=\"1\"><testcase name=\"a\"/></testsuite>"}]}`},
	{id: "uploadVulnerabilities", path: "vulnerabilities", body: `{"id":"GO-1","affected":[]}`},
	{id: "rotateSigningKey", path: "signing/targets/rotate"},
	{id: "putFlag", path: "flags/fast", body: `{"spec":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}}`},
	{id: "setFlag", path: "environments/dev/flags/fast", body: `{"overlay":{"defaultVariant":"on"},"reason":"r"}`},
	{id: "promoteFlags", path: "environments/next/flags/promote", body: `{"from":"dev","reason":"r","force":true}`},
	{id: "killFlag", path: "environments/dev/flags/fast/kill", body: `{"reason":"r"}`},
	{id: "reviveFlag", path: "environments/dev/flags/fast/revive", body: `{"reason":"r"}`},
	{id: "deleteFlag", path: "flags/fast"},
	{id: "defineConfiguration", path: "configurations/pace", body: `{"definition":{"schema":{"type":"object"}},"reason":"r"}`},
	{id: "writeConfiguration", path: "configurations/pace/versions", body: `{"content":{"every":5},"reason":"r"}`},
	{id: "promoteConfiguration", path: "environments/dev/configurations/pace/promote", body: `{"reason":"r"}`},
	{id: "rollbackConfiguration", path: "environments/dev/configurations/pace/rollback", body: `{"reason":"r"}`},
	{id: "startHalt", path: "halts", body: `{"environment":"dev","reason":"r"}`, keep: [2]string{"halt", "id"}},
	{id: "liftHalt", path: "halts/{halt}/lift", body: `{"reason":"r"}`},
	{id: "setHold", path: "environments/dev/holds", body: `{"reason":"r"}`, keep: [2]string{"hold", "id"}},
	{id: "endHold", path: "holds/{hold}"},
	{id: "startPromotion", path: "promotions", body: `{"environment":"dev","release":"v1"}`, keep: [2]string{"promotion", "id"}},
	{id: "createToken", path: "tokens", body: `{"name":"other"}`, keep: [2]string{"other", "token"}},
	{id: "approvePromotion", path: "promotions/{promotion}/approve", body: `{"reason":"r"}`, as: "other"},
	{id: "abortPromotion", path: "promotions/{promotion}/abort", body: `{"reason":"r"}`},
	{id: "retryPromotion", path: "promotions/{promotion}/retry", body: `{"reason":"r"}`, keep: [2]string{"second", "id"}},
	{id: "rejectPromotion", path: "promotions/{second}/reject", body: `{"reason":"r"}`},
	{id: "liftRejection", path: "environments/dev/lift", body: `{"release":"v1","reason":"r"}`},
	{id: "askWaiver", path: "environments/next/waivers", body: `{"class":"incident","reason":"r","release":"v1","ticket":"t"}`, keep: [2]string{"waiver", "id"}},
	{id: "approveWaiver", path: "waivers/{waiver}/approve", as: "other"},

	{id: "startPromotion", path: "promotions", body: `{"environment":"test","release":"v1"}`},
	{id: "pauseRollout", path: "rollouts/rollout-1/pause", body: `{"reason":"r"}`},
	{id: "resumeRollout", path: "rollouts/rollout-1/resume", body: `{"reason":"r"}`},
	{id: "abortRollout", path: "rollouts/rollout-1/abort", body: `{"reason":"r"}`},

	{id: "putAlertRule", path: "alert-rules/a", body: `{"spec":{"expr":"up == 0"}}`},
	{id: "deleteAlertRule", path: "alert-rules/a"},
	{id: "putReceiver", path: "receivers/a", body: `{"spec":{"webhook":{"url":"https://127.0.0.1:1/"}}}`},
	{id: "testAlert", path: "alerts/test", body: `{}`},
	{id: "deleteReceiver", path: "receivers/a"},
	{id: "putOnCall", path: "on-calls/a", body: `{"spec":{"people":[{"name":"Ann"}]}}`},
	{id: "deleteOnCall", path: "on-calls/a"},
	{id: "putSLO", path: "slos/a", body: `{"spec":{"indicator":"updates","objective":0.9}}`},
	{id: "deleteSLO", path: "slos/a"},
	{id: "startSilence", path: "silences", body: `{"match":{"alertname":"a"},"reason":"r","seconds":600}`, keep: [2]string{"silence", "id"}},
	{id: "endSilence", path: "silences/{silence}"},

	{id: "openIncident", path: "incidents", body: `{"title":"no data","environment":"test"}`, keep: [2]string{"incident", "id"}},
	{id: "noteIncident", path: "incidents/{incident}/notes", body: `{"text":"t"}`},
	{id: "ownIncident", path: "incidents/{incident}/owner", body: `{"owner":"ann"}`},
	{id: "setIncident", path: "incidents/{incident}/state", body: `{"state":"resolved","text":"t"}`},

	{id: "addAccount", path: "accounts", body: `{"id":"berta"}`},
	{id: "addAccount", path: "accounts", body: `{"id":"carl"}`},
	{id: "addAccount", path: "accounts", body: `{"id":"robot","kind":"service","sponsor":"berta"}`},
	{id: "setSponsor", path: "accounts/robot/sponsor", body: `{"sponsor":"carl"}`},
	{id: "inviteAccount", path: "accounts/berta/invitation"},
	{id: "giveRole", path: "bindings", body: `{"role":"viewer","account":"berta"}`, keep: [2]string{"binding", "id"}},
	{id: "createToken", path: "tokens", body: `{"name":"bertas","account":"berta"}`, keep: [2]string{"berta", "token"}},
	{id: "createOwnToken", path: "me/tokens", body: `{"name":"mine"}`, as: "berta", keep: [2]string{"own", "id"}},
	{id: "revokeOwnToken", path: "me/tokens/{own}", as: "berta"},
	{id: "putAccessRole", path: "access-roles/reader", body: `{"spec":{"permissions":["device.read"],"holders":[{"account":"berta"}]}}`},
	{id: "putAccessRole", path: "access-roles/reader", body: `{"spec":{"permissions":["device.read"],"holders":[]}}`},
	{id: "deleteAccessRole", path: "access-roles/reader"},
	{id: "takeRole", path: "bindings/{binding}"},
	{id: "disableAccount", path: "accounts/carl/disable"},
	{id: "enableAccount", path: "accounts/carl/enable"},
	{id: "deleteAccount", path: "accounts/robot"},
	{id: "createToken", path: "tokens", body: `{"name":"short"}`, keep: [2]string{"short", "id"}},
	{id: "revokeToken", path: "tokens/{short}"},
	{id: "putEnvironment", path: "environments/guarded", body: `{"spec":{"access":"controlled","grants":{"breakGlass":true}}}`},
	{id: "addAccount", path: "accounts", body: `{"id":"ada","kind":"person"}`},
	{id: "giveRole", path: "bindings", body: `{"role":"admin","account":"ada"}`, keep: [2]string{"adas", "id"}},
	{id: "createToken", path: "tokens", body: `{"name":"adas","account":"ada"}`, keep: [2]string{"ada", "token"}},
	{id: "addAccount", path: "accounts", body: `{"id":"bob","kind":"person"}`},
	{id: "giveRole", path: "bindings", body: `{"role":"approver","account":"bob"}`},
	{id: "createToken", path: "tokens", body: `{"name":"bobs","account":"bob"}`, keep: [2]string{"bob", "token"}},
	{id: "requestGrant", path: "grants", body: `{"environment":"guarded","purpose":"hotfix","reason":"down","seconds":600,"scope":{"permissions":["stamp.write"]}}`, as: "ada"},
	{id: "changeGrant", path: "grants/grant-1/request", body: `{"purpose":"hotfix","reason":"down","seconds":700,"scope":{"permissions":["stamp.write"]}}`, as: "ada"},
	{id: "approveGrant", path: "grants/grant-1/approve", body: `{}`, as: "bob"},
	{id: "endGrant", path: "grants/grant-1/end", body: `{}`, as: "ada"},
	{id: "requestGrant", path: "grants", body: `{"environment":"guarded","purpose":"hotfix","reason":"down","seconds":600,"scope":{"permissions":["stamp.write"]}}`, as: "ada"},
	{id: "denyGrant", path: "grants/grant-2/deny", body: `{"reason":"no"}`, as: "bob"},
	{id: "requestGrant", path: "grants", body: `{"environment":"guarded","purpose":"hotfix","reason":"down","draft":true,"seconds":600,"scope":{"permissions":["stamp.write"]}}`, as: "ada"},
	{id: "submitGrant", path: "grants/grant-3/submit", body: `{}`, as: "ada"},
	{id: "withdrawGrant", path: "grants/grant-3/withdraw", body: `{}`, as: "ada"},
	{id: "requestGrant", path: "grants", body: `{"environment":"guarded","purpose":"hotfix","reason":"down","seconds":600,"scope":{"permissions":["stamp.write"]}}`, as: "ada"},
	{id: "approveGrant", path: "grants/grant-4/approve", body: `{}`, as: "bob"},
	{id: "revokeGrant", path: "grants/grant-4/revoke", body: `{"reason":"enough"}`, as: "bob"},
	{id: "openAccessReview", path: "access-reviews", body: `{"environment":"guarded"}`, as: "bob"},
	{id: "decideAccessReview", path: "access-reviews/review-1/decisions", body: `{"right":"{adas}","decision":"keep"}`, as: "bob"},
	{id: "breakGlass", path: "grants/break-glass", body: `{"environment":"guarded","purpose":"hotfix","reason":"down","seconds":600,"scope":{"permissions":["stamp.write"]}}`, as: "ada", keep: [2]string{"broken", "id"}},
	{id: "endGrant", path: "grants/{broken}/end", body: `{}`, as: "ada"},
	{id: "reviewGrant", path: "grants/{broken}/review", body: `{"reason":"it was needed"}`, as: "bob"},
	{id: "openShell", path: "recordings", body: `{"environment":"dev"}`, as: "ada", keep: [2]string{"shell", "id"}},
	{id: "typeLine", path: "recordings/{shell}/lines", body: `{"line":"query SELECT * FROM devices"}`, as: "ada"},
	{id: "closeShell", path: "recordings/{shell}", as: "ada"},
	{id: "endSession", path: "sessions/{session}", before: signsIn("session")},
	{id: "endOwnSession", path: "me/sessions/{session}", as: "ada", before: signsIn("session")},

	{id: "setBackupSchedule", path: "backup-schedule", body: `{schedule}`, before: func(s *server, kept map[string]string) {
		kept["schedule"] = s.must("GET", "/api/v1/backup-schedule", "")
	}},
	{id: "createBackups", path: "backups", body: `{"planes":["control"]}`},
	{id: "verifyBackup", path: "backups/20260101T000000Z-control/verify", before: keepsABackup},
	{id: "pruneBackups", path: "prune-backups", body: `{}`},
	{id: "askDrill", path: "drills", keep: [2]string{"drill", "id"}},
	{id: "claimDrill", path: "claim-drill", body: `{"host":"cellar"}`},
	{id: "advanceDrill", path: "drills/{drill}/advance", body: `{"phase":"restoring"}`},
	{id: "concludeDrill", path: "drills/{drill}/conclude", body: `{"drill":"{drill}","trigger":"demand","by":"","host":"","version":"1","begunAt":"2026-01-01T00:00:00Z","endedAt":"2026-01-01T00:01:00Z","trials":[],"negative":{"name":"a flipped byte","verdict":"pass"},"bytes":0,"bytesPerSecond":0}`},
	{id: "setRetention", path: "retention", body: `{"everyHours":24,"days":{"uploads":30}}`},
	{id: "runRetention", path: "retention/run", body: `{}`, away: true},
	{id: "placeLegalHold", path: "legal-holds", body: `{"device":"acme-1","reason":"r"}`, keep: [2]string{"legal", "id"}},
	{id: "liftLegalHold", path: "legal-holds/{legal}/lift", body: `{"reason":"r"}`},
	{id: "startRehearsal", path: "rehearsals", body: `{"environment":"dev","release":"v1"}`, keep: [2]string{"rehearsal", "id"}},
	{id: "cancelRehearsal", path: "rehearsals/{rehearsal}/cancel"},
	{id: "decommissionDevice", path: "devices/acme-1/decommission", body: `{"reason":"r","wipeSeconds":0}`},
	{id: "recommissionDevice", path: "devices/acme-1/recommission", body: `{"reason":"r"}`},
	{id: "startErasure", path: "erasures", body: `{"kind":"device","subject":"acme-1","reason":"r"}`},
	{id: "eraseAudit", path: "audit/erasures", body: `{"object":"device/coyote-1","reason":"r"}`},
	{id: "signAudit", path: "audit/checkpoints"},
}

// notHere are operations that change nothing, or that this server has no one
// to ask for: why, and where they are looked at instead.
var notHere = map[string]string{
	"runQuery":              "it reads",
	"evaluateFlag":          "it reads",
	"tryRoute":              "it sends nothing and keeps nothing",
	"ackConsumer":           "it is part of reading a log",
	"join":                  "all planes are in one process; see membership",
	"newJoinToken":          "all planes are in one process; see membership",
	"revokePeer":            "all planes are in one process; see membership",
	"deleteStamp":           "no stamp tells that it is empty",
	"deleteTenant":          "provisioning does not tell that it has no devices",
	"signProposal":          "TestAPersonSignsOverTheAPI",
	"rollback":              "nothing runs; see promotion",
	"verifyEnvironment":     "nothing runs; see promotion",
	"reviewWaiver":          "no waiver was used; see promotion",
	"skipRollout":           "no rollout runs; see rollout",
	"advanceRehearsal":      "it is how a host is heard of",
	"claimRehearsal":        "the suite of rehearsal",
	"concludeRehearsal":     "the suite of rehearsal",
	"approveConfiguration":  "no change waits; see configuration",
	"withdrawConfiguration": "no change waits; see configuration",
	"acceptDrift":           "nothing differs; see drift",
	"retractAcceptance":     "nothing was accepted; see drift",
	"acceptParity":          "nothing differs; see drift",
}

// signsIn opens a session of the console for ada and keeps its id.
func signsIn(name string) func(s *server, kept map[string]string) {
	return func(s *server, kept map[string]string) {
		s.t.Helper()
		err := s.db.Commit(s.t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
			_, err := s.people.Open(ctx, tx, access.Login{Account: "ada", Method: access.ByPasskey, MFA: true, Remote: "here"}, "ada")
			return err
		})
		if err != nil {
			s.t.Fatal(err)
		}
		open, err := s.people.Sessions(s.t.Context(), "ada")
		if err != nil || len(open) == 0 {
			s.t.Fatalf("%v, %d sessions", err, len(open))
		}
		kept[name] = open[0].ID
	}
}

// keepsABackup notes a backup of which the vault has nothing.
func keepsABackup(s *server, _ map[string]string) {
	s.t.Helper()
	err := s.db.Commit(s.t.Context(), func(ctx context.Context, tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO backup (id, peer, state, at, document) VALUES (?, ?, ?, ?, ?)", "20260101T000000Z-control", "control", "kept", 1,
			`{"id":"20260101T000000Z-control","peer":"control","vault":"cellar","state":"kept","begunAt":"2026-01-01T00:00:00Z","takenAt":"2026-01-01T00:00:10Z","endedAt":"2026-01-01T00:01:00Z"}`)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestEveryMutationIsOneEntry sends a valid request of each operation that
// changes something, and counts what the audit log has of it.
func TestEveryMutationIsOneEntry(t *testing.T) {
	s := newServer(t)
	s.playTenants()
	methods := map[string]string{}
	for _, operations := range s.description().Paths {
		for method, o := range operations {
			if method != "get" {
				methods[o.OperationID] = strings.ToUpper(method)
			}
		}
	}
	seen, kept := map[string]bool{}, map[string]string{}
	for _, m := range mutations {
		seen[m.id] = true
		fill := func(text string) string {
			for name, value := range kept {
				text = strings.ReplaceAll(text, "{"+name+"}", value)
			}
			return text
		}
		if m.before != nil {
			m.before(s, kept)
		}
		var header []string
		if m.as != "" {
			header = []string{"Authorization", "Bearer " + kept[m.as]}
		}
		status, text, answered := s.do(methods[m.id], "/api/v1/"+fill(m.path), fill(m.body), header...)
		if m.away != (status == http.StatusServiceUnavailable) || !m.away && status >= 300 {
			t.Errorf("%s %s: %d %s", m.id, m.path, status, text)
		}
		if m.keep[0] != "" {
			var object map[string]any
			if err := json.Unmarshal([]byte(text), &object); err == nil {
				kept[m.keep[0]], _ = object[m.keep[1]].(string)
			}
		}
		entries, err := s.log.List(t.Context(), "test", audit.Filter{Request: answered.Get("X-Request-Id")})
		if err != nil {
			t.Fatal(err)
		}
		entries = slices.DeleteFunc(entries, func(e audit.Entry) bool { return e.Consequence })
		if len(entries) != 1 || entries[0].Actor == "" || entries[0].Token == "" || m.away != (entries[0].Outcome == audit.Failed) {
			t.Errorf("%s: %d entries, %+v", m.id, len(entries), entries)
		}
	}
	for id := range methods {
		if _, known := notHere[id]; known == seen[id] {
			t.Errorf("%s needs a line with a valid request, and one only", id)
		}
	}
	var b strings.Builder
	e, err := s.log.Export(t.Context(), "test")
	if err == nil {
		err = e.Write(t.Context(), &b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r, err := audit.Verify(strings.NewReader(b.String()), audit.Trust{}); err != nil || !r.Verified() {
		t.Errorf("%+v, %v", r, err)
	}
}
