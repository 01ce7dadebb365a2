package rule

// Error codes of RFC 6749 section 5.2, and the two that the framework's practice adds for a server that cannot decide.
const (
	CodeInvalidRequest         = "invalid_request"
	CodeInvalidClient          = "invalid_client"
	CodeInvalidScope           = "invalid_scope"
	CodeUnsupportedGrantType   = "unsupported_grant_type"
	CodeTemporarilyUnavailable = "temporarily_unavailable"
	CodeServerError            = "server_error"
)

// A Rule is one reason to refuse a token request. Its ID is the same in the error_description, the log, `waybill explain`
// and docs/rules.md. Rules are constants in all but name: nothing changes them after start.
type Rule struct {
	ID       string // group.name, stable
	Title    string // what the rule asks, in a few words
	Spec     string // what the specification says, and where
	Code     string // OAuth error code (RFC 6749 section 5.2)
	Status   int    // HTTP status; a number, as no transport is known here
	Sentence string // what is wrong, for the caller
	Hint     string // how to mend it, for the caller
}

// All is the catalogue in the order of evaluation: cheap before dear, local
// before remote, and nothing remembered before everything else holds.
func All() []*Rule {
	return []*Rule{
		RequestMethod, RequestMediaType, RequestSize, RequestMalformed, RequestDuplicateParameter,
		RequestMissingParameter, RequestGrantType, RequestScope, RequestClientID, RequestAssertionType,
		RequestClientAuthentication,
		JWTCompact, JWTHeader, JWTAlg, JWTTyp, JWTHeaderParameter, JWTX5C, JWTPayload,
		ClaimIss, ClaimSub, ClaimAud, ClaimJTI, ClaimIat, ClaimExp, ClaimLifetime, ClaimNbf,
		CertificateKey, CertificateValidity, CertificateUsage, ChainOrder, ChainIssuer, ChainUntrusted,
		JWTSignature,
		PartyUnknown, PartyNotActive, PartyCertificate, PartyPolicy, CertificateRevoked, JTIReplayed,
	}
}

// Outages lists the reasons for which no decision could be made. They are no fault of the caller, so no rule of theirs.
func Outages() []*Rule {
	return []*Rule{UnavailableRegistry, UnavailableRevocation, UnavailableState, UnavailableOverload, Limited, Internal}
}

