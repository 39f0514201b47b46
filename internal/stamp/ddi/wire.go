package ddi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/slipway/slipway/internal/link"
	"github.com/slipway/slipway/internal/problem"
)

// Feedback is what a client says of an action.
type Feedback struct {
	Execution string // closed, proceeding, canceled, scheduled, rejected, resumed, download, downloaded
	Finished  string // success, failure, none
	Done, Of  int    // steps, where it counts any
	Details   []string
}

var (
	executions = []string{"closed", "proceeding", "canceled", "scheduled", "rejected", "resumed", "download", "downloaded"}
	finishes   = []string{"success", "failure", "none"}
)

// decodeFeedback reads a client's feedback. Only its status counts; members
// that nobody knows are passed over, as is a progress that is none.
func decodeFeedback(text []byte) (f Feedback, err error) {
	var sent struct {
		Status struct {
			Execution string   `json:"execution"`
			Details   []string `json:"details"`
			Result    struct {
				Finished string          `json:"finished"`
				Progress json.RawMessage `json:"progress"`
			} `json:"result"`
		} `json:"status"`
	}
	if err := json.Unmarshal(text, &sent); err != nil {
		return f, problem.New(problem.Invalid, "the feedback cannot be read: %w", err)
	}
	f = Feedback{Execution: sent.Status.Execution, Finished: sent.Status.Result.Finished, Details: sent.Status.Details}
	if f.Finished == "" {
		f.Finished = "none"
	}
	if !slices.Contains(executions, f.Execution) {
		return f, problem.New(problem.Invalid, "an execution is one of %s, not %q", strings.Join(executions, ", "), f.Execution).At("status.execution")
	}
	if !slices.Contains(finishes, f.Finished) {
		return f, problem.New(problem.Invalid, "what is finished is one of %s, not %q", strings.Join(finishes, ", "), f.Finished).At("status.result.finished")
	}
	var progress struct{ Cnt, Of int }
	if json.Unmarshal(sent.Status.Result.Progress, &progress) == nil && progress.Of > 0 {
		f.Done, f.Of = max(0, min(progress.Cnt, progress.Of)), progress.Of
	}
	return f, nil
}

func (f Feedback) percent() int {
	if f.Of == 0 {
		return 0
	}
	return int(math.Round(100 * float64(f.Done) / float64(f.Of)))
}

// digest is equal for feedback that comes again.
func (f Feedback) digest() string {
	hash := sha256.New()
	fmt.Fprintf(hash, "%s %s %d %d %q", f.Execution, f.Finished, f.Done, f.Of, f.Details)
	return hex.EncodeToString(hash.Sum(nil)[:8])
}

// attributeChange is what a client says of its attributes.
type attributeChange struct {
	mode string // merge, replace, remove
	data map[string]string
}

