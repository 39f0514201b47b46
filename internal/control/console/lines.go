package console

import (
	"net/http"
	"slices"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/place"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/trail"
)

// lines says what every page and form for people with a session asks for, and
// where. One that has no line here does not start.
var lines = map[string]place.Line{
	"POST /logout": place.Asking(access.Own, place.Anywhere),
	"POST /theme":  place.Asking(access.Own, place.Anywhere),

	"GET /account":                 place.Asking(access.Own, place.Anywhere),
	"POST /account/app":            place.Asking(access.Own, place.Anywhere),
	"POST /account/app/confirm":    place.Asking(access.Own, place.Anywhere),
	"POST /account/passkey/ask":    place.Asking(access.Own, place.Anywhere),
	"POST /account/passkey":        place.Asking(access.Own, place.Anywhere),
	"POST /account/recovery":       place.Asking(access.Own, place.Anywhere),
	"POST /account/factors/remove": place.Asking(access.Own, place.Anywhere),
	"POST /account/sessions/end":   place.Asking(access.Own, place.Anywhere),
	"POST /account/tokens":         place.Asking(access.Own, place.Anywhere),
	"POST /account/tokens/revoke":  place.Asking(access.Own, place.Anywhere),
	"GET /people":                  place.Asking(access.AccessRead, place.Whole),
	"POST /people":                 place.Asking(access.AccessAdmin, place.Whole),
	"POST /people/do":              place.Asking(access.AccessAdmin, place.Whole),
	"POST /people/roles":           place.Asking(access.AccessAdmin, place.Whole),
	"POST /people/roles/take":      place.Asking(access.AccessAdmin, place.Whole),
	"POST /people/sessions/end":    place.Asking(access.AccessAdmin, place.Whole),

	"GET /{$}":           place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /live":          place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /topology":      place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /topology/live": place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /capacity":      place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /capacity/live": place.Asking(access.EnvironmentRead, place.Anywhere),

	"GET /alerts":               place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /alerts/live":          place.Asking(access.EnvironmentRead, place.Anywhere),
	"POST /alerts/silence":      place.Asking(access.AlertWrite, place.Anywhere),
	"POST /alerts/unsilence":    place.Asking(access.AlertWrite, place.Anywhere),
	"POST /alerts/test":         place.Asking(access.AlertWrite, place.Anywhere),
	"GET /monitor":              place.Asking(access.EnvironmentRead, place.Whole),
	"GET /monitor/live":         place.Asking(access.EnvironmentRead, place.Whole),
	"GET /slos":                 place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /slos/live":            place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /runbooks/{name}":      place.Asking(access.Own, place.Anywhere),
	"GET /tenants/{name}":       place.Asking(access.EnvironmentRead, place.Anywhere),
	"POST /tenants/{name}/move": place.Asking(access.DeviceMove, place.Moved("", "stamp", "", "device")),

	"GET /stamps/{name}":        place.Asking(access.EnvironmentRead, place.Stamp("name")),
	"GET /stamps/{name}/live":   place.Asking(access.EnvironmentRead, place.Stamp("name")),
	"POST /stamps/{name}/state": place.Asking(access.StampWrite, place.Stamp("name")),

	"GET /devices":                      place.Asking(access.DeviceRead, place.Queried("environment", "stamp")),
	"GET /devices/{id}":                 place.Asking(access.DeviceRead, place.Device("id")),
	"GET /devices/{id}/live":            place.Asking(access.TelemetryRead, place.Device("id")),
	"POST /devices/{id}/twin":           place.Asking(access.DeviceWrite, place.Device("id")),
	"POST /devices/{id}/method":         place.Asking(access.DeviceWrite, place.Device("id")),
	"POST /devices/{id}/messages":       place.Asking(access.DeviceWrite, place.Device("id")),
	"POST /devices/{id}/messages/purge": place.Asking(access.DeviceWrite, place.Device("id")),
	"GET /moves":                        place.Asking(access.DeviceRead, place.Anywhere),
	"GET /moves/new":                    place.Asking(access.DeviceRead, place.Anywhere),
	"POST /moves":                       place.Asking(access.DeviceMove, place.Moved("to", "", "", "device")),
	"GET /moves/{id}":                   place.Asking(access.DeviceRead, place.Anywhere),
	"GET /moves/{id}/live":              place.Asking(access.DeviceRead, place.Anywhere),
	"GET /query":                        place.Asking(access.DeviceRead, place.Whole),
	"POST /query/save":                  place.Asking(access.QueryWrite, place.Anywhere),
	"POST /query/forget":                place.Asking(access.QueryWrite, place.Anywhere),
	"GET /jobs":                         place.Asking(access.DeviceRead, place.Whole),
	"GET /jobs/live":                    place.Asking(access.DeviceRead, place.Whole),
	"POST /jobs/cancel":                 place.Asking(access.DeviceWrite, place.Stamp("stamp")),
	"GET /files":                        place.Asking(access.TelemetryRead, place.Queried("", "stamp")),
	"GET /files/content":                place.Asking(access.TelemetryRead, place.Stamp("stamp")),

	"GET /enrollments":               place.Asking(access.EnrollmentRead, place.Anywhere),
	"GET /enrollments/new":           place.Asking(access.EnrollmentRead, place.Anywhere),
	"POST /enrollments/new":          place.Asking(access.EnrollmentWrite, place.Environment("environment")),
	"GET /enrollments/{name}":        place.Asking(access.EnrollmentRead, place.By(place.Individual, "name")),
	"GET /enrollment-groups/{name}":  place.Asking(access.EnrollmentRead, place.By(place.EnrollmentGroup, "name")),
	"POST /enrollments/{name}":       place.Asking(access.EnrollmentWrite, place.By(place.Individual, "name")),
	"POST /enrollment-groups/{name}": place.Asking(access.EnrollmentWrite, place.By(place.EnrollmentGroup, "name")),

	"GET /authorities":  place.Asking(access.EnrollmentRead, place.Anywhere),
	"POST /authorities": place.Asking(access.EnrollmentWrite, place.Every),

	"GET /routes":                      place.Asking(access.RouteRead, place.Anywhere),
	"GET /routes/live":                 place.Asking(access.RouteRead, place.Anywhere),
	"GET /routes/{name}":               place.Asking(access.RouteRead, place.By(place.Route, "name")),
	"GET /routes/{name}/live":          place.Asking(access.RouteRead, place.By(place.Route, "name")),
	"POST /routes/{name}/dead-letters": place.Asking(access.RouteWrite, place.Stamp("stamp")),

	"GET /pipeline":              place.Asking(access.ReleaseRead, place.Anywhere),
	"GET /pipeline/live":         place.Asking(access.ReleaseRead, place.Anywhere),
	"GET /matrix":                place.Asking(access.ReleaseRead, place.Anywhere),
	"GET /matrix/live":           place.Asking(access.ReleaseRead, place.Anywhere),
	"GET /freezes":               place.Asking(access.ReleaseRead, place.Anywhere),
	"GET /promotions/{id}":       place.Asking(access.ReleaseRead, place.By(place.Promotion, "id")),
	"GET /promotions/{id}/live":  place.Asking(access.ReleaseRead, place.By(place.Promotion, "id")),
	"GET /rollouts/{id}":         place.Asking(access.ReleaseRead, place.By(place.Rollout, "id")),
	"GET /rollouts/{id}/live":    place.Asking(access.ReleaseRead, place.By(place.Rollout, "id")),
	"GET /releases":              place.Asking(access.ReleaseRead, place.Anywhere),
	"GET /releases/{name}":       place.Asking(access.ReleaseRead, place.Anywhere),
	"GET /flags":                 place.Asking(access.FlagRead, place.Anywhere),
	"GET /flags/{name}":          place.Asking(access.FlagRead, place.Anywhere),
	"GET /drift":                 place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /parity/{from}/{to}":    place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /environments/{name}":   place.Asking(access.EnvironmentRead, place.Environment("name")),
	"GET /configurations":        place.Asking(access.ReleaseRead, place.Anywhere),
	"GET /configurations/{name}": place.Asking(access.ReleaseRead, place.Anywhere),
	"GET /acts/{act}":            place.Asking(access.ReleaseRead, place.Anywhere),

	"GET /access-reviews":         place.Asking(access.AccessRead, place.EnvironmentOrEvery("environment")).OrElse(access.GrantApprove),
	"GET /access-reviews/{id}":    place.Asking(access.AccessRead, place.By(place.AccessReview, "id")).OrElse(access.GrantApprove),
	"GET /grants":                 place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /grants/live":            place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /grants/new":             place.Asking(access.Own, place.Anywhere),
	"POST /grants":                place.Asking(access.Own, place.Anywhere),
	"GET /grants/{id}":            place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /grants/{id}/live":       place.Asking(access.EnvironmentRead, place.Anywhere),
	"GET /recordings":             place.Asking(access.Own, place.Anywhere),
	"GET /recordings/{id}":        place.Asking(access.Own, place.Anywhere),
	"GET /recordings/{id}/live":   place.Asking(access.Own, place.Anywhere),
	"GET /recordings/{id}/record": place.Asking(access.Own, place.Anywhere),

	"GET /care":                       place.Asking(access.RetentionRead, place.Whole),
	"POST /care/run":                  place.Asking(access.RetentionWrite, place.Whole),
	"POST /care/holds":                place.Asking(access.RetentionWrite, place.Whole),
	"POST /care/holds/{id}/lift":      place.Asking(access.RetentionWrite, place.Whole),
	"POST /care/erasures":             place.Asking(access.DataErase, place.Whole),
	"GET /erasures/{id}":              place.Asking(access.RetentionRead, place.Whole),
	"GET /erasures/{id}/proof":        place.Asking(access.RetentionRead, place.Whole),
	"POST /devices/{id}/decommission": place.Asking(access.DeviceRetire, place.Device("id")),
	"POST /devices/{id}/recommission": place.Asking(access.DeviceRetire, place.Device("id")),

	"GET /backups":              place.Asking(access.BackupRead, place.Whole),
	"POST /backups":             place.Asking(access.BackupRun, place.Whole),
	"GET /backups/{id}":         place.Asking(access.BackupRead, place.Whole),
	"POST /backups/{id}/verify": place.Asking(access.BackupRun, place.Whole),
	"GET /drills/{id}":          place.Asking(access.BackupRead, place.Whole),
	"POST /drills":              place.Asking(access.BackupRun, place.Whole),

	"GET /incidents":       place.Asking(access.EnvironmentRead, place.Every),
	"POST /incidents":      place.Asking(access.IncidentWrite, place.EnvironmentOrEvery("environment")),
	"GET /incidents/{id}":  place.Asking(access.EnvironmentRead, place.By(place.Incident, "id")),
	"POST /incidents/{id}": place.Asking(access.IncidentWrite, place.By(place.Incident, "id")),
	"GET /timeline":        place.Asking(access.EnvironmentRead, place.EnvironmentOrEvery("environment")),

	"GET /logs":           place.Asking(access.LogRead, place.Devices("environment", "stamp", "tenant")),
	"GET /traces":         place.Asking(access.LogRead, place.Whole),
	"GET /traces/{trace}": place.Asking(access.LogRead, place.Whole),

	"GET /audit":            place.Asking(access.AuditRead, place.Whole),
	"GET /audit/{sequence}": place.Asking(access.AuditRead, place.Whole),
}

