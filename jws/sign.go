package jws

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
)

// Sign makes the compact serialisation of payload, signed with key. The header is exactly alg, typ (JWT) and x5c, which
// is chain in the order given: the leaf, whose key must be key's public half, first.
//
// The key is any RSA [crypto.Signer], one that lives in hardware included.
func Sign(alg Algorithm, key crypto.Signer, chain []*x509.Certificate, payload []byte) (string, error) {
	hash := alg.hash()
	if hash == 0 {
		return "", fmt.Errorf("jws: algorithm %.20q is not RS256, RS384 or RS512", alg)
	}
	if err := checkSigner(key, chain); err != nil {
		return "", err
	}
	content := struct {
		Alg Algorithm `json:"alg"`
		Typ string    `json:"typ"`
		X5C [][]byte  `json:"x5c"` // encoded as standard base64
	}{Alg: alg, Typ: "JWT"}
	for _, cert := range chain {
		content.X5C = append(content.X5C, cert.Raw)
	}
	header, err := json.Marshal(content)
	if err != nil {
		return "", fmt.Errorf("jws: header: %w", err)
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	h := hash.New()
	h.Write([]byte(signed))
	signature, err := key.Sign(rand.Reader, h.Sum(nil), hash)
	if err != nil {
		return "", fmt.Errorf("jws: signing: %w", err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// checkSigner refuses what every receiver would refuse.
func checkSigner(key crypto.Signer, chain []*x509.Certificate) error {
	if key == nil {
		return errors.New("jws: no key to sign with")
	}
	public, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("jws: key is %T, not RSA", key.Public())
	}
	if len(chain) == 0 {
		return errors.New("jws: no certificate for x5c")
	}
	if !public.Equal(chain[0].PublicKey) {
		return errors.New("jws: the first certificate is not of the key to sign with")
	}
	return nil
}
