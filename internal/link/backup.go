package link

import "time"

// The calls of backups: control has a plane write its backup into a vault, and
// asks how far it is. Only what control has signed then is a backup.
var (
	BackupTake   = Call[TakeBackup, BackupState]{"backup.take"}
	BackupStatus = Call[BackupRef, BackupState]{"backup.status"}
)

// Vault is where backups are kept.
type Vault struct {
	Name string `json:"name"`
	// Regions are those whose stamps' backups may be there; none means those of
	// every stamp whose devices need not stay somewhere.
	Regions   []string `json:"regions,omitempty"`
	Directory string   `json:"directory,omitempty"`
	S3        *S3      `json:"s3,omitempty"`
	LockDays  int      `json:"lockDays,omitempty"` // how long nobody may remove what was written
}

// TakeBackup asks a plane to write its backup.
type TakeBackup struct {
	ID          string   `json:"id"`
	Vault       Vault    `json:"vault"`
	Environment string   `json:"environment,omitempty"`
	Region      string   `json:"region,omitempty"`
	Recipients  []string `json:"recipients"`
	Secret      []byte   `json:"secret"` // that names chunks of this peer
	Rate        int64    `json:"rate,omitempty"`
	Anew        bool     `json:"anew,omitempty"` // use nothing that is in the vault already
}

// BackupRef names a backup.
type BackupRef struct {
	ID string `json:"id"`
}

// The phases of a backup on its plane.
const (
	BackupWaiting = "waiting" // for another to end
	BackupCopying = "copying" // the database and the logs, onto the plane's own disk
	BackupWriting = "writing" // into the vault
	BackupWritten = "written" // all but the signature is there
	BackupFailed  = "failed"
)

// BackupState is how far a plane is with a backup.
type BackupState struct {
	ID      string `json:"id"`
	Phase   string `json:"phase"`
	Bytes   int64  `json:"bytes"` // of the files, come by so far
	Failure string `json:"failure,omitempty"`
	// Digest is the hex SHA-256 of the unsigned index, once it is written.
	Digest string `json:"digest,omitempty"`
}

// Canary is a record written into a database just before its backup is taken:
// what comes back with it shows of when the backup is.
type Canary struct {
	Mark string    `json:"mark"`
	At   time.Time `json:"at"`
}

// BackupStream is a log in a backup.
type BackupStream struct {
	Name     string `json:"name"`
	Messages uint64 `json:"messages"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
}

// The verdicts of a drill and of each of its checks.
const (
	Pass         = "pass"
	Fail         = "fail"
	Inconclusive = "inconclusive"
	NothingToDo  = "nothing" // there was nothing that could be checked
)

// DrillCheck is one thing that a drill looked at.
type DrillCheck struct {
	Name    string `json:"name"`
	Plane   string `json:"plane,omitempty"`
	Verdict string `json:"verdict"`
	Detail  string `json:"detail,omitempty"`
}

// Restored is a backup that a drill restored.
type Restored struct {
	Backup     string    `json:"backup"`
	Digest     string    `json:"digest"` // hex SHA-256 of its signed index
	Plane      string    `json:"plane"`
	TakenAt    time.Time `json:"takenAt"`
	AgeSeconds int64     `json:"ageSeconds"` // when the drill began
	Bytes      int64     `json:"bytes"`
}

// Timing is a part of a drill with its time.
type Timing struct {
	Name         string `json:"name"`
	Milliseconds int64  `json:"milliseconds"`
}

// Trial is one restore of a drill, to the newest backups or to an older moment.
type Trial struct {
	Of         string       `json:"of"` // newest, older
	At         time.Time    `json:"at"` // the moment that was restored to
	Restored   []Restored   `json:"restored"`
	Phases     []Timing     `json:"phases"`
	Checks     []DrillCheck `json:"checks"`
	Isolation  string       `json:"isolation"` // what kept the target from reaching anything: kernel, process
	RTOSeconds float64      `json:"rtoSeconds"`
	RPOSeconds float64      `json:"rpoSeconds"`
	Destroyed  bool         `json:"destroyed"` // the target is gone
}

// DrillEvidence is what a drill has shown, by the host that ran it.
type DrillEvidence struct {
	Drill       string     `json:"drill"`
	Trigger     string     `json:"trigger"` // schedule, demand
	By          string     `json:"by"`
	Host        string     `json:"host"`
	Version     string     `json:"version"`
	BegunAt     time.Time  `json:"begunAt"`
	EndedAt     time.Time  `json:"endedAt"`
	Trials      []Trial    `json:"trials"`
	Negative    DrillCheck `json:"negative"` // a byte flipped in a copy: it must be refused
	Bytes       int64      `json:"bytes"`
	BytesPerSec float64    `json:"bytesPerSecond"`
	Failure     string     `json:"failure,omitempty"` // why it could not be carried through
}