// actLines says what each act asks for.
var actLines = map[string]place.Line{
	"promote":        place.Asking(access.ReleasePromote, place.Environment("environment")),
	"retry":          place.Asking(access.ReleasePromote, place.By(place.Promotion, "promotion")),
	"approve":        place.Asking(access.ReleaseApprove, place.By(place.Promotion, "promotion")),
	"reject":         place.Asking(access.ReleaseApprove, place.By(place.Promotion, "promotion")),
	"lift":           place.Asking(access.ReleaseApprove, place.Environment("environment")),
	"withdraw":       place.Asking(access.ReleaseStop, place.By(place.Promotion, "promotion")),
	"rollback":       place.Asking(access.ReleasePromote, place.Environment("environment")),
	"hold":           place.Asking(access.ReleaseStop, place.Environment("environment")),
	"end-hold":       place.Asking(access.ReleaseStop, place.By(place.Hold, "hold")),
	"approve-waiver": place.Asking(access.ReleaseApprove, place.By(place.Waiver, "waiver")),
	"review-waiver":  place.Asking(access.ReleaseApprove, place.By(place.Waiver, "waiver")),
	"pause":          place.Asking(access.ReleaseStop, place.By(place.Rollout, "rollout")),
	"resume":         place.Asking(access.ReleasePromote, place.By(place.Rollout, "rollout")),
	"skip":           place.Asking(access.ReleasePromote, place.By(place.Rollout, "rollout")),
	"abort":          place.Asking(access.ReleaseStop, place.By(place.Rollout, "rollout")),
	"open-review":    place.Asking(access.GrantApprove, place.Environment("environment")),
	"keep-right":     place.Asking(access.GrantApprove, place.By(place.AccessReview, "review")),
	"remove-right":   place.Asking(access.GrantApprove, place.By(place.AccessReview, "review")),
	"submit-grant":   place.Asking(access.Own, place.Anywhere),
	"approve-grant":  place.Asking(access.GrantApprove, place.By(place.Grant, "grant")),
	"deny-grant":     place.Asking(access.GrantApprove, place.By(place.Grant, "grant")),
	"withdraw-grant": place.Asking(access.Own, place.Anywhere),
	"revoke-grant":   place.Asking(access.GrantApprove, place.By(place.Grant, "grant")),
	"end-grant":      place.Asking(access.Own, place.Anywhere),
	"review-grant":   place.Asking(access.GrantApprove, place.By(place.Grant, "grant")),
	"halt":           place.Asking(access.ReleaseStop, place.EnvironmentOrEvery("environment")),
	"kill-flag":      place.Asking(access.FlagKill, place.Environment("environment")),
	"revive-flag":    place.Asking(access.FlagWrite, place.Environment("environment")),
	"give-flag":      place.Asking(access.FlagWrite, place.Environment("environment")),
	"disable-flag":   place.Asking(access.FlagWrite, place.Environment("environment")),
	"enable-flag":    place.Asking(access.FlagWrite, place.Environment("environment")),
	"plain-flag":     place.Asking(access.FlagWrite, place.Environment("environment")),
	"lift-halt":      place.Asking(access.ReleaseStop, place.By(place.Halt, "halt")),

	"approve-configuration":  place.Asking(access.ReleaseApprove, place.Environment("environment")),
	"rollback-configuration": place.Asking(access.ReleasePromote, place.Environment("environment")),
	"accept-drift":           place.Asking(access.ReleaseApprove, place.EnvironmentOrEvery("environment")),
	"accept-parity":          place.Asking(access.ReleaseApprove, place.Every),
}

