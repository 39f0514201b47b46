package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/slipway/slipway/internal/problem"
)

// Trust is what whoever verifies has from elsewhere than the export.
type Trust struct {
	// Key is the log's public key; empty takes the export's word for it.
	Key string
	// Checkpoints were seen before: the log has to go on from each of them.
	Checkpoints []string
	// Remembered tells the key and the last checkpoint of a log that was
	// verified before; nil remembers nothing.
	Remembered func(origin string) (key, checkpoint string, err error)
}

// of completes what is trusted by what is remembered of a log.
func (t Trust) of(origin string) (Trust, error) {
	if t.Remembered == nil {
		return t, nil
	}
	key, checkpoint, err := t.Remembered(origin)
	if checkpoint != "" && (t.Key == "" || t.Key == key) {
		t.Checkpoints = append(slices.Clip(t.Checkpoints), checkpoint)
	}
	t.Key = cmp.Or(t.Key, key)
	return t, err
}

// Finding is what is wrong with an export.
type Finding struct {
	Sequence int64  `json:"sequence,omitempty" doc:"The entry at fault"`
	Problem  string `json:"problem"`
}

// Report is what verifying an export came to.
type Report struct {
	Origin      string    `json:"origin"`
	Key         string    `json:"key"`
	KeyTrusted  bool      `json:"keyTrusted" doc:"false: the key is the export's own"`
	Entries     int64     `json:"entries"`
	Erased      int64     `json:"erased" doc:"Entries of which something personal was erased; their proofs hold"`
	Checkpoints int       `json:"checkpoints" doc:"Signed checkpoints that the entries come to"`
	Size        int64     `json:"size" doc:"How many entries the last checkpoint covers"`
	Root        string    `json:"root"`
	Last        string    `json:"checkpoint,omitempty" doc:"The last checkpoint, to be kept for the next time"`
	Findings    []Finding `json:"findings"`
}

// Verified reports whether nothing is wrong.
func (r Report) Verified() bool { return len(r.Findings) == 0 }

// maxFindings is when looking for more tells nothing more.
const maxFindings = 100

// Verify reads an export and says whether all of it is as it was recorded:
// nothing edited, removed, put elsewhere or cut off. It needs nothing else.
func Verify(export io.Reader, trust Trust) (Report, error) {
	v := &verifying{Report: Report{Findings: []Finding{}}, older: map[int64]string{}, trust: trust}
	err := v.read(export)
	if err == nil {
		err = v.end()
	}
	return v.Report, err
}

// verifying is a verification on its way.
type verifying struct {
	Report
	trust    Trust
	verifier note.Verifier
	older    map[int64]string // roots of checkpoints that were seen before, by size
	edge     edge
	last     int64 // the sequence of the leaf before
	good     int64 // up to where a checkpoint has held
}

func (v *verifying) find(sequence int64, format string, args ...any) {
	if len(v.Findings) < maxFindings {
		v.Findings = append(v.Findings, Finding{sequence, fmt.Sprintf(format, args...)})
	}
}

// checked is a line with what can be found out about it alone.
type checked struct {
	line    Line
	hash    tlog.Hash
	problem string
	err     error
}

const (
	maxLine  = 1 << 20
	perBatch = 500
)

// read takes the lines in order; what can be checked of each alone is checked
// beside one another.
func (v *verifying) read(export io.Reader) error {
	lines := bufio.NewScanner(export)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	if !lines.Scan() {
		return errors.Join(problem.New(problem.Invalid, "the export is empty"), lines.Err())
	}
	if err := v.begin(lines.Bytes()); err != nil {
		return err
	}
	work := make(chan chan []checked, runtime.GOMAXPROCS(0))
	var failed error
	go func() {
		defer close(work)
		for more := true; more; {
			batch := make([][]byte, 0, perBatch)
			for len(batch) < perBatch {
				if more = lines.Scan(); !more {
					break
				}
				batch = append(batch, bytes.Clone(lines.Bytes()))
			}
			done := make(chan []checked, 1)
			work <- done
			go func() { done <- checkLines(batch) }()
		}
		failed = lines.Err()
	}()
	var err error
	for done := range work { // read to the end, so that nobody is left behind
		for _, one := range <-done {
			if err == nil {
				err = v.take(one)
			}
		}
	}
	if err == nil && failed != nil {
		err = problem.New(problem.Invalid, "the export cannot be read: %w", failed)
	}
	return err
}

// begin reads the head.
func (v *verifying) begin(text []byte) error {
	var head Line
	if err := json.Unmarshal(text, &head); err != nil || head.Format != exportFormat {
		return problem.New(problem.Invalid, "this is no export of an audit log: its first line must say %q", exportFormat)
	}
	var err error
	if v.trust, err = v.trust.of(head.Origin); err != nil {
		return err
	}
	v.Origin, v.Key, v.KeyTrusted = head.Origin, head.Key, v.trust.Key != ""
	if v.KeyTrusted {
		v.Key = v.trust.Key
	}
	if v.verifier, err = note.NewVerifier(v.Key); err != nil {
		return problem.New(problem.Invalid, "the public key cannot be read: %w", err)
	}
	if v.verifier.Name() != head.Origin {
		return problem.New(problem.Invalid, "the key is of %s, and the export of %s", v.verifier.Name(), head.Origin)
	}
	for _, text := range v.trust.Checkpoints {
		size, root, err := openCheckpoint(text, v.verifier)
		if err != nil {
			return fmt.Errorf("the checkpoint from before: %w", err)
		}
		if known, twice := v.older[size]; twice && known != root.String() {
			v.find(0, "two checkpoints from before are of %d entries and differ: the log was shown to you in two forms", size)
		}
		v.older[size] = root.String()
	}
	v.holdOlder(0)
	return nil
}

