package audit

import (
	"context"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/slipway/slipway/internal/problem"
	"github.com/slipway/slipway/internal/sqldb"
)

// Sign signs a text with the log's key. Its first line must be one that no
// checkpoint has: those begin with the log's origin.
func (l *Log) Sign(text string) (signed, key string, err error) {
	if l.key == nil {
		return "", "", errUnsigned
	}
	one, err := note.Sign(&note.Note{Text: text}, l.key.signer)
	return string(one), l.key.verifier, err
}

// Opened is a text that was signed with a key.
func Opened(signed, key string) (string, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return "", problem.New(problem.Invalid, "the public key cannot be read: %w", err)
	}
	one, err := note.Open([]byte(signed), note.VerifierList(verifier))
	if err != nil {
		return "", problem.New(problem.Invalid, "the signature is not one of this key: %w", err)
	}
	return one.Text, nil
}

// Append is Record that tells the number of the entry.
func (l *Log) Append(ctx context.Context, tx *sqldb.Tx, e Entry) (int64, error) {
	return l.append(ctx, tx, kindEntry, 0, e)
}

// EraseIn forgets an object, what is below it, and that somebody looked for it,
// inside a change, and tells in how many entries.
func EraseIn(ctx context.Context, tx *sqldb.Tx, object string) (int64, error) {
	return eraseObject(ctx, tx, object)
}

// Like is the pattern of texts that hold one, for LIKE with the escape \.
func Like(text string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(text) + "%"
}
