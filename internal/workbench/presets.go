package workbench

import (
	"slices"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// A Preset is a draft that is wrong in one way, or in the ways of a client that knows nothing of iSHARE.
type Preset struct {
	Name  string     // stable
	Rule  *rule.Rule // by which it must be refused; nil: it gets a token
	About string     // what is wrong

	party string // folder of the participant that it takes; empty: any
	edit  func(*Draft)
}

// Names of presets that are none of a rule.
const (
	PresetRight = "right"
	PresetNaive = "naive"
)

// Presets are all of them: the right one, the naive one, and the others in the order of the catalogue.
func (w *Workbench) Presets() []Preset { return slices.Clone(w.presets) }

// Preset is the draft of a preset for a participant, or for the one that the preset takes. The right one stands for a preset
// that there is not.
func (w *Workbench) Preset(name, folder string) Draft {
	i := max(0, slices.IndexFunc(w.presets, func(p Preset) bool { return p.Name == name }))
	p := w.presets[i]
	if p.party != "" {
		folder = p.party
	}
	d := w.Draft(folder)
	p.edit(&d)
	return d
}

func (w *Workbench) makePresets(endpoint string) []Preset {
	presets := []Preset{
		{Name: PresetRight, About: "Nothing is wrong", edit: func(*Draft) {}},
		{Name: PresetNaive, Rule: rule.JWTHeaderParameter, About: "As a client sends it that knows OAuth, and nothing of iSHARE", edit: func(d *Draft) {
			d.Header = Fields{{"alg", `"RS256"`}, {"typ", `"JWT"`}, {"kid", `"my-key-1"`}}
			d.Claims.Set("aud", textOf(endpoint))
			d.Claims.Set("exp", "{now+3600}")
		}},
	}
	own := slices.Concat(requestPresets(), w.jwtPresets(), w.claimPresets(endpoint), chainPresets(), partyPresets())
	order := rule.All()
	slices.SortStableFunc(own, func(a, b Preset) int { return slices.Index(order, a.Rule) - slices.Index(order, b.Rule) })
	return append(presets, own...)
}

// header and claim make the edit of one field.
func header(name, value string) func(*Draft) { return func(d *Draft) { d.Header.Set(name, value) } }
func claim(name, value string) func(*Draft)  { return func(d *Draft) { d.Claims.Set(name, value) } }

func withoutHeader(name string) func(*Draft) { return func(d *Draft) { d.Header.Delete(name) } }
func withoutClaim(name string) func(*Draft)  { return func(d *Draft) { d.Claims.Delete(name) } }

func signedBy(name string) func(*Draft) { return func(d *Draft) { d.Signer = name } }
func changed(name string) func(*Draft)  { return func(d *Draft) { d.Change = name } }

func parameter(name, value string) func(*Draft) {
	return func(d *Draft) { d.Form.Set(name, value) }
}

func oneMore(name, value string) func(*Draft) {
	return func(d *Draft) { d.Form = append(d.Form, Field{name, value}) }
}

func withoutParameter(name string) func(*Draft) {
	return func(d *Draft) { d.Form.Delete(name) }
}

// times sets iat and exp.
func times(iat, exp string) func(*Draft) {
	return func(d *Draft) {
		d.Claims.Set("iat", iat)
		d.Claims.Set("exp", exp)
	}
}

func requestPresets() []Preset {
	sent := func(reason *rule.Rule, way, about string) Preset {
		return Preset{Name: "sent-" + way, Rule: reason, About: about, edit: func(d *Draft) { d.Way = way }}
	}
	return []Preset{
		sent(rule.RequestMethod, wayGet, "The parameters are in the URL of a GET"),
		sent(rule.RequestMediaType, wayJSON, "The parameters are sent as JSON"),
		sent(rule.RequestSize, wayLarge, "The body is larger than 64 KiB"),
		sent(rule.RequestMalformed, wayBroken, "A percent sign in the form stands for nothing"),
		{Name: "scope-twice", Rule: rule.RequestDuplicateParameter, About: "scope is sent twice", edit: oneMore("scope", ishare.ScopeISHARE)},
		{Name: "scope-missing", Rule: rule.RequestMissingParameter, About: "scope is missing", edit: withoutParameter("scope")},
		{Name: "assertion-missing", Rule: rule.RequestMissingParameter, About: "client_assertion is missing", edit: withoutParameter("client_assertion")},
		{Name: "grant-type", Rule: rule.RequestGrantType, About: "grant_type is authorization_code", edit: parameter("grant_type", "authorization_code")},
		{Name: "scope", Rule: rule.RequestScope, About: "The scope is written in small letters", edit: parameter("scope", "ishare")},
		{Name: "client-id", Rule: rule.RequestClientID, About: "client_id is a URL", edit: parameter("client_id", "https://consumer.example/")},
		{Name: "assertion-type", Rule: rule.RequestAssertionType, About: "client_assertion_type is that of SAML", edit: parameter(
			"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
		)},
		{Name: "secret", Rule: rule.RequestClientAuthentication, About: "A client_secret is sent as well", edit: oneMore("client_secret", "secret")},
	}
}

func (w *Workbench) jwtPresets() []Preset {
	return []Preset{
		{Name: "padded", Rule: rule.JWTCompact, About: "The signature is padded, as standard base64 is", edit: changed(changePadded)},
		{Name: "line-break", Rule: rule.JWTCompact, About: "A line break follows, as when it was read from a file", edit: changed(changeLine)},
		{Name: "unsigned", Rule: rule.JWTCompact, About: "The signature is left out", edit: signedBy(signerNobody)},
		{Name: "header-twice", Rule: rule.JWTHeader, About: "alg stands in the header twice", edit: func(d *Draft) {
			d.Header = append(d.Header, Field{"alg", `"none"`})
		}},
		{Name: "header-no-json", Rule: rule.JWTHeader, About: "A text in the header has no quotes", edit: header("typ", "JWT")},
		{Name: "alg-none", Rule: rule.JWTAlg, About: "alg is none", edit: header("alg", `"none"`)},
		{Name: "alg-hs256", Rule: rule.JWTAlg, About: "alg is HS256, and the secret is the public key, which everybody knows", edit: func(d *Draft) {
			d.Header.Set("alg", `"HS256"`)
			d.Signer = signerHMAC
		}},
		{Name: "alg-ps256", Rule: rule.JWTAlg, About: "alg is PS256", edit: header("alg", `"PS256"`)},
		{Name: "typ-missing", Rule: rule.JWTTyp, About: "typ is missing", edit: withoutHeader("typ")},
		{Name: "typ-access-token", Rule: rule.JWTTyp, About: "typ is that of access tokens", edit: header("typ", `"at+jwt"`)},
		{Name: "kid", Rule: rule.JWTHeaderParameter, About: "kid names the key, as many libraries do", edit: header("kid", `"my-key-1"`)},
		{Name: "jku", Rule: rule.JWTHeaderParameter, About: "jku says where to fetch the key", edit: header("jku", `"https://attacker.example/keys"`)},
		{Name: "x5c-missing", Rule: rule.JWTX5C, About: "x5c is missing", edit: withoutHeader("x5c")},
		{Name: "x5c-text", Rule: rule.JWTX5C, About: "x5c is one text, not an array", edit: header("x5c", `"{x5c 0}"`)},
		{Name: "x5c-pem", Rule: rule.JWTX5C, About: "x5c holds PEM texts", edit: header("x5c", `["{pem 0}", "{pem 1}", "{pem 2}", "{pem 3}"]`)},
		{Name: "payload-twice", Rule: rule.JWTPayload, About: "sub stands in the payload twice", edit: func(d *Draft) {
			d.Claims = append(Fields{{"sub", textOf(string(w.provider.ID))}}, d.Claims...)
		}},
		{Name: "payload-no-json", Rule: rule.JWTPayload, About: "A text in the payload has no quotes", edit: claim("jti", "{uuid}")},
		{Name: "signed-by-another", Rule: rule.JWTSignature, About: "Somebody else has signed", edit: signedBy(signerOther)},
		{Name: "signed-by-issuer", Rule: rule.JWTSignature, About: "The issuing CA has signed, not the seal", edit: signedBy(signerIssuer)},
		{Name: "one-bit", Rule: rule.JWTSignature, About: "The signature is wrong in one bit", edit: changed(changeBit)},
		{Name: "changed-after", Rule: rule.JWTSignature, About: "A claim was added after signing", edit: changed(changeClaims)},
	}
}

func (w *Workbench) claimPresets(endpoint string) []Preset {
	other := textOf(string(w.parties[len(w.parties)-1].ID))
	provider := textOf(string(w.provider.ID))
	return []Preset{
		{Name: "iss-missing", Rule: rule.ClaimIss, About: "iss is missing", edit: withoutClaim("iss")},
		{Name: "iss-another", Rule: rule.ClaimIss, About: "iss and sub are another participant than client_id", edit: func(d *Draft) {
			d.Claims.Set("iss", other)
			d.Claims.Set("sub", other)
		}},
		{Name: "sub-another", Rule: rule.ClaimSub, About: "sub is another participant than iss", edit: claim("sub", other)},
		{Name: "sub-missing", Rule: rule.ClaimSub, About: "sub is missing", edit: withoutClaim("sub")},
		{Name: "aud-url", Rule: rule.ClaimAud, About: "aud is the URL of the token endpoint, as OAuth has it", edit: claim("aud", textOf(endpoint))},
		{Name: "aud-array", Rule: rule.ClaimAud, About: "aud is an array, with the right identifier in it", edit: claim("aud", "["+provider+"]")},
		{Name: "aud-another", Rule: rule.ClaimAud, About: "aud is another participant", edit: claim("aud", other)},
		{Name: "jti-missing", Rule: rule.ClaimJTI, About: "jti is missing", edit: withoutClaim("jti")},
		{Name: "jti-number", Rule: rule.ClaimJTI, About: "jti is a number", edit: claim("jti", "42")},
		{Name: "iat-missing", Rule: rule.ClaimIat, About: "iat is missing", edit: withoutClaim("iat")},
		{Name: "iat-milliseconds", Rule: rule.ClaimIat, About: "iat and exp are in milliseconds, as JavaScript has the time", edit: times("{now}000", "{now+30}000")},
		{Name: "iat-text", Rule: rule.ClaimIat, About: "iat is a text", edit: claim("iat", `"{now}"`)},
		{Name: "iat-future", Rule: rule.ClaimIat, About: "The client's clock is two minutes ahead", edit: times("{now+120}", "{now+150}")},
		{Name: "exp-past", Rule: rule.ClaimExp, About: "The assertion expired two minutes ago", edit: times("{now-150}", "{now-120}")},
		{Name: "exp-missing", Rule: rule.ClaimExp, About: "exp is missing", edit: withoutClaim("exp")},
		{Name: "lifetime-hour", Rule: rule.ClaimLifetime, About: "It lives for an hour", edit: claim("exp", "{now+3600}")},
		{Name: "lifetime-minute", Rule: rule.ClaimLifetime, About: "It lives for a minute", edit: claim("exp", "{now+60}")},
		{Name: "nbf-future", Rule: rule.ClaimNbf, About: "nbf is two minutes ahead", edit: claim("nbf", "{now+120}")},
		{Name: "replayed", Rule: rule.JTIReplayed, About: "The same assertion is sent twice", edit: func(d *Draft) { d.Twice = true }},
	}
}

func chainPresets() []Preset {
	with := func(reason *rule.Rule, chain, about string) Preset {
		return Preset{Name: "chain-" + chain, Rule: reason, About: about, edit: func(d *Draft) { d.Chain = chain }}
	}
	return []Preset{
		with(rule.CertificateKey, chainShort, "The seal's key has 1024 bits"),
		with(rule.CertificateValidity, chainExpired, "The seal expired an hour ago"),
		with(rule.CertificateValidity, chainFuture, "The seal is valid from an hour from now"),
		with(rule.CertificateUsage, chainEncipherment, "The seal is for encipherment, not for signing"),
		with(rule.CertificateUsage, chainCA, "The seal is a CA"),
		with(rule.CertificateUsage, chainReversed, "The chain begins with the root"),
		with(rule.ChainOrder, chainExchanged, "Two CAs are exchanged"),
		with(rule.ChainOrder, chainGap, "A CA is left out"),
		with(rule.ChainIssuer, chainBySeal, "Another participant's seal has issued the seal"),
		with(rule.ChainIssuer, chainNoCA, "The issuing CA says that it is none"),
		with(rule.ChainUntrusted, chainLeaf, "The seal alone is sent"),
		with(rule.ChainUntrusted, chainRootless, "The root, which the server trusts, is left out"),
		with(rule.ChainUntrusted, chainStrange, "A CA with the same names issued the seal, and nobody trusts it"),
		with(rule.ChainUntrusted, chainSelfSigned, "The seal is signed with its own key"),
		with(rule.PartyCertificate, chainRenewed, "A newer seal, which is not registered"),
		with(rule.PartyCertificate, chainOther, "The seal of another participant"),
	}
}

func partyPresets() []Preset {
	of := func(reason *rule.Rule, folder, about string) Preset {
		return Preset{Name: folder, Rule: reason, About: about, party: folder, edit: func(*Draft) {}}
	}
	return []Preset{
		of(rule.PartyUnknown, "unknown-consumer", "The registry does not know the consumer"),
		of(rule.PartyNotActive, "former-consumer", "The consumer's compliance has ended"),
		of(rule.PartyNotActive, "suspended-consumer", "The consumer is suspended"),
		of(rule.PartyCertificate, "replaced-consumer", "The registry has a newer certificate of the consumer"),
		of(rule.PartyPolicy, "roleless-consumer", "The consumer lacks the role that the server demands"),
		of(rule.CertificateRevoked, "revoked-consumer", "The consumer's certificate is revoked"),
		of(rule.ChainUntrusted, "untrusted-consumer", "The consumer's CA is not granted"),
	}
}
