package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// An Event is what an entry is about.
type Event string

// The events.
const (
	Opened     Event = "opened"     // a server has begun to write here; it is the first entry of each file and of each start
	Token      Event = "token"      // a token request was decided
	Revocation Event = "revocation" // access tokens are to be revoked
	Started    Event = "started"    // the server answers requests
	Reloaded   Event = "reloaded"   // a configuration was taken over, or refused
	Keys       Event = "token_keys" // the keys of access tokens are others than before
	Stopped    Event = "stopped"    // the server answers no more
)

// An Entry is one line of a trail. Members without a value are left out. It never holds an assertion, a token or a key.
type Entry struct {
	Number uint64    `json:"number"` // one more than that of the entry before
	Time   time.Time `json:"time"`
	Event  Event     `json:"event"`

	// Of a token request. Nothing but certificate is proven of one that was refused, and that only by a rule that
	// comes after the signature.
	Outcome     string `json:"outcome,omitzero"` // of reloaded: done or failed
	Rule        string `json:"rule,omitzero"`    // of a request without a token
	Party       string `json:"party,omitzero"`
	ClientID    string `json:"client_id,omitzero"`
	Certificate string `json:"certificate,omitzero"` // its SHA-256, in hex
	JTIHash     string `json:"jti_hash,omitzero"`
	TokenID     string `json:"token_id,omitzero"`
	Scope       string `json:"scope,omitzero"`
	Remote      string `json:"remote,omitzero"` // where the request came from
	Correlation string `json:"correlation,omitzero"`
	More        int    `json:"more,omitzero"` // how many more such requests there were: see the package

	Caller string `json:"caller,omitzero"` // who revokes
	Detail string `json:"detail,omitzero"`

	// Of opened, behind what a crash or a full disk has left of a line: how many bytes that are, and their SHA-256.
	Torn       int    `json:"torn,omitzero"`
	TornSHA256 string `json:"torn_sha256,omitzero"`

	Previous string `json:"previous"` // the hash of the entry before
}

// maxText bounds each text of an entry, and so a line.
const maxText = 512

// hashMember stands before the hash of an entry, with which its line ends.
const hashMember = `,"hash":"`

// noHash is before the first entry of all.
func noHash() string { return hex.EncodeToString(make([]byte, sha256.Size)) }

// line is the entry as it is written, and its hash: the SHA-256 of the line up to the member that holds it. As the line holds the
// hash of the one before, each vouches for all before it.
func (e *Entry) line() (line []byte, hash string, err error) {
	for _, text := range []*string{&e.Party, &e.ClientID, &e.Certificate, &e.TokenID, &e.Scope, &e.Remote, &e.Caller, &e.Detail} {
		if len(*text) > maxText {
			*text = (*text)[:maxText] + "…" // so that nobody takes it for all there was
		}
	}
	line, err = json.Marshal(e, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return nil, "", err
	}
	line = line[:len(line)-1] // without the brace
	hash = sum(line)
	return append(append(append(line, hashMember...), hash...), "\"}\n"...), hash, nil
}

// isHash reports whether a text is a hash, and nothing that whoever made the file would have a terminal show.
func isHash(text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == sha256.Size && strings.ToLower(text) == text
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

var errNoEntry = errors.New("it is no entry of an audit trail")

// parse reads a line, without its end, and checks its hash.
func parse(line []byte) (e Entry, hash string, err error) {
	const tail = len(hashMember) + 2*sha256.Size + len(`"}`)
	if len(line) < tail {
		return e, "", errNoEntry
	}
	body, end := line[:len(line)-tail], line[len(line)-tail:]
	stated, ok := bytes.CutPrefix(end, []byte(hashMember))
	stated, closed := bytes.CutSuffix(stated, []byte(`"}`))
	if !ok || !closed {
		return e, "", errNoEntry
	}
	if hash = sum(body); hash != string(stated) {
		return e, "", errors.New("it was changed: its hash is another")
	}
	if err := json.Unmarshal(append(bytes.Clone(body), '}'), &e, json.RejectUnknownMembers(false)); err != nil || !isHash(e.Previous) {
		return e, "", errNoEntry
	}
	return e, hash, nil
}
