package assertion

import (
	"crypto/sha256"
	"encoding/hex"
)

// UnverifiedInfo is what could be read of an assertion, for the log. Nothing in it
// is proven unless the assertion was accepted, and none of it is secret. Fields
// that could not be read are empty.
type UnverifiedInfo struct {
	Issuer     string // iss, cut at 255 bytes
	Thumbprint string // SHA-256 of the first certificate in x5c, hex
	JTIHash    string // first 8 bytes of SHA-256 of iss, a zero byte and jti, hex
}

func (s *UnverifiedInfo) certificate(o *opened) { s.Thumbprint = o.thumbprint }

func (s *UnverifiedInfo) claims(c *claimSet) {
	iss, _ := text(c.Iss)
	s.Issuer = iss[:min(len(iss), 255)]
	if jti, ok := text(c.JTI); ok {
		sum := sha256.Sum256([]byte(iss + "\x00" + jti))
		s.JTIHash = hex.EncodeToString(sum[:8])
	}
}