// The rules about the HTTP request.
var (
	RequestMethod = &Rule{
		ID: "request.method", Title: "The method is POST",
		Spec: "iSHARE 3.0, access token: GET is disabled; RFC 6749 section 3.2",
		Code: CodeInvalidRequest, Status: 405,
		Sentence: "the token endpoint answers POST only",
		Hint:     "Send the parameters in the body of a POST.",
	}
	RequestMediaType = &Rule{
		ID: "request.media-type", Title: "The body is a form",
		Spec: "iSHARE 3.0, access token: application/x-www-form-urlencoded; RFC 6749 section 4.4.2",
		Code: CodeInvalidRequest, Status: 400,
		Sentence: "the content type is not application/x-www-form-urlencoded",
		Hint:     "Set Content-Type: application/x-www-form-urlencoded and send the parameters as a form, not as JSON or multipart.",
	}
	RequestSize = &Rule{
		ID: "request.size", Title: "The body is at most 64 KiB",
		Spec: "Waybill: a limit, so that a stranger cannot fill memory",
		Code: CodeInvalidRequest, Status: 413,
		Sentence: "the body is larger than 64 KiB",
		Hint:     "Send the five parameters only; an assertion with four certificates takes about 12 KiB.",
	}
	RequestMalformed = &Rule{
		ID: "request.malformed", Title: "The body is a well-formed form",
		Spec: "RFC 6749 appendix B: UTF-8, percent-encoded",
		Code: CodeInvalidRequest, Status: 400,
		Sentence: "the body is not a well-formed form in UTF-8",
		Hint:     "Let an HTTP library encode the form: in names and values, a plus sign, a percent sign, an ampersand and an equals sign must be percent-encoded.",
	}
	RequestDuplicateParameter = &Rule{
		ID: "request.duplicate-parameter", Title: "No parameter occurs twice",
		Spec: "RFC 6749 section 3.2: parameters must not be included more than once",
		Code: CodeInvalidRequest, Status: 400,
		Sentence: "a parameter occurs more than once",
		Hint:     "Send each parameter once; several scope values go into one parameter, separated by spaces.",
	}
	RequestMissingParameter = &Rule{
		ID: "request.missing-parameter", Title: "All five parameters are present",
		Spec: "iSHARE 3.0, access token: grant_type, scope, client_id, client_assertion_type, client_assertion",
		Code: CodeInvalidRequest, Status: 400,
		Sentence: "a required parameter is missing or empty",
		Hint:     "Send grant_type, scope, client_id, client_assertion_type and client_assertion in the body, not in the URL.",
	}
	RequestGrantType = &Rule{
		ID: "request.grant-type", Title: "grant_type is client_credentials",
		Spec: "iSHARE 3.0, access token; RFC 6749 section 4.4.2",
		Code: CodeUnsupportedGrantType, Status: 400,
		Sentence: "grant_type is not client_credentials",
		Hint:     "Set grant_type=client_credentials; it is compared with regard to case.",
	}
	RequestScope = &Rule{
		ID: "request.scope", Title: "scope holds iSHARE and only known values",
		Spec: "iSHARE 3.0, access token: a case-sensitive, space-separated list that contains iSHARE; RFC 6749 section 3.3",
		Code: CodeInvalidScope, Status: 400,
		Sentence: "the scope is not one that this server grants",
		Hint:     "Set scope=iSHARE (capitals matter), and add further values only if the server documents them.",
	}
	RequestClientID = &Rule{
		ID: "request.client-id", Title: "client_id is a party identifier",
		Spec: "iSHARE 3.0, access token: a valid party identifier of the client",
		Code: CodeInvalidRequest, Status: 400,
		Sentence: "client_id is not a party identifier",
		Hint:     "Use the identifier under which the Participant Registry knows you, such as did:ishare:EU.NL.NTRNL-10000000.",
	}
	RequestAssertionType = &Rule{
		ID: "request.assertion-type", Title: "client_assertion_type is the jwt-bearer URN",
		Spec: "iSHARE 3.0, access token; RFC 7523 section 2.2",
		Code: CodeInvalidRequest, Status: 400,
		Sentence: "client_assertion_type is not urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
		Hint:     "Set client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer.",
	}
	RequestClientAuthentication = &Rule{
		ID: "request.client-authentication", Title: "The assertion is the only authentication",
		Spec: "RFC 6749 section 2.3: no more than one authentication method in a request",
		Code: CodeInvalidRequest, Status: 400,
		Sentence: "the request authenticates the client in a second way",
		Hint:     "Leave out the Authorization header and client_secret: the assertion authenticates the client, and it alone.",
	}
)

