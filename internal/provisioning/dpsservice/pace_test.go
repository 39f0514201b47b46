package dpsservice

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

func TestTooManyRequestsAreToldToComeBack(t *testing.T) {
	e := New(Parts{Logger: slog.New(slog.DiscardHandler), Now: time.Now, People: func(context.Context, string) (string, bool, error) { return "admin", true, nil }})
	e.pace = rate.NewLimiter(rate.Every(time.Hour), 0)
	r := httptest.NewRequest("GET", "/enrollments/d1?api-version=2021-10-01", nil)
	r.Header.Set("Authorization", "Bearer slp_x")
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	var body struct {
		ErrorCode int `json:"errorCode"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != http.StatusTooManyRequests || body.ErrorCode != 429001 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
	}
	// Who may not ask uses up nothing, and hears why.
	r.Header.Del("Authorization")
	w = httptest.NewRecorder()
	if e.ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", w.Code)
	}
}
