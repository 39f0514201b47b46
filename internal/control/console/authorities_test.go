package console

import (
	"net/http"
	"strings"
	"testing"
)

func TestAnAuthorityIsAddedProvenAndForgotten(t *testing.T) {
	w := populated()
	browser := asBrowser(t, w)
	refused := browser.post("/authorities", http.StatusUnprocessableEntity, filled("do", "add", "name", "acme", "certificate", "nonsense")).Body.String()
	has(t, refused, "must be one certificate in PEM", "nonsense", `value="acme"`)
	checkPage(t, "a refused certificate", refused, true)
	browser.post("/authorities", http.StatusSeeOther, filled("do", "add", "name", " acme ", "certificate", "-----BEGIN CERTIFICATE-----"))
	code := authorityOf("acme", false).Code
	has(t, browser.get("/authorities", http.StatusOK), "CN=acme,O=Acme", "/CN="+code, "unverified")

	hasNot(t, browser.get("/enrollments/new", http.StatusOK), ">acme<")
	has(t, browser.post("/authorities", http.StatusForbidden, filled("do", "verify", "name", "acme", "certificate", "another")).Body.String(), "verification code", ">another</textarea>")
	browser.post("/authorities", http.StatusSeeOther, filled("do", "verify", "name", "acme", "certificate", "CN="+code))
	if page := browser.get("/authorities", http.StatusOK); strings.Count(page, ">verified<") != 2 {
		t.Errorf("after the proof: %s", page)
	}
	has(t, browser.get("/enrollments/new", http.StatusOK), "<option>acme</option>")

	browser.post("/authorities", http.StatusUnprocessableEntity, filled("do", "delete", "name", "acme", "sure", "acm"))
	browser.post("/authorities", http.StatusUnprocessableEntity, filled("do", "dance", "name", "acme"))
	browser.post("/authorities", http.StatusSeeOther, filled("do", "delete", "name", "acme", "sure", "acme"))
	hasNot(t, browser.get("/authorities", http.StatusOK), "acme,")
}