// The rules about the client assertion as a signed object.
var (
	JWTCompact = &Rule{
		ID: "jwt.compact", Title: "The assertion is a compact JWS",
		Spec: "iSHARE 3.0, client assertion: JWS compact serialisation; RFC 7515 sections 2 and 7.1",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "client_assertion is not three parts of unpadded base64url",
		Hint:     "Send the assertion as the library returns it: header.payload.signature in base64url, without padding, white space or line breaks.",
	}
	JWTHeader = &Rule{
		ID: "jwt.header", Title: "The header is a strict JSON object",
		Spec: "RFC 7515 section 4: a JSON object in UTF-8 without duplicate names",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "the header is not a JSON object",
		Hint:     "The first part must decode to one JSON object in UTF-8, every name once, with nothing behind it.",
	}
	JWTAlg = &Rule{
		ID: "jwt.alg", Title: "alg is RS256, RS384 or RS512",
		Spec: "iSHARE 3.0, JWT header: RS256, RS384 or RS512 (2.x: RS256); RFC 7518 section 3.3",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "alg is not RS256, RS384 or RS512",
		Hint:     "Sign with RSASSA-PKCS1-v1_5; PS256, ES256, HS256 and none are not accepted.",
	}
	JWTTyp = &Rule{
		ID: "jwt.typ", Title: "typ is JWT",
		Spec: "iSHARE 3.0, JWT header: typ is JWT",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "typ is missing or not JWT",
		Hint:     "Set typ to JWT in the header; some libraries leave it out.",
	}
	JWTHeaderParameter = &Rule{
		ID: "jwt.header-parameter", Title: "The header holds nothing but alg, typ and x5c",
		Spec: "iSHARE 3.0, JWT header: no other header parameters",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "the header holds a parameter other than alg, typ and x5c",
		Hint:     "Remove the parameter: libraries add some by themselves, such as kid or x5t when a key has an identifier.",
	}
	JWTX5C = &Rule{
		ID: "jwt.x5c", Title: "x5c holds the certificates",
		Spec: "iSHARE 3.0, JWT header: the complete chain, leaf first; RFC 7515 section 4.1.6",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "x5c is not an array of certificates",
		Hint:     "Put the chain in x5c, leaf first, each entry standard base64 of the DER: the lines between BEGIN and END of a PEM file, joined.",
	}
	JWTPayload = &Rule{
		ID: "jwt.payload", Title: "The payload is a strict JSON object",
		Spec: "RFC 7519 section 7.2: a JSON object in UTF-8; names must be unique",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "the payload is not a JSON object",
		Hint:     "The second part must decode to one JSON object in UTF-8, every name once, with nothing behind it.",
	}
	JWTSignature = &Rule{
		ID: "jwt.signature", Title: "The leaf's key signed the assertion",
		Spec: "iSHARE 3.0, JWT: signed with the private key of the certificate in x5c; RFC 7515 section 5.2",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "the signature does not verify with the first certificate of x5c",
		Hint:     "Sign with the private key that belongs to the first certificate of x5c, with the algorithm that alg names.",
	}
)

// The rules about what the assertion claims.
var (
	ClaimIss = &Rule{
		ID: "claim.iss", Title: "iss is the client",
		Spec: "iSHARE 3.0, client assertion: iss is the client_id; RFC 7523 section 3",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "iss is missing or not the client_id of the request",
		Hint:     "Set iss to your party identifier, the same text as client_id.",
	}
	ClaimSub = &Rule{
		ID: "claim.sub", Title: "sub is iss",
		Spec: "iSHARE 3.0, client assertion: sub equals iss; RFC 7523 section 3",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "sub is missing or not the same as iss",
		Hint:     "Set sub to your party identifier, the same text as iss.",
	}
	ClaimAud = &Rule{
		ID: "claim.aud", Title: "aud is this server and nobody else",
		Spec: "iSHARE 3.0, client assertion: aud is only the server's party identifier; RFC 10070: a sole audience",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "aud is missing or not the party identifier of this server",
		Hint:     "Set aud to the party identifier of this server as one string: not an array, and not the URL of the endpoint.",
	}
	ClaimJTI = &Rule{
		ID: "claim.jti", Title: "jti is present",
		Spec: "iSHARE 3.0, client assertion: a unique identifier in every JWT; RFC 7519 section 4.1.7",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "jti is missing or not a string of 1 to 255 bytes",
		Hint:     "Set jti to a new random value, such as a UUID, in every assertion.",
	}
	ClaimIat = &Rule{
		ID: "claim.iat", Title: "iat is a time that has come",
		Spec: "iSHARE 3.0, client assertion: iat in UTC seconds; RFC 7519 section 4.1.6",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "iat is missing or not a time in the past",
		Hint:     "Set iat to the present time in seconds since 1970 as a JSON number, and keep the clock right (NTP).",
	}
	ClaimExp = &Rule{
		ID: "claim.exp", Title: "exp has not come",
		Spec: "iSHARE 3.0, client assertion: exp in UTC seconds; RFC 7519 section 4.1.4",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "exp is missing or in the past",
		Hint:     "Make a new assertion for every request, and keep the clock right (NTP).",
	}
	ClaimLifetime = &Rule{
		ID: "claim.lifetime", Title: "The assertion lives 30 seconds",
		Spec: "iSHARE 3.0, client assertion: exp is iat + 30 seconds",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "exp is not iat + 30 seconds",
		Hint:     "Set exp to exactly iat + 30.",
	}
	ClaimNbf = &Rule{
		ID: "claim.nbf", Title: "nbf, if present, has come",
		Spec: "RFC 7519 section 4.1.5: not to be accepted before nbf",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "nbf is not a time in the past",
		Hint:     "Leave nbf out, or set it to the same number as iat.",
	}
	JTIReplayed = &Rule{
		ID: "jti.replayed", Title: "The assertion is used once",
		Spec: "iSHARE 3.0, client assertion: a server shall not accept a JWT more than once; RFC 7523 section 3",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "an assertion with this jti was used before",
		Hint:     "Make a new assertion, with a new jti, for every request, retries included.",
	}
)

