package explain

import (
	"cmp"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"maps"
	"net/url"
	"regexp"
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
	doKeep          = "Show it to nobody, and to no program that does not sign with it. waybill assertion makes an assertion with it. " + doGiveAssertion
	doAskSigner     = "a server signed it, and clients verify it as they verify assertions; it gets nobody a token. " + doGiveAssertion
)

// answersByClaim are the JWTs that servers of the framework sign, by the claim that tells them.
var answersByClaim = map[string]string{
	"capabilities_info":  "an answer of GET /capabilities",
	"parties_info":       "an answer of a Participant Registry about parties",
	"party_info":         "an answer of a Participant Registry about a party",
	"trusted_list":       "an answer of GET /trusted_list of a Participant Registry",
	"dataspaces_info":    "an answer of a Participant Registry about data spaces",
	"capabilitiesInfo":   "an answer of GET /capabilities",
	"partiesInfo":        "an answer of a Participant Registry about parties",
	"partyInfo":          "an answer of a Participant Registry about a party",
	"trustedList":        "an answer of GET /trustedList of a Participant Registry",
	"dataspacesInfo":     "an answer of a Participant Registry about data spaces",
	"delegationEvidence": "delegation evidence of an Authorisation Registry",
}

// other names a text that is no assertion, or returns nil.
func other(text string) error {
	if err := otherBinary([]byte(text)); err != nil {
		return err
	}
	text = strings.TrimSpace(text)
	compact := strings.Join(strings.Fields(text), "")
	parts := strings.Split(compact, ".")
	named, sentence := rule.Described(text)
	switch header := object(parts[0]); {
	case pemBlock.MatchString(text):
		return otherPEM(text)
	case named != nil:
		return refusal(named, sentence)
	case strings.HasPrefix(text, "eyJ") && (strings.Contains(text, "...") || strings.Contains(text, "…")):
		return &OtherError{"this is not all of a JWT: dots stand for what was left out", doGiveAssertion}
	case strings.HasPrefix(text, "<"):
		return &OtherError{"this is XML or HTML, and there is no JWT in it", doGiveAssertion}
	case len(parts) == 5 && header != nil && header["enc"] != nil:
		return &OtherError{"this is an encrypted JWT (JWE, five parts), and a server of the framework gives such as opaque access tokens; it is no client assertion", doCheckToken}
	case len(parts) == 3 && header != nil:
		return otherJWT(header)
	case len(parts) == 1:
		if err := otherBinary(decodePart(compact)); err != nil {
			return err
		}
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

// otherBinary names DER in which keys and certificates come.
func otherBinary(der []byte) error {
	var value asn1.RawValue
	rest, err := asn1.Unmarshal(der, &value)
	if isOne := err == nil && len(rest) == 0 && value.Tag == asn1.TagSequence && value.Class == asn1.ClassUniversal; !isOne || len(der) < 16 {
		return nil
	}
	if cert, err := certparse.Parse(der); err == nil {
		return certificate(cert)
	}
	var version int
	_, err = asn1.Unmarshal(value.Bytes, &version)
	switch {
	case err == nil && version == 3:
		return &OtherError{"this is a PKCS#12 file, with a private key and its certificates", doKeep}
	case err == nil: // PKCS #1, PKCS #8 and SEC 1 begin with a number
		return &OtherError{"this is a private key", doKeep}
	}
	return &OtherError{"this is DER, of something else than one certificate", doGiveAssertion}
}

func certificate(cert *x509.Certificate) error {
	what := "this is a certificate, of " + Subject(cert)
	if ids := ishare.CertificateIDs(cert); len(ids) > 0 {
		what += fmt.Sprintf(", which names %s", ids[0])
	}
	return &OtherError{what, "Its place is in x5c, in the header of an assertion. " + doGiveAssertion}
}

var pemBlock = regexp.MustCompile(`-----BEGIN ([A-Z0-9 ]+)-----`)

// otherPEM names what is in a PEM file: a private key before all, wherever it stands.
func otherPEM(text string) error {
	label := pemBlock.FindStringSubmatch(text)[1]
	if strings.Contains(text, "PRIVATE KEY-----") {
		return &OtherError{"this is a private key", doKeep}
	}
	if block, _ := pem.Decode([]byte(text)); block != nil {
		if cert, err := certparse.Parse(block.Bytes); err == nil {
			return certificate(cert)
		}
	}
	if label != "CERTIFICATE" {
		return &OtherError{"this is a PEM file (" + label + ")", "Nothing of it is sent. " + doGiveAssertion}
	}
	return &OtherError{"this is a PEM file (" + label + ")", "Its place is in x5c, in the header of an assertion: waybill assertion --key … --certificates … makes one. " + doGiveAssertion}
}

// refusal is the answer of a server that named a rule.
func refusal(named *rule.Rule, sentence string) error {
	return &OtherError{
		fmt.Sprintf("this is the answer of a server that refused, by the rule %s: %s", named.ID, cmp.Or(sentence, named.Sentence)),
		named.Hint + " To see all that is wrong: " + strings.ToLower(doGiveAssertion[:1]) + doGiveAssertion[1:],
	}
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
			return refusal(named, sentence)
		}
		return &OtherError{fmt.Sprintf("this is the answer of a server that refused (%s), and it does not say by which rule", code), doGiveAssertion}
	case text("capabilities_token") != "":
		return &OtherError{"this is an answer of GET /capabilities", doAskSigner}
	case text("kty") != "" && text("d") != "":
		return &OtherError{"this is a private key (JWK)", doKeep}
	case text("kty") != "" || object["keys"] != nil:
		return &OtherError{"these are keys (JWK, RFC 7517), and a server of the framework takes a client's from x5c alone", doGiveAssertion}
	}
	return nil
}
