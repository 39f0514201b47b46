package console

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/control/audit"
	"github.com/slipway/slipway/internal/control/migrations"
	"github.com/slipway/slipway/internal/control/signin"
	"github.com/slipway/slipway/internal/sqldb"
	"github.com/slipway/slipway/internal/sqldb/sqldbtest"
)

// withPeople is the console with real accounts, in an otherwise played world.
func withPeople(t *testing.T) (Options, *access.Access, *signin.SignIn) {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldbtest.At(t), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	log := audit.NewLog(db, time.Now)
	people := access.New(db, log, time.Now)
	in, err := signin.New(signin.Options{DB: db, Access: people, Audit: log, Secret: make([]byte, 32), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	o := populated().options()
	o.Access, o.SignIn = people, in
	return o, people, in
}

// TestAPasskeyInABrowser takes up an invitation, makes a passkey with the
// browser's own authenticator, and signs in with it.
func TestAPasskeyInABrowser(t *testing.T) {
	o, people, in := withPeople(t)
	admin := access.Actor{Name: "admin", Kind: access.Bearer, Rights: access.Rights{access.RightOf(access.Admin, access.Bounds{})}}
	for _, a := range []access.NewAccount{{ID: "ann", Name: "Ann Example", Kind: access.Human}, {ID: "ci", Kind: access.Service, Sponsor: "ann"}} {
		if _, err := people.AddAccount(t.Context(), admin, a); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range []access.Binding{{Role: access.Admin, Account: "ann"}, {Role: access.Developer, Account: "ci", Bounds: access.Bounds{Environments: []string{"test", "staging"}}}, {Role: access.Viewer, Group: "everybody"}} {
		if _, err := people.Bind(t.Context(), admin, b); err != nil {
			t.Fatal(err)
		}
	}
	code, _, err := in.Invite(t.Context(), admin, "ann")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(New(o))
	t.Cleanup(server.Close)
	at := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	ctx, complaints := openBrowser(t)
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: "ctap2", Transport: "internal", HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}}); err != nil {
		t.Fatal(err)
	}
	run(t, ctx, chromedp.EmulateViewport(1440, 900), chromedp.Navigate(at+"/invitation?code="+code), chromedp.SendKeys("#password", "correct horse battery"), chromedp.SendKeys("#again", "correct horse battery"), chromedp.Submit("#again"),
		until(`location.pathname === "/account" && document.getElementById("lacks") !== null`))
	picture(t, ctx, "account-lacks")
	run(t, ctx, chromedp.Navigate(at+"/devices"), until(`document.querySelector("h1").textContent !== "Devices"`), // not before there is a second factor
		chromedp.Navigate(at+"/account"), until(`document.querySelector("[data-new]") !== null`), chromedp.SendKeys(`[data-new] [name="name"]`, "this laptop"), chromedp.Click(`[data-new] button`),
		until(`document.getElementById("fresh") !== null`))
	picture(t, ctx, "account-recovery")
	run(t, ctx, chromedp.Navigate(at+"/devices"), until(`document.querySelector("h1").textContent === "Devices"`),
		chromedp.Click(`form[action="/logout"] button`), until(`location.pathname === "/login"`))
	picture(t, ctx, "login-passkey")
	run(t, ctx, chromedp.Click(`[data-passkey] button`), until(`location.pathname === "/" && document.querySelector(".board") !== null`))
	for _, theme := range []string{"light", "dark"} {
		run(t, ctx, chromedp.Click(`button[value="`+theme+`"]`), until(`document.documentElement.dataset.theme === "`+theme+`"`))
		for _, width := range []int64{1440, 390} {
			run(t, ctx, chromedp.EmulateViewport(width, 900))
			for _, page := range []string{"/account", "/people"} {
				checkInBrowser(t, ctx, at+page, fmt.Sprintf("%s-%d-%s", theme, width, page[1:]))
			}
		}
	}
	run(t, ctx, chromedp.Click(`form[action="/logout"] button`), until(`location.pathname === "/login"`), chromedp.SendKeys("#account", "ann"), chromedp.SendKeys("#password", "correct horse battery"), chromedp.Submit("#password"),
		until(`location.pathname === "/login/code"`))
	picture(t, ctx, "login-code")
	for _, c := range complaints() {
		t.Error("the browser complains:", c)
	}
}
