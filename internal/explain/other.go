package explain

import (
	"crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/internal/certparse"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// What to do with things that are no assertion.
const (
	doGiveAssertion = "Give the assertion that you sent as client_assertion: three parts with dots between them, the first begins with eyJ."
	doCheckToken    = "waybill explain --token --config waybill.yaml judges an access token, with the configuration of the server that gave it. " + doGiveAssertion
	doAskSigner     = "a server signed it, and clients verify it as they verify assertions; it gets nobody a token. " + doGiveAssertion
)

// answersByClaim are the JWTs that servers of the framework sign, by the claim that tells them.
var answersByClaim = map[string]string{
	"capabilities_info":  "an answer of GET /capabilities",
	"parties_info":       "an answer of a Participant Registry about parties",
	"party_info":         "an answer of a Participant Registry about a party",
	"trusted_list":       "an answer of GET /trusted_list of a Participant Registry",
	"dataspaces_info":    "an answer of a Participant Registry about data spaces",
	"delegationEvidence": "delegation evidence of an Authorisation Registry",
}

// other names a text that is no assertion, or returns nil.
func other(text string) error {
	compact := strings.Join(strings.Fields(text), "")
	parts := strings.Split(compact, ".")
	switch header := object(parts[0]); {
	case len(parts) == 5 && header != nil && header["enc"] != nil:
		return &OtherError{"this is an encrypted JWT (JWE, five parts), and a server of the framework gives such as opaque access tokens; it is no client assertion", doCheckToken}
	case len(parts) == 3 && header != nil:
		return otherJWT(header)
	case len(parts) == 1:
		return otherBinary(compact)
	}
	if id, err := ishare.ParsePartyID(text); err == nil {
		return &OtherError{fmt.Sprintf("this is a party identifier, %s", id), doGiveAssertion}
	}
	if u, err := url.Parse(text); err == nil && u.Host != "" {
		return &OtherError{"this is a URL", "waybill probe tests the token endpoint of a server. " + doGiveAssertion}
	}
	return nil
}

func otherJWT(header map[string]any) error {
	typ, _ := header["typ"].(string)
	if strings.EqualFold(strings.TrimPrefix(strings.ToLower(typ), "application/"), "at+jwt") && header["x5c"] == nil {
		return &OtherError{"this is an access token (RFC 9068, typ at+jwt), which a server gave, and no client assertion", doCheckToken}
	}
	return nil
}

// answerOf names a JWT that a server of the framework signs, which is judged all the same; or is empty.
func answerOf(compact string) string {
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return ""
	}
	claims := object(parts[1])
	for _, claim := range slices.Sorted(maps.Keys(answersByClaim)) {
		if claims[claim] != nil {
			return fmt.Sprintf("this is %s, a JWT with the claim %s, and no client assertion: %s", answersByClaim[claim], claim, doAskSigner)
		}
	}
	return ""
}

// otherBinary names what is base64 of something that keys and certificates come in.
func otherBinary(compact string) error {
	der := decodePart(compact)
	if len(der) < 16 {
		return nil
	}
	_, pkcs8 := x509.ParsePKCS8PrivateKey(der)
	_, pkcs1 := x509.ParsePKCS1PrivateKey(der)
	cert, neither := certparse.Parse(der)
	switch {
	case pkcs8 == nil || pkcs1 == nil:
		return pem("PRIVATE KEY")
	case neither == nil:
		return certificate(cert)
	}
	return nil
}

func certificate(cert *x509.Certificate) error {
	what := "this is a certificate, of " + Subject(cert)
	if ids := ishare.CertificateIDs(cert); len(ids) > 0 {
		what += fmt.Sprintf(", which names %s", ids[0])
	}
	return &OtherError{what, "Its place is in x5c, in the header of an assertion. " + doGiveAssertion}
}

// pem names a block of PEM by its label.
func pem(label string) error {
	if strings.Contains(label, "PRIVATE KEY") {
		return &OtherError{"this is a private key", "Show it to nobody, and to no program that does not sign with it. waybill assertion makes an assertion with it. " + doGiveAssertion}
	}
	return &OtherError{"this is a PEM file (" + label + ")", "Its place is in x5c, in the header of an assertion: waybill assertion --key … --certificates … makes one. " + doGiveAssertion}
}

// otherObject names what a server answers, or returns nil.
func otherObject(object map[string]any) error {
	text := func(name string) string {
		s, _ := object[name].(string)
		return s
	}
	switch code, description := text("error"), text("error_description"); {
	case text("access_token") != "":
		return &OtherError{"this is the answer of a token endpoint, with an access token in it: the assertion was accepted", doCheckToken}
	case code != "":
		if named, sentence := rule.Described(description); named != nil {
			return &OtherError{
				fmt.Sprintf("this is the answer of a server that refused, by the rule %s: %s", named.ID, sentence),
				named.Hint + " To see all that is wrong: " + strings.ToLower(doGiveAssertion[:1]) + doGiveAssertion[1:],
			}
		}
		return &OtherError{fmt.Sprintf("this is the answer of a server that refused (%s), and it does not say by which rule", code), doGiveAssertion}
	case text("capabilities_token") != "":
		return &OtherError{"this is an answer of GET /capabilities", doAskSigner}
	}
	return nil
}
