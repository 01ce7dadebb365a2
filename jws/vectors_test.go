package jws_test

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/jws"
)

// vectors holds published JWTs, byte for byte. It is not part of the repository.
const vectors = "../../shared/vectors"

// The JWTs that iSHARE published over the years, as far as this package judges
// them: whether the header is read, and whether the first certificate signed.
func TestPublishedTokens(t *testing.T) {
	if _, err := os.Stat(vectors); errors.Is(err, os.ErrNotExist) {
		t.Skip("the published vectors are not here")
	}
	for name, want := range map[string]struct {
		certificates int // 0: x5c cannot be read
		says         string
		iss          string // of a token whose signature holds
	}{
		"v1.x-postman-client-assertion-aud-array.jwt":     {certificates: 1, iss: "EU.EORI.NL000000002"},
		"v2.0-docs-delegation-token-pem-in-x5c.jwt":       {says: "x5c[1] is base64 of a PEM text"},
		"v2.0-swagger-trusted-list-token.jwt":             {certificates: 3, iss: "EU.EORI.NLTESTPIRSAT1"},
		"v3.0-openapi-capabilities-token.jwt":             {certificates: 4, iss: "did:ishare:EU.NL.NTRNL-10000000"},
		"v3.0-openapi-connect-token-client-assertion.jwt": {certificates: 4, iss: "did:ishare:EU.NL.NTRNL-10000001"},
		"v3.0-openapi-dataspaces-token.jwt":               {certificates: 4},
		"v3.0-openapi-delegation-token.jwt":               {certificates: 4, iss: "did:ishare:EU.NL.NTRNL-10000004"},
		"v3.0-openapi-party-token.jwt":                    {certificates: 4, iss: "did:ishare:EU.NL.NTRNL-10000000"},
		"v3.0-openapi-placeholder-jwt-no-x5c.jwt":         {says: "x5c is missing"},
		"v3.0-openapi-trusted-list-token.jwt":             {certificates: 4, iss: "did:ishare:EU.NL.NTRLNL-10000000"}, // sic
	} {
		t.Run(name, func(t *testing.T) {
			token, header := published(t, name)
			chain, err := header.Certificates(nil)
			if want.says != "" {
				if !errors.Is(err, jws.ErrX5C) || !strings.Contains(err.Error(), want.says) {
					t.Errorf("x5c: %v, want %q", err, want.says)
				}
				return
			}
			if err != nil || len(chain) != want.certificates {
				t.Fatalf("%d certificates, want %d: %v", len(chain), want.certificates, err)
			}
			key, _ := chain[0].PublicKey.(*rsa.PublicKey)
			if err := token.Verify(jws.RS256, jws.NewKey(key)); err != nil {
				t.Error(err)
			}
			var claims struct {
				Iss string `json:"iss"`
			}
			if err := json.Unmarshal(token.Payload(), &claims); err != nil || claims.Iss != want.iss {
				t.Errorf("iss is %q, want %q: %v", claims.Iss, want.iss, err)
			}
		})
	}
}

func published(t *testing.T, name string) (*jws.Token, *jws.Header) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectors, name))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.Split(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	header, err := token.Header()
	if err != nil {
		t.Fatal(err)
	}
	if alg, _ := header.Text("alg"); alg != string(jws.RS256) {
		t.Errorf("alg is %q", alg)
	}
	return token, header
}
