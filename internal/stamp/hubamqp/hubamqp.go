// Package hubamqp is the hub protocol's AMQP 1.0 edge: what public back-end
// SDKs do over nothing else. They send messages to devices, receive feedback
// and file notifications, and read telemetry as from Event Hubs.
package hubamqp

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/slipway/slipway/internal/amqp"
	"github.com/slipway/slipway/internal/policy"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sastoken"
	"github.com/slipway/slipway/internal/stamp/hub"
	"github.com/slipway/slipway/internal/stamp/upload"
)

// People says who a bearer token of the control plane belongs to, and whether
// they may change the stamp.
type People func(ctx context.Context, token string) (name string, write bool, err error)

// Parts are what the edge serves.
type Parts struct {
	Hub      *hub.Hub
	Policies *policy.Policies
	Uploads  *upload.Uploads
	People   People
	Logger   *slog.Logger
	Now      func() time.Time
}

// Edge serves the back ends of one hub.
type Edge struct {
	Parts
	mu      sync.Mutex
	readers map[string][]*reader // of the event endpoint, by group and partition
}

// New returns the edge of a hub.
func New(p Parts) *Edge { return &Edge{Parts: p, readers: map[string][]*reader{}} }

// claimsWithin is how long a client may be connected without having proven a
// right to anything.
const claimsWithin = 30 * time.Second

// Serve speaks with one client until its connection ends.
func (e *Edge) Serve(ctx context.Context, conn *amqp.Conn) {
	ctx, over := context.WithCancel(ctx)
	defer over()
	c := &client{edge: e, ctx: ctx, conn: conn, repliers: map[string][]*amqp.Sender{}}
	if conn.User != "" && conn.Password != "" {
		// Whoever gives a token or a key at once is told at once; others bring a
		// token later.
		if err := c.login(conn.User, conn.Password); err != nil {
			if err := conn.Refuse(&amqp.Error{Condition: amqp.Unauthorized, Description: problem.Of(err).Message}); err != nil {
				e.Logger.Debug("refusal not delivered", "error", err)
			}
			return
		}
	}
	watch := time.AfterFunc(claimsWithin, c.watch)
	defer watch.Stop()
	c.timer = watch
	if err := conn.Serve(ctx, c); err != nil {
		e.Logger.Debug("AMQP connection ended", "error", err)
	}
}

// client is one connection with what it has proven.
type client struct {
	edge *Edge
	ctx  context.Context // of the connection
	conn *amqp.Conn

	mu       sync.Mutex
	claims   []claim
	bearer   string // the last token of a person that was put
	timer    *time.Timer
	repliers map[string][]*amqp.Sender // links on which answers go out, by node
}

// claim is a right to everything below a path, for a time.
type claim struct {
	path    string
	expires time.Time
}

// maxClaims bounds what one connection may prove; renewals replace.
const maxClaims = 256

// The kinds of tokens a client may bring.
const (
	sastokenType = "servicebus.windows.net:sastoken"
	bearerType   = "jwt"
)

// keyHolds is for how long a policy's key that was given itself lets a client
// in: it cannot be renewed on the connection, and may be rotated meanwhile.
const keyHolds = 24 * time.Hour

// login takes what a client gave for a password: a token, or the key of the
// policy that the user is, perhaps at a host.
func (c *client) login(user, password string) error {
	if strings.HasPrefix(password, "SharedAccessSignature ") {
		return c.claim(sastokenType, "", password)
	}
	name, _, _ := strings.Cut(user, "@")
	p, err := c.edge.Policies.Keyed(name, password)
	if err != nil {
		return err
	}
	if err := connects(p); err != nil {
		return err
	}
	c.claims = append(c.claims, claim{expires: c.edge.Now().Add(keyHolds)})
	return nil
}

// connects refuses a policy that may not use the service.
func connects(p policy.Policy) error {
	if p.Allows(policy.ServiceConnect) {
		return nil
	}
	return problem.New(problem.Denied, "the policy %s does not allow %s", p.Name, policy.ServiceConnect)
}

