package probe_test

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"github.com/waybill-token/waybill/probe"
)

// FuzzAnswer: whatever a server says can be told on a terminal, and is never both a refusal and a token.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		"", "{}", `{"access_token":"abc"}`, `[{"access_token":"abc"}]`, "access_token=abc&x=y", `{"error":"invalid_client","error_description":"claim.aud: no"}`,
		`{"error":1}`, `{"error":"a","error":"b"}`, "<html>\x1b[31m", `{"access_token":null}`, `{"error":"invalid_client","access_token":"abcdef"}`, "\xff\xfe", `"eyJhbGciOiJSUzI1NiJ9.e30.AAAA"`,
	} {
		for _, status := range []uint16{200, 302, 400, 401, 405, 500, 503} {
			f.Add(status, "application/json", []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, status uint16, mediaType string, body []byte) {
		told, refuse, accept, err := probe.Told(int(status%600), http.Header{"Content-Type": {mediaType}}, body)
		if err != nil {
			t.Fatal(err)
		}
		if refuse == probe.Pass && accept == probe.Pass {
			t.Errorf("%d %q is both", status, body)
		}
		if len(told) > 2000 || strings.ContainsFunc(told, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%d %q is told as %q", status, body, told)
		}
	})
}

// A plain key signs with PKCS #1 v1.5 alone, as some in hardware do.
type plain struct{ crypto.Signer }

func (p plain) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return nil, errors.New("mechanism invalid")
	}
	return p.Signer.Sign(random, digest, opts)
}

// TestKeyThatCannot: what the key cannot sign is skipped, and the rest is done.
func TestKeyThatCannot(t *testing.T) {
	s := startLenient(t, players(), "nothing")
	config := players().everything(s.url, "")
	config.Seal.Key = plain{config.Seal.Key}
	config.Only = []string{"jwt.alg"}
	for _, r := range run(t, config).Results {
		want := probe.Pass
		if r.Name == "jwt.alg/PS256" {
			want = probe.Skipped
		}
		if r.Verdict != want || want == probe.Skipped && r.Reason != "the key cannot sign this: mechanism invalid" {
			t.Errorf("%s: %s, %s%s", r.Name, r.Verdict, r.Came, r.Reason)
		}
	}
	a := probe.NewAssertion(config.Seal, audience)
	if _, err := a.Break("jwt.alg"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Compact(); err == nil {
		t.Error("an assertion that was not signed")
	}
}
