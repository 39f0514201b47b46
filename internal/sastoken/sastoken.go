// Package sastoken reads, checks and makes shared access signatures: the
// tokens with which devices and back ends prove that they hold a key. It
// decides nothing about who may do what.
//
// Clients percent-encode the resource in different ways (or not at all) and
// sign the text they send, so a signature is checked over the text exactly as
// sent, and a resource is compared only after decoding.
package sastoken

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// MaxLength is the most bytes a token may have.
const MaxLength = 4096

// The reasons for which a token is refused; errors wrap them.
var (
	ErrMalformed = errors.New("malformed shared access signature")
	ErrExpired   = errors.New("expired shared access signature")
	ErrSignature = errors.New("shared access signature made with another key")
)

// Token is a parsed shared access signature. Nothing in it is proven before
// Verify.
type Token struct {
	Resource       string // what the token is for, decoded
	SignedResource string // the same as sent, which is what is signed
	Signature      []byte
	Expiry         time.Time
	ExpiryText     string // the expiry as sent, which is what is signed
	Policy         string // name of the key, decoded; empty for a device's own
}

const prefix = "SharedAccessSignature "

// latest keeps any expiry inside what time.Time and JSON can say.
var latest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Parse reads a token. Its fields may come in any order; unknown ones are
// passed over, known ones may come once.
func Parse(text string) (Token, error) {
	if len(text) > MaxLength {
		return Token{}, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxLength)
	}
	if len(text) < len(prefix) || !strings.EqualFold(text[:len(prefix)], prefix) {
		return Token{}, fmt.Errorf("%w: does not begin with %q", ErrMalformed, prefix)
	}
	fields, err := split(strings.TrimSpace(text[len(prefix):]))
	if err != nil {
		return Token{}, err
	}
	return decode(fields)
}

// split cuts the fields apart and leaves their values as sent.
func split(text string) (map[string]string, error) {
	fields := map[string]string{}
	for field := range strings.SplitSeq(text, "&") {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "sr", "sig", "se", "skn":
			if _, twice := fields[name]; twice {
				return nil, fmt.Errorf("%w: field %s comes twice", ErrMalformed, name)
			}
			fields[name] = value
		}
	}
	for _, name := range []string{"sr", "sig", "se"} {
		if fields[name] == "" {
			return nil, fmt.Errorf("%w: field %s is missing", ErrMalformed, name)
		}
	}
	return fields, nil
}

func decode(fields map[string]string) (Token, error) {
	t := Token{SignedResource: fields["sr"], ExpiryText: fields["se"]}
	var err error
	if t.Resource, err = url.PathUnescape(t.SignedResource); err != nil {
		return Token{}, fmt.Errorf("%w: field sr: %w", ErrMalformed, err)
	}
	if t.Policy, err = url.PathUnescape(fields["skn"]); err != nil {
		return Token{}, fmt.Errorf("%w: field skn: %w", ErrMalformed, err)
	}
	signature, err := url.PathUnescape(fields["sig"])
	if err != nil {
		return Token{}, fmt.Errorf("%w: field sig: %w", ErrMalformed, err)
	}
	if t.Signature, err = base64.StdEncoding.DecodeString(signature); err != nil {
		return Token{}, fmt.Errorf("%w: field sig: %w", ErrMalformed, err)
	}
	seconds, err := strconv.ParseUint(t.ExpiryText, 10, 63)
	if err != nil {
		return Token{}, fmt.Errorf("%w: field se is not a number of seconds", ErrMalformed)
	}
	t.Expiry = latest
	if int64(seconds) < latest.Unix() {
		t.Expiry = time.Unix(int64(seconds), 0).UTC()
	}
	return t, nil
}

// Verify checks that the token was made with key and has not expired, giving
// clocks that differ by up to skew the benefit of the doubt.
func (t Token) Verify(key []byte, now time.Time, skew time.Duration) error {
	if len(key) == 0 || !hmac.Equal(t.Signature, sum(key, t.SignedResource+"\n"+t.ExpiryText)) {
		return ErrSignature
	}
	if now.After(t.Expiry.Add(skew)) {
		return fmt.Errorf("%w: it ended at %s", ErrExpired, t.Expiry.Format(time.RFC3339))
	}
	return nil
}

// Decoded is the token as for a resource whose segments were encoded once more,
// each on its own. What cannot be decoded stays as it is.
func (t Token) Decoded() Token {
	segments := strings.Split(t.Resource, "/")
	for i, segment := range segments {
		text, err := url.PathUnescape(segment)
		if err != nil || strings.Contains(text, "/") {
			return t
		}
		segments[i] = text
	}
	t.Resource = strings.Join(segments, "/")
	return t
}

// Covers reports whether the token's resource is the one named by segments or
// lies above it: "a/b" covers a, b, c but not a, bc. The first segment, a host
// or a scope, is compared without regard to letter case.
func (t Token) Covers(segments ...string) bool {
	have := strings.Split(strings.TrimSuffix(t.Resource, "/"), "/")
	if last := len(have) - 1; last > 0 && strings.HasPrefix(have[last], "api-version=") {
		have = have[:last] // old tools sign the version with the resource
	}
	if len(have) > len(segments) || !strings.EqualFold(have[0], segments[0]) || have[0] == "" {
		return false
	}
	for i := 1; i < len(have); i++ {
		if have[i] != segments[i] {
			return false
		}
	}
	return true
}

// Sign makes a token for a resource that is encoded already; policy may be
// empty.
func Sign(key []byte, resourceEncoded string, expiry time.Time, policy string) string {
	se := strconv.FormatInt(expiry.Unix(), 10)
	sig := base64.StdEncoding.EncodeToString(sum(key, resourceEncoded+"\n"+se))
	token := prefix + "sr=" + resourceEncoded + "&sig=" + url.QueryEscape(sig) + "&se=" + se
	if policy != "" {
		token += "&skn=" + strings.ReplaceAll(url.QueryEscape(policy), "+", "%20")
	}
	return token
}

// DeriveKey is the key a device of a group has: it depends on the id text as
// the device spells it.
func DeriveKey(groupKey []byte, registrationID string) []byte {
	return sum(groupKey, registrationID)
}

func sum(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