// claim takes a token for what it proves.
func (c *client) claim(kind, audience, token string) error {
	fresh := claim{}
	switch kind {
	case sastokenType:
		verified, err := c.verify(token)
		if err != nil {
			return err
		}
		fresh = verified
	case bearerType:
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		who, write, err := c.edge.People(ctx, strings.TrimPrefix(token, "Bearer "))
		if err != nil {
			return err
		}
		if !write {
			return problem.New(problem.Denied, "%s may not use the service API", who)
		}
		fresh.expires = c.edge.Now().Add(time.Hour)
		c.hold(token)
	default:
		return problem.New(problem.Invalid, "a token is of type %s or %s, not %q", sastokenType, bearerType, kind)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, known := range c.claims {
		if known.path == fresh.path {
			c.claims[i] = fresh
			return nil
		}
	}
	if len(c.claims) >= maxClaims {
		return problem.New(problem.Busy, "a connection keeps %d tokens", maxClaims)
	}
	c.claims = append(c.claims, fresh)
	return nil
}

// askEvery is how often control is asked whether a person's token holds still.
const askEvery = 500 * time.Millisecond

// hold has the connection end when a person's token is void, or lets nothing be
// changed any more. While control is away it goes on, as devices do.
func (c *client) hold(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.bearer == ""
	if c.bearer = token; !first {
		return
	}
	go func() {
		tick := time.NewTicker(askEvery)
		defer tick.Stop()
		for {
			select {
			case <-c.ctx.Done():
				return
			case <-tick.C:
				if !c.holds() {
					c.conn.Shut(&amqp.Error{Condition: amqp.Unauthorized, Description: "the token that was put holds no longer"})
					return
				}
			}
		}
	}()
}

func (c *client) holds() bool {
	c.mu.Lock()
	token := c.bearer
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
	defer cancel()
	_, write, err := c.edge.People(ctx, strings.TrimPrefix(token, "Bearer "))
	return err == nil && write || err != nil && !problem.Is(err, problem.Unauthenticated) && !problem.Is(err, problem.Denied)
}

func (c *client) verify(text string) (claim, error) {
	token, err := sastoken.Parse(text)
	if err != nil {
		return claim{}, problem.New(problem.Unauthenticated, "%w", err)
	}
	host, path := place(token.Resource)
	known := false
	for _, name := range c.edge.Hub.Hosts() {
		known = known || strings.EqualFold(name, host)
	}
	if !known {
		return claim{}, problem.New(problem.Unauthenticated, "the token is for %q, not for this service", token.Resource)
	}
	p, err := c.edge.Policies.Signed(token, c.edge.Now())
	if err == nil {
		err = connects(p)
	}
	return claim{path, token.Expiry}, err
}

// place takes an address apart, which may begin with a scheme and a host: the
// host, and the path in lower case without slashes around it.
func place(address string) (host, path string) {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		address = rest
	}
	host, path, _ = strings.Cut(address, "/")
	return host, strings.ToLower(strings.Trim(path, "/"))
}

// node is the path of a link's address, which begins with a host only if it
// has a scheme too.
func node(address string) string {
	if strings.Contains(address, "://") {
		_, path := place(address)
		return path
	}
	return strings.ToLower(strings.Trim(address, "/"))
}

// may reports whether the client has proven a right to a node.
func (c *client) may(node string) *amqp.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.edge.Now()
	for _, known := range c.claims {
		covered := known.path == "" || node == known.path || strings.HasPrefix(node, known.path+"/")
		// The node for management stands beside the entity that it describes.
		if now.Before(known.expires) && (covered || node == management) {
			return nil
		}
	}
	return &amqp.Error{Condition: amqp.Unauthorized, Description: fmt.Sprintf("no token was put that allows %s", node)}
}

// watch ends the connection when nothing it has proven holds any longer, and
// looks again when the last of it expires.
func (c *client) watch() {
	c.mu.Lock()
	last := time.Time{}
	for _, known := range c.claims {
		if known.expires.After(last) {
			last = known.expires
		}
	}
	c.mu.Unlock()
	if left := last.Sub(c.edge.Now()); left > 0 {
		c.timer.Reset(min(left, time.Hour))
		return
	}
	c.conn.Shut(&amqp.Error{Condition: amqp.Unauthorized, Description: "no token that was put is valid any longer"})
}

