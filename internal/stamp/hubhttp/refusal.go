package hubhttp

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/slipway/slipway/internal/problem"
)

// coded is a failure with the name and number that service SDKs know it by.
type coded struct {
	error
	name   string
	number int
}

func (c coded) Unwrap() error { return c.error }

// fault is how a failure looks on this API.
type fault struct {
	status int
	name   string
	number int
}

var faults = map[problem.Kind]fault{
	problem.Invalid:         {http.StatusBadRequest, "ArgumentInvalid", 400004},
	problem.Unauthenticated: {http.StatusUnauthorized, "IotHubUnauthorizedAccess", 401002},
	problem.Denied:          {http.StatusUnauthorized, "IotHubUnauthorized", 401003},
	problem.NotFound:        {http.StatusNotFound, "DeviceNotFound", 404001},
	problem.Conflict:        {http.StatusConflict, "DeviceAlreadyExists", 409001},
	problem.Stale:           {http.StatusPreconditionFailed, "PreconditionFailed", 412001},
	problem.TooLarge:        {http.StatusRequestEntityTooLarge, "MessageTooLarge", 413001},
	problem.NotReady:        {http.StatusServiceUnavailable, "ServiceUnavailable", 503001},
	problem.TimedOut:        {http.StatusGatewayTimeout, "GatewayTimeout", 504101},
	problem.Busy:            {http.StatusTooManyRequests, "ThrottlingException", 429001},
	problem.Internal:        {http.StatusInternalServerError, "ServerError", 500001},
}

func faultOf(err error) fault {
	f := faults[problem.Of(err).Kind]
	var known coded
	if errors.As(err, &known) {
		f.name, f.number = known.name, known.number
	}
	return f
}

// trackingID names one failure, for people who compare logs.
func trackingID(now time.Time) string {
	return "Tracking ID:" + uuid.NewString() + "-G:0-TimeStamp:" + now.UTC().Format("01/02/2006 15:04:05")
}

// refuse writes a failure as SDKs parse it: the code before the semicolon.
func (e *Edge) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p, f := problem.Of(err), faultOf(err)
	if p.Kind == problem.Internal {
		e.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	header := w.Header()
	header.Set("Iothub-Errorcode", f.name)
	if f.status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", "SharedAccessSignature")
	}
	if p.RetryAfter > 0 || f.status == http.StatusTooManyRequests || f.status == http.StatusServiceUnavailable {
		header.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(p.RetryAfter.Seconds())))))
	}
	var nested methodFault
	if errors.As(err, &nested) {
		e.write(w, nested.status(), map[string]string{"Message": nested.text(e.Now()), "ExceptionMessage": ""})
		return
	}
	e.write(w, f.status, map[string]string{"Message": "ErrorCode:" + f.name + ";" + p.Error(), "ExceptionMessage": trackingID(e.Now())})
}
