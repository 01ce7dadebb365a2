package revocation

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// wantDER refuses an answer that cannot be DER, such as an HTML error page or a login page, and says what it is
// instead.
func wantDER(body []byte, what string) error {
	const sequence = 0x30
	switch {
	case len(body) == 0:
		return fmt.Errorf("answered with nothing, not with %s", what)
	case body[0] != sequence:
		kind, _, _ := strings.Cut(http.DetectContentType(body), ";") // found in the bytes, not in a header: it is safe to log
		return fmt.Errorf("answered with %s, not with %s", kind, what)
	}
	return nil
}

// unmarshalAll reads a DER value with nothing behind it.
func unmarshalAll(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		return errors.New("there is something behind it")
	}
	return err
}

// hashAlgorithm is the hash by which an answer names an issuer. SHA-1 will do for that, and is what nearly every
// responder uses: the answer is signed, and nobody gains by an issuer whose name and key have the same hashes.
func hashAlgorithm(algorithm pkix.AlgorithmIdentifier) (hash crypto.Hash, ok bool) {
	switch algorithm.Algorithm.String() {
	case "1.3.14.3.2.26":
		return crypto.SHA1, true
	case "2.16.840.1.101.3.4.2.1":
		return crypto.SHA256, true
	case "2.16.840.1.101.3.4.2.2":
		return crypto.SHA384, true
	case "2.16.840.1.101.3.4.2.3":
		return crypto.SHA512, true
	}
	return 0, false
}

// signatureAlgorithm is what crypto/x509 calls the algorithm, for those that [certcheck.StrongSignature] lets pass.
// Parameters need no look beyond the hash of RSASSA-PSS: crypto/x509 verifies with the only ones that it knows, and
// with others the signature does not hold.
func signatureAlgorithm(algorithm pkix.AlgorithmIdentifier) x509.SignatureAlgorithm {
	switch algorithm.Algorithm.String() {
	case "1.2.840.113549.1.1.11":
		return x509.SHA256WithRSA
	case "1.2.840.113549.1.1.12":
		return x509.SHA384WithRSA
	case "1.2.840.113549.1.1.13":
		return x509.SHA512WithRSA
	case "1.2.840.10045.4.3.2":
		return x509.ECDSAWithSHA256
	case "1.2.840.10045.4.3.3":
		return x509.ECDSAWithSHA384
	case "1.2.840.10045.4.3.4":
		return x509.ECDSAWithSHA512
	case "1.2.840.113549.1.1.10": // RSASSA-PSS
		var pss struct {
			Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		}
		if _, err := asn1.Unmarshal(algorithm.Parameters.FullBytes, &pss); err != nil {
			return x509.UnknownSignatureAlgorithm
		}
		switch hash, _ := hashAlgorithm(pss.Hash); hash {
		case crypto.SHA256:
			return x509.SHA256WithRSAPSS
		case crypto.SHA384:
			return x509.SHA384WithRSAPSS
		case crypto.SHA512:
			return x509.SHA512WithRSAPSS
		default:
			return x509.UnknownSignatureAlgorithm
		}
	}
	return x509.UnknownSignatureAlgorithm
}

// publicKeyBits is the key alone, without its algorithm: what OCSP hashes to name an issuer or a responder.
func publicKeyBits(cert *x509.Certificate) []byte {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil // crypto/x509 has read it before
	}
	return info.Key.RightAlign()
}

func digest(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}