// The nodes of a hub.
const (
	nodeCBS           = "$cbs"
	nodeDeviceBound   = "messages/devicebound"
	nodeFeedback      = "messages/servicebound/feedback"
	nodeNotifications = "messages/servicebound/filenotifications"
	management        = "$management"
)

// Source implements amqp.Handler.
func (c *client) Source(a amqp.Attach) (func(context.Context, *amqp.Sender) error, *amqp.Error) {
	at := node(a.Source)
	if at == nodeCBS {
		return c.replier(at), nil
	}
	if err := c.may(at); err != nil {
		return nil, err
	}
	switch {
	case at == nodeFeedback:
		return c.edge.sendFeedback, nil
	case at == nodeNotifications:
		return c.edge.sendNotifications, nil
	case at == management || strings.HasSuffix(at, "/"+management):
		return c.replier(at), nil
	}
	return c.edge.eventSource(at, a)
}

// Target implements amqp.Handler.
func (c *client) Target(a amqp.Attach) (func(context.Context, amqp.Message) amqp.Outcome, *amqp.Error) {
	at := node(a.Target)
	if at == nodeCBS {
		return c.putToken, nil
	}
	if err := c.may(at); err != nil {
		return nil, err
	}
	switch {
	case at == nodeDeviceBound:
		return c.edge.sendToDevice, nil
	case at == management || strings.HasSuffix(at, "/"+management):
		return func(ctx context.Context, m amqp.Message) amqp.Outcome { return c.manage(ctx, at, m) }, nil
	}
	return nil, &amqp.Error{Condition: amqp.NotFound, Description: fmt.Sprintf("nothing can be sent to %q", a.Target)}
}

// replier keeps a link on which answers of a node go out.
func (c *client) replier(node string) func(context.Context, *amqp.Sender) error {
	return func(ctx context.Context, s *amqp.Sender) error {
		c.mu.Lock()
		c.repliers[node] = append(c.repliers[node], s)
		c.mu.Unlock()
		<-ctx.Done()
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, other := range c.repliers[node] {
			if other == s {
				c.repliers[node] = append(c.repliers[node][:i:i], c.repliers[node][i+1:]...)
			}
		}
		return nil
	}
}

// reply answers a request on the link its reply-to names, or else on the
// newest that is there.
func (c *client) reply(ctx context.Context, node string, request amqp.Message, status int32, description string, value any) amqp.Outcome {
	c.mu.Lock()
	var to *amqp.Sender
	for _, s := range c.repliers[node] {
		to = s
		if a := s.Attach(); a.Target == request.Properties.ReplyTo || a.Name == request.Properties.ReplyTo {
			break
		}
	}
	c.mu.Unlock()
	if to == nil {
		return amqp.Rejected(&amqp.Error{Condition: amqp.PreconditionFailed, Description: "attach a link to receive the answer first"})
	}
	answer := amqp.Message{
		Properties:  amqp.Properties{To: request.Properties.ReplyTo, CorrelationID: request.Properties.MessageID},
		Application: amqp.Map{{Key: "status-code", Value: status}, {Key: "status-description", Value: description}},
		Value:       value, HasValue: true,
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := to.Send(ctx, answer, true); err != nil {
		return amqp.Released
	}
	return amqp.Accepted
}

// putToken takes a token for what it proves (claims-based security).
func (c *client) putToken(ctx context.Context, m amqp.Message) amqp.Outcome {
	said := func(key string) string {
		text, ok := m.Application.Get(key).(string)
		if !ok {
			return ""
		}
		return text
	}
	token, ok := m.Value.(string)
	if !ok {
		token = string(m.Data)
	}
	if operation := said("operation"); operation != "put-token" {
		return c.reply(ctx, nodeCBS, m, 400, fmt.Sprintf("the operation is put-token, not %q", operation), nil)
	}
	if err := c.claim(said("type"), said("name"), token); err != nil {
		c.edge.Logger.Debug("token refused", "error", err)
		return c.reply(ctx, nodeCBS, m, 401, problem.Of(err).Message, nil)
	}
	return c.reply(ctx, nodeCBS, m, 200, "OK", nil)
}

// unescape decodes a part of an address, or leaves it as it is.
func unescape(text string) string {
	decoded, err := url.PathUnescape(text)
	if err != nil {
		return text
	}
	return decoded
}