// openCheckpoint checks a checkpoint's signature and reads it.
func openCheckpoint(text string, verifier note.Verifier) (int64, tlog.Hash, error) {
	signed, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return 0, tlog.Hash{}, problem.New(problem.Invalid, "it is not signed by %s: %w", verifier.Name(), err)
	}
	return readCheckpoint(signed.Text, verifier.Name())
}

func checkLines(batch [][]byte) []checked {
	all := make([]checked, len(batch))
	for i, text := range batch {
		one := &all[i]
		if one.err = json.Unmarshal(text, &one.line); one.err == nil && one.line.Leaf != nil {
			one.hash, one.problem = checkLeaf(one.line)
		}
	}
	return all
}

// checkLeaf holds a leaf against its hash, and what is there of its payload
// against its commitments.
func checkLeaf(line Line) (hash tlog.Hash, fault string) {
	one := *line.Leaf
	hash = one.hash()
	switch {
	case hash != line.Hash:
		fault = "it was edited: it does not come to the hash that was recorded for it"
	case line.Actor != nil && !bytes.Equal(line.Actor.commitment(), one.Who):
		fault = "who acted was edited: it is not what was committed to"
	case line.About != nil && !bytes.Equal(line.About.commitment(), one.What):
		fault = "what was acted on was edited: it is not what was committed to"
	case line.About != nil && subjectOf(line.About.Object) != one.Subject:
		fault = "its object is of another kind than it says"
	}
	return hash, fault
}

// take goes on by a line.
func (v *verifying) take(one checked) error {
	switch {
	case one.err != nil:
		v.find(0, "the line after entry %d is damaged: %v", v.last, one.err)
	case one.line.Leaf != nil:
		v.leaf(one)
	case one.line.Checkpoint != "":
		return v.checkpoint(one.line.Checkpoint)
	}
	return nil
}

func (v *verifying) leaf(one checked) {
	sequence := one.line.Leaf.Sequence
	switch want := v.last + 1; {
	case sequence == want:
	case sequence > want && sequence == want+1:
		v.find(want, "it is missing")
	case sequence > want:
		v.find(want, "it is missing, and so are those up to entry %d", sequence-1)
	default:
		v.find(sequence, "it stands after entry %d: it was put there, or is there twice", v.last)
	}
	v.last = max(v.last, sequence)
	if one.problem != "" {
		v.find(sequence, "%s", one.problem)
	}
	if one.line.Actor == nil || one.line.About == nil {
		v.Erased++
	}
	v.Entries++
	v.edge.add(one.hash)
	v.holdOlder(v.edge.size)
}

// holdOlder holds the tree against a checkpoint of its size from before.
func (v *verifying) holdOlder(size int64) {
	root, known := v.older[size]
	if !known {
		return
	}
	delete(v.older, size)
	if root != v.edge.root().String() && len(v.Findings) == 0 {
		v.find(size, "up to here the log is not the one of the checkpoint from before: it was written anew")
	}
}

// checkpoint holds the tree against a checkpoint of the export.
func (v *verifying) checkpoint(text string) error {
	size, root, err := openCheckpoint(text, v.verifier)
	if err != nil {
		v.find(v.last, "the checkpoint behind it is worth nothing: %v", err)
		return nil
	}
	v.Size, v.Root, v.Last = size, root.String(), text
	switch {
	case size == v.edge.size && root == v.edge.root():
		v.Checkpoints, v.good = v.Checkpoints+1, size
	case len(v.Findings) > 0: // behind what is wrong no checkpoint can hold
	case size > v.edge.size:
		v.find(v.last+1, "it is missing: the checkpoint covers %d entries, and %d are there", size, v.edge.size)
	default:
		v.find(v.good+1, "one of the entries from here to %d was edited or removed together with its hash: they do not come to the signed checkpoint", size)
	}
	return nil
}

// end looks for what should have come.
func (v *verifying) end() error {
	if v.Size < v.edge.size || v.Last == "" {
		v.find(v.good+1, "no signed checkpoint covers it and what follows: the end of the export was cut off")
	}
	for size := range v.older {
		v.find(v.edge.size+1, "it is missing: a checkpoint from before covers %d entries, and %d are there", size, v.edge.size)
	}
	return nil
}

// edge is the right edge of a tree: the hashes of the full trees that its
// leaves make, greatest first.
type edge struct {
	size   int64
	hashes []tlog.Hash
}

func (e *edge) add(leaf tlog.Hash) {
	e.hashes = append(e.hashes, leaf)
	for n := e.size; n&1 == 1; n >>= 1 {
		last := len(e.hashes) - 1
		e.hashes[last-1] = tlog.NodeHash(e.hashes[last-1], e.hashes[last])
		e.hashes = e.hashes[:last]
	}
	e.size++
}

func (e *edge) root() tlog.Hash {
	if e.size == 0 {
		root, _ := tlog.TreeHash(0, nil) // of nothing, which needs no hashes
		return root
	}
	root := e.hashes[len(e.hashes)-1]
	for i := len(e.hashes) - 2; i >= 0; i-- {
		root = tlog.NodeHash(e.hashes[i], root)
	}
	return root
}
