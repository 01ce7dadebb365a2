package jws

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// wycheproof holds vectors of Project Wycheproof. It is not part of the repository.
const wycheproof = "../../shared/suites/wycheproof"

func readWycheproof(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(wycheproof, name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the suite is not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every signature is what the suite says of it. Those that it leaves to us are refused:
// there are some without the parameter NULL in DigestInfo (RFC 8017 section 9.2).
func TestWycheproofRSA(t *testing.T) {
	for name, alg := range map[string]Algorithm{
		"rsa_signature_2048_sha256_test.json": RS256, "rsa_signature_2048_sha384_test.json": RS384,
		"rsa_signature_2048_sha512_test.json": RS512, "rsa_signature_3072_sha256_test.json": RS256,
		"rsa_signature_4096_sha256_test.json": RS256,
	} {
		var suite struct {
			TestGroups []struct {
				PublicKeyDer string
				Tests        []struct {
					TcID             int
					Msg, Sig, Result string
				}
			}
		}
		readWycheproof(t, name, &suite)
		judged := 0
		for _, group := range suite.TestGroups {
			key, err := x509.ParsePKIXPublicKey(unhex(t, group.PublicKeyDer))
			if err != nil {
				t.Fatal(err)
			}
			for _, test := range group.Tests {
				judged++
				token := &Token{signed: string(unhex(t, test.Msg)), signature: unhex(t, test.Sig)}
				err := token.Verify(alg, NewKey(key.(*rsa.PublicKey))) //nolint:forcetypeassert // the suite is about RSA
				if (err == nil) != (test.Result == "valid") {
					t.Errorf("%s, case %d: %v, and it is %s", name, test.TcID, err, test.Result)
				}
			}
		}
		if judged < 250 {
			t.Errorf("%s: %d cases only", name, judged)
		}
	}
}

// differentOnPurpose lists the cases of JWS in which we differ, by the reason.
var differentOnPurpose = map[string][]int{
	"an empty payload is no JWT":                                 {259, 264, 268, 272, 320, 325},
	"iSHARE 3.0 has no PSS":                                      {273, 274, 275, 287, 288, 321, 322, 323, 326, 327, 328, 346, 350},
	"alg, use and key_ops of a JWK: keys come from certificates": {332, 334, 336, 353, 355},
}

func reasonToDiffer(number int) string {
	for reason, numbers := range differentOnPurpose {
		if slices.Contains(numbers, number) {
			return reason
		}
	}
	return ""
}

// Of the cases of JWS, those with an RSA key are ours.
func TestWycheproofJWS(t *testing.T) {
	var suite struct {
		TestGroups []struct {
			Public struct{ Kty, N, E string }
			Tests  []struct {
				TcID                 int
				Comment, JWS, Result string
			}
		}
	}
	readWycheproof(t, "json_web_signature_test.json", &suite)
	judged, different := 0, 0
	for _, group := range suite.TestGroups {
		if group.Public.Kty != "RSA" {
			continue
		}
		key := &rsa.PublicKey{N: number(t, group.Public.N), E: int(number(t, group.Public.E).Int64())}
		for _, test := range group.Tests {
			judged++
			err := verifyCompact(test.JWS, key)
			reason := reasonToDiffer(test.TcID)
			if reason != "" {
				different++
			}
			if ((err == nil) != (test.Result == "valid")) != (reason != "") {
				t.Errorf("case %d (%s): %v, and it is %s; listed: %q", test.TcID, test.Comment, err, test.Result, reason)
			}
		}
	}
	for _, numbers := range differentOnPurpose {
		different -= len(numbers)
	}
	if judged < 250 || different != 0 {
		t.Errorf("%d cases, and %d listed ones too many or too few", judged, different)
	}
}

func number(t *testing.T, s string) *big.Int {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return new(big.Int).SetBytes(b)
}

func verifyCompact(compact string, key *rsa.PublicKey) error {
	token, err := Split(compact)
	if err != nil {
		return err
	}
	header, err := token.Header()
	if err != nil {
		return err
	}
	name, _ := header.Text("alg")
	alg, err := ParseAlgorithm(name)
	if err != nil {
		return err
	}
	return token.Verify(alg, NewKey(key))
}