// The rules about the certificate and its chain.
var (
	CertificateKey = &Rule{
		ID: "certificate.key", Title: "Keys are RSA of 2048 to 8192 bits",
		Spec: "iSHARE 3.0, certificates: RSA of at least 2048 bits; no exponent that is unsafe and no key known to be weak (ROCA, CVE-2017-15361)",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "the certificate's key is not RSA of 2048 to 8192 bits",
		Hint:     "Use a seal with a new RSA key of 2048 bits or more and the exponent 65537; where the sentence names a CA's key, its CA must replace it.",
	}
	CertificateValidity = &Rule{
		ID: "certificate.validity", Title: "The certificates are valid now",
		Spec: "iSHARE 3.0, certificates: within the validity period; RFC 5280 section 6.1.3",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "a certificate is not valid at this time",
		Hint:     "Set the clock right, and renew the certificate that the sentence names; register a new seal with the Participant Registry.",
	}
	CertificateUsage = &Rule{
		ID: "certificate.usage", Title: "The leaf is a seal for signing",
		Spec: "iSHARE 3.0, certificates: an electronic seal; RFC 5280 sections 4.2.1.3 and 4.2.1.9",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "the first certificate is a CA or is not meant for signing",
		Hint:     "Put the seal itself first in x5c; it must be no CA, and its key usage must include digitalSignature or nonRepudiation. Ask your trust service provider for another one if it is not so.",
	}
	CertificateRevoked = &Rule{
		ID: "certificate.revoked", Title: "No certificate is revoked",
		Spec: "iSHARE 3.0, certificates: the receiver validates the certificate; RFC 6960, RFC 5280 section 6.3",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "a certificate of the chain is revoked",
		Hint:     "Ask your trust service provider for a new seal under CAs that are not revoked, and register it with the Participant Registry.",
	}
	ChainOrder = &Rule{
		ID: "chain.order", Title: "Each certificate is issued by the next",
		Spec: "RFC 7515 section 4.1.6: each following certificate certifies the one before",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "a certificate of x5c is not issued by the next one",
		Hint:     "Order x5c from the leaf up to the root, without gaps or strangers.",
	}
	ChainIssuer = &Rule{
		ID: "chain.issuer", Title: "Each issuer may issue",
		Spec: "RFC 5280 section 6.1: CA, keyCertSign where there is a key usage, path length, name and policy constraints; section 4.2: critical extensions that are processed",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "an issuer of the chain was not allowed to issue",
		Hint:     "Nothing in the request mends what the sentence names: the CA must issue other certificates, or you must use a seal of another one.",
	}
	ChainUntrusted = &Rule{
		ID: "chain.untrusted", Title: "The chain reaches a trusted CA",
		Spec: "iSHARE 3.0, trusted list: an issuer is listed, valid and granted",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "no issuer in x5c is on this server's trusted list",
		Hint:     "Send the complete chain up to the CA that this server trusts, and use a seal of a CA on the trusted list of its Participant Registry.",
	}
)