// deriveLines are for the button that shows a device's key.
var deriveLines = map[string]place.Line{
	"POST /enrollments/{name}":       place.Asking(access.SecretRead, place.By(place.Individual, "name")),
	"POST /enrollment-groups/{name}": place.Asking(access.SecretRead, place.By(place.EnrollmentGroup, "name")),
}

const actPattern = "POST /acts/{act}"

// lineOf is what a request asks for.
func lineOf(pattern string, r *http.Request) (place.Line, error) {
	if pattern == actPattern {
		line, known := actLines[r.PathValue("act")]
		if !known {
			return line, problem.New(problem.NotFound, "there is nothing to do that is called %q", r.PathValue("act"))
		}
		return line, nil
	}
	if derive, found := deriveLines[pattern]; found && r.PostForm.Get("do") == "derive" {
		return derive, nil
	}
	return lines[pattern], nil
}

// checkLines stops the program where a page, a form or an act has no line.
func checkLines(patterns map[string]sessionHandler) {
	for pattern := range patterns {
		if _, found := lines[pattern]; !found && pattern != actPattern {
			panic("console: " + pattern + " has no line in lines.go, so nobody could be let in")
		}
	}
	for name := range acts {
		if _, found := actLines[name]; !found {
			panic("console: the act " + name + " has no line in lines.go")
		}
	}
}

// permitted lets a request pass whose sender may do what its line asks for.
func (c *console) permitted(pattern string, h sessionHandler) sessionHandler {
	return func(w http.ResponseWriter, r *http.Request, s access.Session) error {
		trail.Current(r.Context()).Call(pattern)
		line, err := lineOf(pattern, r)
		if err != nil {
			return err
		}
		if err := line.CheckOn(r.Context(), c.Access, c.Places, s.Actor, saidBy(r)); err != nil {
			return err
		}
		return h(w, r, s)
	}
}

// saidBy reads what handlers read: the path, and then the form of what changes
// something, or the query of what does not.
func saidBy(r *http.Request) place.Said {
	return func(field string) []string {
		if value := r.PathValue(field); value != "" {
			return []string{value}
		}
		if r.Method != http.MethodPost {
			return slices.Clone(r.URL.Query()[field])
		}
		if field == "device" && r.PostForm.Get("all") != "" {
			return nil // whatever is ticked, everything that matches is meant
		}
		return slices.Clone(r.PostForm[field])
	}
}
