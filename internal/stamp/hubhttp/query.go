package hubhttp

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/stamp/query"
)

// The headers by which a query is paged.
const (
	maxItemsHeader     = "X-Ms-Max-Item-Count"
	continuationHeader = "X-Ms-Continuation"
	itemTypeHeader     = "X-Ms-Item-Type"
)

// continuation is where the next page of a query begins. It belongs to the one
// query it was given for.
type continuation struct {
	Query []byte `json:"q"`           // digest
	After string `json:"a"`           // last of the page before
	Taken int    `json:"n,omitempty"` // rows given so far, for TOP
}

func (t continuation) String() string {
	text, err := json.Marshal(t)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// pageOf reads the paging headers of a request about text.
func (c *call) pageOf(text string) (at continuation, limit int, err error) {
	digest := sha256.Sum256([]byte(text))
	if sent := c.r.Header.Get(continuationHeader); sent != "" {
		raw, err := base64.RawURLEncoding.DecodeString(sent)
		if err != nil || json.Unmarshal(raw, &at) != nil || string(at.Query) != string(digest[:8]) {
			return at, 0, problem.New(problem.Invalid, "the continuation token is not one of this query").At(continuationHeader)
		}
	}
	at.Query = digest[:8]
	limit = maxList
	if sent := c.r.Header.Get(maxItemsHeader); sent != "" {
		if limit, err = strconv.Atoi(sent); err != nil || limit < 1 || limit > maxList {
			return at, 0, problem.New(problem.Invalid, "a page holds 1 to %d items, not %q", maxList, sent).At(maxItemsHeader)
		}
	}
	return at, limit, nil
}

func (e *Edge) query(c *call) (answer, error) {
	var sent struct {
		Query string `json:"query"`
	}
	if err := c.decode(&sent); err != nil {
		return answer{}, err
	}
	statement, err := query.ParseStatement(sent.Query)
	if err != nil {
		return answer{}, err
	}
	at, limit, err := c.pageOf(sent.Query)
	if err != nil {
		return answer{}, err
	}
	if statement.From == query.FromJobs {
		return e.queryDeviceJobs(c, statement, at, limit)
	}
	if statement.Top > 0 {
		limit = min(limit, statement.Top-at.Taken)
	}
	result, err := e.Hub.Devices.Run(c.ctx, statement, at.After, limit, e.Hub.Live)
	if err != nil {
		return answer{}, err
	}
	header := map[string]string{itemTypeHeader: "raw"}
	if result.Whole {
		header[itemTypeHeader] = "twin"
	}
	at.After, at.Taken = result.Next, at.Taken+len(result.Rows)
	if result.Next != "" && (statement.Top == 0 || at.Taken < statement.Top) {
		header[continuationHeader] = at.String()
	}
	return answer{body: result.Rows, header: header}, nil
}