// The rules about the party.
var (
	PartyUnknown = &Rule{
		ID: "party.unknown", Title: "The client is a participant",
		Spec: "iSHARE 3.0, access token: the server looks the client up in the Participant Registry",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "the client is not known to this server's Participant Registry",
		Hint:     "Check client_id for a typing mistake, and your registration with the Participant Registry of this data space.",
	}
	PartyNotActive = &Rule{
		ID: "party.not-active", Title: "The client complies with the framework",
		Spec: "iSHARE 3.0, party: frameworkCompliance active and within its dates (2.x: adherence)",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "the client does not comply with the framework at this time",
		Hint:     "Ask your registrar to put your compliance in the Participant Registry right: active, with a start and an end date around today.",
	}
	PartyCertificate = &Rule{
		ID: "party.certificate", Title: "The certificate is registered for the client",
		Spec: "iSHARE 3.0, party: the certificate is compared with those in the party record",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "the certificate is not registered and active for the client",
		Hint:     "Register the seal that you sign with at the Participant Registry, active from today, or sign with the one that is registered.",
	}
	PartyPolicy = &Rule{
		ID: "party.policy", Title: "The client has what this server demands",
		Spec: "iSHARE 3.0, party: framework roles and data space memberships",
		Code: CodeInvalidClient, Status: 400,
		Sentence: "the client lacks a role or data space membership that this server demands",
		Hint:     "Ask the server's operator which role or membership is needed, and your registrar to add it.",
	}
)

// The faults: reasons for which no decision could be made.
var (
	UnavailableRegistry = &Rule{
		ID: "unavailable.registry", Title: "The Participant Registry is out of reach",
		Spec: "Waybill: fail closed",
		Code: CodeTemporarilyUnavailable, Status: 503,
		Sentence: "the Participant Registry is out of reach",
		Hint:     "Try again after the seconds in Retry-After with a new assertion.",
	}
	UnavailableRevocation = &Rule{
		ID: "unavailable.revocation", Title: "The revocation status is out of reach",
		Spec: "Waybill: fail closed",
		Code: CodeTemporarilyUnavailable, Status: 503,
		Sentence: "the revocation status of a certificate could not be found out",
		Hint:     "Try again after the seconds in Retry-After with a new assertion.",
	}
	UnavailableState = &Rule{
		ID: "unavailable.state", Title: "The replay memory is out of reach",
		Spec: "Waybill: fail closed",
		Code: CodeTemporarilyUnavailable, Status: 503,
		Sentence: "the server cannot tell yet whether the assertion was used before",
		Hint:     "Try again with a new assertion after the seconds in Retry-After.",
	}
	UnavailableOverload = &Rule{
		ID: "unavailable.overload", Title: "More requests than can be answered in time",
		Spec: "RFC 9110 section 15.6.4",
		Code: CodeTemporarilyUnavailable, Status: 503,
		Sentence: "the server has more requests in work than it can answer in time",
		Hint:     "Keep an access token until it expires, and try again with a new assertion after the seconds in Retry-After.",
	}
	Limited = &Rule{
		ID: "limited", Title: "Too many requests",
		Spec: "RFC 6585 section 4",
		Code: CodeTemporarilyUnavailable, Status: 429,
		Sentence: "too many requests",
		Hint:     "Keep an access token until it expires, and try again after the seconds in Retry-After.",
	}
	Internal = &Rule{
		ID: "internal", Title: "An error of the server's own",
		Spec: "RFC 6749 section 5.2 knows no such case; server_error as in section 4.1.2.1",
		Code: CodeServerError, Status: 500,
		Sentence: "an error of the server's own",
		Hint:     "Give the server's operator the correlation id.",
	}
)
