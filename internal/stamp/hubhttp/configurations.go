package hubhttp

import (
	"net/http"
	"strconv"
	"time"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/configuration"
)

// metricsView are the queries of a configuration with what they count.
type metricsView struct {
	Queries map[string]string `json:"queries"`
	Results map[string]int64  `json:"results"`
}

type configurationView struct {
	configuration.Document
	Metrics        metricsView `json:"metrics"`
	SystemMetrics  metricsView `json:"systemMetrics"`
	CreatedTime    time.Time   `json:"createdTimeUtc"`
	LastUpdateTime time.Time   `json:"lastUpdatedTimeUtc"`
	ETag           string      `json:"etag"`
}

// showConfiguration adds what a configuration's queries count now.
func (e *Edge) showConfiguration(c *call, found configuration.Configuration) (configurationView, error) {
	v := configurationView{
		Document: found.Document, CreatedTime: found.CreatedAt, LastUpdateTime: found.UpdatedAt, ETag: found.ETag(),
		Metrics: metricsView{map[string]string{}, map[string]int64{}},
	}
	counts, err := e.Configurations.Count(c.ctx, found.ID)
	if err != nil {
		return v, err
	}
	applied := "configurations.[[" + found.ID + "]].status = 'Applied'"
	v.SystemMetrics = metricsView{
		map[string]string{"targetedCount": "SELECT deviceId FROM devices WHERE IS_DEFINED(configurations.[[" + found.ID + "]])", "appliedCount": "SELECT deviceId FROM devices WHERE " + applied},
		map[string]int64{"targetedCount": counts.Targeted, "appliedCount": counts.Applied},
	}
	for name, text := range found.Document.Metrics.Queries {
		statement, err := configuration.ParseMetric(text)
		if err != nil {
			return v, err
		}
		v.Metrics.Queries[name] = text
		if v.Metrics.Results[name], err = e.Hub.Devices.CountRows(c.ctx, statement); err != nil {
			return v, err
		}
	}
	return v, nil
}

// unknownConfiguration names failures as SDKs know them.
func unknownConfiguration(err error) error {
	switch {
	case problem.Is(err, problem.NotFound):
		return coded{err, "ConfigurationNotFound", 404301}
	case problem.Is(err, problem.Conflict):
		return coded{err, "ConfigurationAlreadyExists", 409401}
	case problem.Is(err, problem.TooLarge):
		return coded{err, "ConfigurationCountLimitExceeded", 413101}
	}
	return err
}

func (e *Edge) getConfiguration(c *call) (answer, error) {
	found, err := e.Configurations.Get(c.ctx, c.args[0])
	if err != nil {
		return answer{}, unknownConfiguration(err)
	}
	view, err := e.showConfiguration(c, found)
	return answer{body: view, etag: found.ETag()}, err
}

func (e *Edge) listConfigurations(c *call) (answer, error) {
	limit := configuration.Max
	if text := c.r.URL.Query().Get("top"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return answer{}, problem.New(problem.Invalid, "a list holds at least one configuration, not %q", text).At("top")
		}
		limit = min(limit, n)
	}
	all, err := e.Configurations.List(c.ctx, limit)
	views := []configurationView{}
	for _, found := range all {
		view, err := e.showConfiguration(c, found)
		if err != nil {
			return answer{}, err
		}
		views = append(views, view)
	}
	return answer{body: views}, err
}

func (e *Edge) putConfiguration(c *call) (answer, error) {
	var sent configuration.Document
	if err := c.decode(&sent); err != nil {
		return answer{}, err
	}
	if sent.ID == "" {
		sent.ID = c.args[0]
	}
	if sent.ID != c.args[0] {
		return answer{}, problem.New(problem.Invalid, "the body is about another configuration than the path").At("id")
	}
	var stored configuration.Configuration
	var err error
	if c.ifMatch() == "" {
		stored, err = e.Configurations.Create(c.ctx, sent, e.Now())
	} else {
		stored, err = e.Configurations.Change(c.ctx, sent, c.ifMatch(), e.Now())
	}
	if err != nil {
		return answer{}, unknownConfiguration(err)
	}
	view, err := e.showConfiguration(c, stored)
	return answer{body: view, etag: stored.ETag()}, err
}

func (e *Edge) deleteConfiguration(c *call) (answer, error) {
	return answer{}, unknownConfiguration(e.Configurations.Delete(c.ctx, c.args[0], c.ifMatch()))
}

// testQueries says what is wrong with a target and with metrics, if anything.
func (e *Edge) testQueries(c *call) (answer, error) {
	var sent struct {
		TargetCondition string            `json:"targetCondition"`
		Queries         map[string]string `json:"customMetricQueries"`
	}
	if err := c.decode(&sent); err != nil {
		return answer{}, err
	}
	faults, target := map[string]string{}, ""
	if _, _, err := configuration.ParseTarget(sent.TargetCondition); err != nil {
		target = problem.Of(err).Error()
	}
	for name, text := range sent.Queries {
		if _, err := configuration.ParseMetric(text); err != nil {
			faults[name] = problem.Of(err).Error()
		}
	}
	return answer{body: map[string]any{"targetConditionError": target, "customMetricQueryErrors": faults}}, nil
}

// applyContent gives a gateway the content of a deployment at once.
func (e *Edge) applyContent(c *call) (answer, error) {
	var sent configuration.Content
	if err := c.decode(&sent); err != nil {
		return answer{}, err
	}
	if len(sent.Modules) == 0 {
		return answer{}, problem.New(problem.Invalid, "the content of a gateway names its modules and their properties").At("modulesContent")
	}
	if _, err := e.Hub.Devices.Entry(c.ctx, c.args[0]); err != nil {
		return answer{}, err
	}
	if err := sent.Check(); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, e.Configurations.GiveModules(c.ctx, c.args[0], sent.Modules)
}
