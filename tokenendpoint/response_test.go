package tokenendpoint

import (
	"bytes"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// FuzzTokenAnswer holds what is written against json.Marshal.
func FuzzTokenAnswer(f *testing.F) {
	f.Add("eyJhbGciOiJkaXIifQ..a-_.b.c", int64(3600), "")
	for _, odd := range []string{"", "\"", "\\", "\n", "\x00", "é", "\u2028", "\xff", "<&>"} {
		f.Add("token"+odd, int64(len(odd)), "iSHARE "+odd)
		f.Add(odd, int64(-1), odd)
	}
	f.Fuzz(func(t *testing.T, token string, seconds int64, scope string) {
		want, wantErr := json.Marshal(struct {
			Token   string `json:"access_token"`
			Type    string `json:"token_type"`
			Seconds int64  `json:"expires_in"`
			Scope   string `json:"scope,omitempty"`
		}{token, "Bearer", seconds, scope})
		life := time.Duration(seconds) * time.Second
		if int64(life/time.Second) != seconds { // no life of a token
			return
		}
		got, err := tokenAnswer(token, life, scope)
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("%s, %v; json.Marshal says %s, %v", got, err, want, wantErr)
		}
	})
}
