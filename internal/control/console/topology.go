package console

import (
	"context"
	"net/http"
	"time"

	"github.com/slipway/slipway/internal/control/access"
	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/resource"
)

var topologyPage = newPage("topology.html")

type topologyView struct {
	base
	Map topology
}

// topology is what the installation is made of, and where in a picture each
// part is drawn. Lengths are units of the picture.
type topology struct {
	Version      string
	Provisioning bool // it answers
	Columns      []column
	Width        float64
	Height       float64
}

// column is an environment with its stamps below one another.
type column struct {
	Name, Title string
	X           float64
	Reach       float64 // of the line that the stamps hang on
	Stamps      []node
}

// node is a stamp in the picture.
type node struct {
	resource.Stamp
	X, Y      float64
	Away      bool
	Versions  []string // of its processes, each once
	Processes []dot
}

// dot is a process of a stamp.
type dot struct {
	resource.Process
	X float64
}

// The measures of the picture.
const (
	columnWidth = 290.0
	linkY       = 116.0
	nodeHeight  = 74.0
	nodeStep    = 96.0
	stampsTop   = 196.0
	dotStep     = 16.0
	maxDots     = 12
)

func (c *console) topology(w http.ResponseWriter, r *http.Request, s access.Session) error {
	found, err := c.findTopology(r.Context())
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, topologyPage, "", topologyView{inside(r, s, "topology", "Topology"), found})
}

func (c *console) topologyLive(w http.ResponseWriter, r *http.Request, _ access.Session) error {
	return c.live(w, r, 2*pulseEvery, func(ctx context.Context, s *stream) error {
		found, err := c.findTopology(ctx)
		if err != nil {
			return err
		}
		return s.part(topologyPage, "map", found)
	})
}

func (c *console) findTopology(ctx context.Context) (topology, error) {
	environments, err := c.Environments.List(ctx)
	if err != nil {
		return topology{}, err
	}
	stamps, err := c.Fleet.Stamps(ctx)
	if err != nil {
		return topology{}, err
	}
	_, err = c.Fleet.Scope(ctx)
	if err != nil && !problem.Is(err, problem.NotReady) && !problem.Is(err, problem.TimedOut) {
		return topology{}, err
	}
	found := drawTopology(environments, stamps, c.now())
	found.Version, found.Provisioning = c.Version, err == nil
	return found, nil
}

// drawTopology puts each environment in a column, in order of promotion.
func drawTopology(environments []resource.Environment, stamps []resource.Stamp, now time.Time) topology {
	most := 1
	var found topology
	for i, env := range environments {
		col := column{Name: env.Metadata.Name, Title: env.Spec.DisplayName, X: float64(i) * columnWidth}
		if col.Title == "" {
			col.Title = col.Name
		}
		for _, s := range stamps {
			if s.Spec.Environment == col.Name {
				col.Stamps = append(col.Stamps, drawNode(s, col.X, stampsTop+float64(len(col.Stamps))*nodeStep, now))
			}
		}
		most = max(most, len(col.Stamps))
		col.Reach = stampsTop - linkY + nodeHeight/2 + float64(len(col.Stamps)-1)*nodeStep
		found.Columns = append(found.Columns, col)
	}
	found.Width = max(2, float64(len(environments))) * columnWidth
	found.Height = stampsTop + float64(most)*nodeStep
	return found
}

func drawNode(s resource.Stamp, x, y float64, now time.Time) node {
	n := node{Stamp: s, X: x, Y: y, Away: true}
	if s.Status == nil {
		return n
	}
	n.Away = s.Status.SeenAt == nil || now.Sub(*s.Status.SeenAt) > awayAfter
	seen := map[string]bool{}
	for i, p := range s.Status.Processes {
		if !seen[p.Version] {
			seen[p.Version] = true
			n.Versions = append(n.Versions, p.Version)
		}
		if i < maxDots {
			n.Processes = append(n.Processes, dot{p, float64(i) * dotStep})
		}
	}
	return n
}
