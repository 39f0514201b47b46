package access

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// lastWords is how long an answer that is cut may take to say so, however
// slowly its reader reads.
const lastWords = 500 * time.Millisecond

// HoldRequest is Hold for a request over HTTP. Its answer breaks off soon after
// it is cut, whatever writes it.
func (a *Access) HoldRequest(w http.ResponseWriter, r *http.Request, actor Actor) (*http.Request, func()) {
	ctx, letGo := a.Hold(r.Context(), actor)
	c := &cutting{out: http.NewResponseController(w)}
	stop := context.AfterFunc(ctx, func() {
		if Cut(ctx) != nil {
			c.soon()
		}
	})
	return r.WithContext(ctx), func() {
		stop()
		letGo()
		c.over()
	}
}

// cutting sets the time by which an answer breaks off. The connection may
// serve others afterwards, so it does not outlive the request.
type cutting struct {
	out *http.ResponseController

	mu   sync.Mutex
	set  bool
	done bool
}

func (c *cutting) soon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set = !c.done && c.out.SetWriteDeadline(time.Now().Add(lastWords)) == nil
}

func (c *cutting) over() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = true
	if c.set {
		_ = c.out.SetWriteDeadline(time.Time{}) // a connection that is gone needs none
	}
}