// decodeAttributes reads attributes; older clients send them in the envelope of
// a feedback, of which only the data count.
func decodeAttributes(text []byte) (c attributeChange, err error) {
	var sent struct {
		Mode string         `json:"mode"`
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(text, &sent); err != nil {
		return c, problem.New(problem.Invalid, "the attributes cannot be read: %w", err)
	}
	c = attributeChange{sent.Mode, map[string]string{}}
	if c.mode == "" {
		c.mode = "merge"
	}
	if !slices.Contains([]string{"merge", "replace", "remove"}, c.mode) {
		return c, problem.New(problem.Invalid, "a mode is merge, replace or remove, not %q", c.mode).At("mode")
	}
	for key, value := range sent.Data {
		switch value := value.(type) {
		case nil:
			c.data[key] = ""
		case string:
			c.data[key] = value
		case bool, float64:
			c.data[key] = fmt.Sprint(value)
		default:
			return c, problem.New(problem.Invalid, "an attribute is a text").At("data." + key)
		}
	}
	return c, nil
}

type href struct {
	Href string `json:"href"`
}

// rootBody is the answer to a poll.
type rootBody struct {
	Config struct {
		Polling struct {
			Sleep string `json:"sleep"`
		} `json:"polling"`
	} `json:"config"`
	Links map[string]href `json:"_links"`
}

// orderBody is an order as clients read it.
type orderBody struct {
	ID         string         `json:"id"`
	Deployment deploymentBody `json:"deployment"`
	History    *historyBody   `json:"actionHistory,omitempty"`
}

type deploymentBody struct {
	Download    string      `json:"download"`
	Update      string      `json:"update"`
	Maintenance string      `json:"maintenanceWindow,omitempty"`
	Chunks      []chunkBody `json:"chunks"`
}

type historyBody struct {
	Status   string   `json:"status"`
	Messages []string `json:"messages"`
}

type chunkBody struct {
	Part      string         `json:"part"`
	Version   string         `json:"version"`
	Name      string         `json:"name"`
	Encrypted bool           `json:"encrypted"`
	Artifacts []artifactBody `json:"artifacts"`
	Metadata  []metaBody     `json:"metadata,omitempty"`
}

type metaBody struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type artifactBody struct {
	File   string            `json:"filename"`
	Hashes map[string]string `json:"hashes"`
	Size   int64             `json:"size"`
	Links  map[string]href   `json:"_links"`
}

// sleepOf is how long a device is to wait: spread by its id, so that those that
// were started together do not stay together, and the same each time, so that
// an answer that says nothing new is the same as the one before.
func sleepOf(poll time.Duration, id string) string {
	hash := fnv.New32a()
	hash.Write([]byte(id))
	spread := 0.9 + 0.2*float64(hash.Sum32())/math.MaxUint32
	seconds := int(math.Round(poll.Seconds() * spread))
	seconds = min(max(1, seconds), 24*3600-1)
	return fmt.Sprintf("%02d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60)
}

// checksumOf changes when an order does, so that a client that keeps what it
// fetched fetches it again.
func checksumOf(o link.UpdateOrder) string {
	text := o.Digest + " " + strconv.FormatInt(o.Order, 10)
	return strconv.FormatInt(int64(int32(crc32.ChecksumIEEE([]byte(text)))), 10)
}

// modulesPerAction bounds the software of an order, so that the number of a
// module can hold the action's.
const modulesPerAction = 100

func moduleOf(action int64, index int) string {
	return strconv.FormatInt(action*modulesPerAction+int64(index), 10)
}

// chunksOf are the parts of an order that have files.
func chunksOf(o link.UpdateOrder, l links) []chunkBody {
	chunks := []chunkBody{}
	for i, s := range o.Software {
		if len(s.Artifacts) == 0 || i >= modulesPerAction {
			continue
		}
		chunk := chunkBody{Part: partOf(s), Version: s.Version, Name: s.Name, Artifacts: artifactsOf(s, moduleOf(o.Order, i), l)}
		for key, value := range s.Metadata {
			if key != metaPart && key != metaConfirm && key != metaWindow {
				chunk.Metadata = append(chunk.Metadata, metaBody{key, value})
			}
		}
		sort.Slice(chunk.Metadata, func(a, b int) bool { return chunk.Metadata[a].Key < chunk.Metadata[b].Key })
		chunks = append(chunks, chunk)
	}
	return chunks
}

// artifactsOf are the files of a software. Some clients know only the links
// that are called http, whatever they lead to.
func artifactsOf(s link.Software, module string, l links) []artifactBody {
	var all []artifactBody
	for _, a := range s.Artifacts {
		at := href{l.file("softwaremodules/" + module + "/artifacts/" + escaped(a.File))}
		sum := href{at.Href + md5Suffix}
		named := map[string]href{"download-http": at, "md5sum-http": sum}
		if strings.HasPrefix(l.origin, "https:") {
			named["download"], named["md5sum"] = at, sum
		}
		all = append(all, artifactBody{a.File, map[string]string{"sha1": a.SHA1, "md5": a.MD5, "sha256": a.SHA256}, a.Size, named})
	}
	return all
}
