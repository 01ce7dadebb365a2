package assertion

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
)

func (w *walk) decodeHeader(context.Context) (err error) {
	if w.token == nil {
		return errSkipped
	}
	w.rawHeader, err = w.token.Header()
	switch {
	case errors.Is(err, jws.ErrCompact):
		return flawed(rule.JWTCompact, "client_assertion is not a compact JWT: ", err)
	case err != nil:
		return flawed(rule.JWTHeader, "", err)
	}
	return nil
}

// headerInput is what the rules about the header judge.
type headerInput struct {
	*jws.Header

	algorithm  jws.Algorithm // empty when alg names none that is accepted
	allowExtra bool
}

var headerChecks = []rule.Check[headerInput]{
	{Rule: rule.JWTAlg, Apply: algIsRSA},
	{Rule: rule.JWTTyp, Apply: typIsJWT},
	{Rule: rule.JWTHeaderParameter, Apply: headerHoldsNothingElse},
}

func (w *walk) checkHeader(context.Context) error {
	if w.rawHeader == nil {
		return errSkipped
	}
	input := headerInput{Header: w.rawHeader, allowExtra: w.v.config.AllowExtraHeader}
	if name, ok := w.rawHeader.Text("alg"); ok {
		input.algorithm, _ = jws.ParseAlgorithm(name) // the check says why there is none
	}
	err := rule.Evaluate(w.trace, input, headerChecks)
	if err == nil || w.trace != nil { // an explanation goes on with what can be used
		w.algorithm = input.algorithm
	}
	return err
}

// decodeCertificates: rule jwt.x5c. It comes after the other parameters, because it costs more than all of them.
func (w *walk) decodeCertificates(context.Context) error {
	if w.rawHeader == nil {
		return errSkipped
	}
	var known func(der []byte) *x509.Certificate
	if w.v.config.Trust != nil {
		known = w.v.config.Trust.Issuer
	}
	certificates, err := w.rawHeader.Certificates(known)
	if err != nil {
		return flawed(rule.JWTX5C, "", err)
	}
	w.certificates = certificates
	w.info.Thumbprint = ishare.Thumbprint(certificates[0].Raw)
	return nil
}

func algIsRSA(in headerInput) *rule.Rejection {
	name, rejection := in.textOf(rule.JWTAlg, "alg")
	if rejection == nil && in.algorithm == "" {
		return rule.JWTAlg.Because("alg is %s, not RS256, RS384 or RS512", rule.Quote(name)).WithHint("%s", algHint(name))
	}
	return rejection
}

// algHint says what to do in place of another algorithm of RFC 7518.
func algHint(name string) string {
	const hint = "Sign with RS256 and the RSA key of your seal."
	switch upper := strings.ToUpper(name); {
	case strings.HasPrefix(upper, "RS") && upper != name:
		return "Write " + upper[:min(len(upper), 5)] + " in capitals: alg is compared with regard to case."
	case strings.HasPrefix(upper, "PS"):
		return hint + " PS256, PS384 and PS512 use the same key, with another padding (RSASSA-PSS), and are not accepted."
	case strings.HasPrefix(upper, "ES"), strings.HasPrefix(upper, "ED"):
		return hint + " This one takes a key on an elliptic curve, and no seal of iSHARE has one."
	case strings.HasPrefix(upper, "HS"):
		return hint + " An HMAC takes a secret that both sides know, and there is none."
	case upper == "NONE":
		return hint + " An assertion that is not signed proves nothing."
	}
	return hint
}

// textOf refuses a parameter that is missing or not a string.
func (in headerInput) textOf(reason *rule.Rule, name string) (string, *rule.Rejection) {
	text, ok := in.Text(name)
	switch {
	case ok:
		return text, nil
	case in.Has(name):
		return "", reason.Because("%s is not a string", name)
	}
	for _, other := range in.Others() {
		if strings.EqualFold(other, name) {
			return "", reason.Because("%s is missing; the header holds %s, which is another name", name, rule.Quote(other)).
				WithHint("Write the name %s in small letters.", name)
		}
	}
	return "", reason.Because("%s is missing", name)
}

func typIsJWT(in headerInput) *rule.Rejection {
	typ, rejection := in.textOf(rule.JWTTyp, "typ")
	switch {
	case rejection != nil:
		return rejection
	case strings.EqualFold(typ, "JWT"):
		return nil
	case strings.EqualFold(strings.TrimPrefix(strings.ToLower(typ), "application/"), "at+jwt"):
		return rule.JWTTyp.Because("typ is %s, not JWT", rule.Quote(typ)).
			WithHint("Set typ to JWT. This is the type of an access token (RFC 9068): make sure that client_assertion is your own assertion, and not a token.")
	}
	return rule.JWTTyp.Because("typ is %s, not JWT", rule.Quote(typ)).WithHint("Set typ to JWT in the header.")
}

// dangerous header parameters change what is verified or name another key. No setting lets them pass.
var dangerous = []string{"crit", "jwk", "jku", "x5u", "b64"}

func headerHoldsNothingElse(in headerInput) *rule.Rejection {
	others := slices.DeleteFunc(in.Others("alg", "typ", "x5c"), func(name string) bool {
		return in.allowExtra && !slices.Contains(dangerous, name)
	})
	if len(others) == 0 {
		return nil
	}
	shown := make([]string, 0, maxShown+1)
	for i, name := range others {
		if i == maxShown {
			shown = append(shown, fmt.Sprintf("%d more", len(others)-maxShown))
			break
		}
		shown = append(shown, strings.Trim(rule.Quote(name), "'"))
	}
	return rule.JWTHeaderParameter.Because("the header holds %s besides alg, typ and x5c", strings.Join(shown, " and ")).
		WithHint("%s", extraHint(others[0]))
}

func extraHint(name string) string {
	switch name {
	case "kid", "x5t", "x5t#S256":
		return "Leave " + name + " out: libraries add it by themselves when the key has an identifier. Take the identifier off the key, or remove the parameter before signing."
	case "jwk", "jku", "x5u":
		return "Leave " + name + " out: the key is that of the first certificate of x5c, and no other."
	case "crit", "b64", "zip", "enc", "cty":
		return "Leave " + name + " out: an assertion of iSHARE is a plain signed JWT."
	case "iss", "sub", "aud", "exp", "iat", "jti", "nbf":
		return "Put " + name + " into the payload, where claims stand, and not into the header."
	}
	return "Remove the parameter: the header holds alg, typ and x5c and nothing else."
}
