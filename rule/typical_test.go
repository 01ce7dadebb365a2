package rule_test

import "github.com/waybill-token/waybill/rule"

// A typical breach of a rule, for docs/rules.md. TestTypicalBreaches sends what is sent, and what is right.
type typical struct {
	refused string // exactly what is refused
	cause   string // how it comes about, most of the time
	// sent and right are the part of a request, a chain or a record in which the two differ. They are true at [moment].
	sent, right string
	answer      string // error_description of the answer to what is sent; … stands for what differs each time
	put         put
	attempt     string // where put is nil: the attempt of isharetest that does the same
}

// typicals has every rule of the catalogue.
func typicals() map[*rule.Rule]typical {
	return map[*rule.Rule]typical{
		rule.RequestMethod: {
			refused: "The method is another than POST, GET above all. It is compared with regard to case.",
			cause:   "The parameters are put into the URL and sent by GET, as a page is opened. Assertions would then stand in the logs of proxies.",
			sent:    "GET /connect/token?grant_type=client_credentials&scope=iSHARE&…",
			right:   "POST /connect/token",
			answer:  "request.method: this endpoint answers POST, not 'GET'", put: inMethod,
		},
		rule.RequestMediaType: {
			refused: "There is no `Content-Type`, several, or another one; parameters of the type such as `charset` do not matter. A compressed body is refused here as well.",
			cause:   "An HTTP library sends an object as JSON unless it is told to make a form of it (`json=` in place of `data=` in Python's requests, an object in axios).",
			sent:    "Content-Type: application/json",
			right:   "Content-Type: application/x-www-form-urlencoded",
			answer:  "request.media-type: the content type is 'application/json', not application/x-www-form-urlencoded", put: inHTTP,
		},
		rule.RequestSize: {
			refused: "The body has more than 65,536 bytes.",
			cause:   "`x5c` holds a whole bundle of CAs in place of the chain of the seal, or something else is sent along.",
			sent:    "Content-Length: 65537",
			right:   "Content-Length: 65536",
			answer:  "request.size: the body has 65537 bytes, more than 65536", put: inLength,
		},
		rule.RequestMalformed: {
			refused: "A percent sign begins no escape, a name or value is not UTF-8, there are more than 100 parameters, or the body ends before its Content-Length.",
			cause:   "The form is put together by hand, and a value holds a percent sign that is not encoded.",
			sent:    "state=100%",
			right:   "state=100%25",
			answer:  "request.malformed: the value of 'state' is not percent-encoded rightly", put: inForm,
		},
		rule.RequestDuplicateParameter: {
			refused: "A parameter has a value twice, also one that the server does not know; `resource` alone may (RFC 8707). Parameters without a value count as left out.",
			cause:   "Each scope value gets a parameter of its own, or a library adds `client_id` although the program has set it.",
			sent:    "scope=iSHARE&scope=orders",
			right:   "scope=iSHARE+orders",
			answer:  "request.duplicate-parameter: the parameter 'scope' occurs more than once", put: inForm,
		},
		rule.RequestMissingParameter: {
			refused: "One of the five is not in the body, or has no value. What stands in the URL does not count.",
			cause:   "A variable is not set; or an OAuth library leaves `client_id` out beside an assertion, which RFC 7521 section 4.2 allows and iSHARE does not.",
			sent:    "client_id=",
			right:   "client_id=did:ishare:EU.NL.NTRNL-10000001",
			answer:  "request.missing-parameter: the parameter client_id is missing or empty", put: inForm,
		},
		rule.RequestGrantType: {
			refused: "`grant_type` is another text than `client_credentials`.",
			cause:   "The grant of RFC 7523 section 2.1 is taken, where the JWT is the grant itself. In iSHARE it authenticates the client (section 2.2).",
			sent:    "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer",
			right:   "grant_type=client_credentials",
			answer:  "request.grant-type: grant_type is 'urn:ietf:params:oauth:grant-type:jwt-bearer', not client_credentials", put: inForm,
		},
		rule.RequestScope: {
			refused: "`iSHARE` is not among the values, a value is not one that this server grants, or the values are not separated by one blank each.",
			cause:   "The value is written in small letters, or several are separated by a comma.",
			sent:    "scope=ishare",
			right:   "scope=iSHARE",
			answer:  "request.scope: scope is 'ishare', which lacks iSHARE: it is written with a small i and capitals", put: inForm,
		},
		rule.RequestClientID: {
			refused: "`client_id` is not of the form method, colon, value; has other characters than letters, digits and `.-_:%+~@`; or has more than 255 bytes. `EU.EORI.…` needs no colon.",
			cause:   "The number in the trade register is taken, or the client identifier of another OAuth server.",
			sent:    "client_id=10000001",
			right:   "client_id=did:ishare:EU.NL.NTRNL-10000001",
			answer:  "request.client-id: client_id is '10000001', which is not a party identifier: want <method>:<value> or EU.EORI.<number>", put: inForm,
		},
		rule.RequestAssertionType: {
			refused: "`client_assertion_type` is another text.",
			cause:   "The URN of the grant type is taken, which looks alike; or a library encodes the colons twice.",
			sent:    "client_assertion_type=urn:ietf:params:oauth:grant-type:jwt-bearer",
			right:   "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
			answer:  "request.assertion-type: client_assertion_type is 'urn:ietf:params:oauth:grant-type:jwt-bearer', not urn:ietf:params:oauth:client-assertion-type:jwt-bearer", put: inForm,
		},
		rule.RequestClientAuthentication: {
			refused: "There is an `Authorization` header or a `client_secret`, with a value.",
			cause:   "A library adds Basic authentication as soon as it knows of a secret, or a gateway before the server puts its own token there.",
			sent:    "Authorization: Basic ZXhhbXBsZTpzZWNyZXQ=",
			right:   "(no such header field)",
			answer:  "request.client-authentication: the request carries HTTP Basic credentials besides the assertion", put: inHTTP,
		},

		rule.JWTCompact: {
			refused: "There are not three parts, or one of them is not base64url as its bytes are encoded in one way only: without padding, blanks, line breaks, and bits that encode nothing.",
			cause:   "The parts are encoded with the functions for standard base64, or the assertion comes from a file with its last line feed.",
			sent:    "client_assertion=eyJhbGciOi….eyJpc3MiOi….hQ1k0WJ5Uw==",
			right:   "client_assertion=eyJhbGciOi….eyJpc3MiOi….hQ1k0WJ5Uw",
			answer:  "jwt.compact: client_assertion is not a compact JWT: the signature holds the character = at its end", put: inSignature,
		},
		rule.JWTHeader: {
			refused: "The first part is not one JSON object in UTF-8 in which each name stands once, with nothing behind it.",
			cause:   "The header is glued together as text, so that a comma is left over, or a line break gets into a string.",
			sent:    `{"alg": "RS256", "typ": "JWT", "x5c": ["…"],}`,
			right:   `{"alg": "RS256", "typ": "JWT", "x5c": ["…"]}`,
			answer:  "jwt.header: the header is not JSON: what stands at byte … does not belong there", put: asHeader,
		},
		rule.JWTAlg: {
			refused: "`alg` is left out or is not one of the three, by its exact text. `none` and HS256 are refused with the rest.",
			cause:   "The key was made for RSA-PSS, or the library has a default of its own.",
			sent:    `"alg": "PS256"`,
			right:   `"alg": "RS256"`,
			answer:  "jwt.alg: alg is 'PS256', not RS256, RS384 or RS512", put: inHeader,
		},
		rule.JWTTyp: {
			refused: "`typ` is left out or is another text than `JWT`, in which case does not matter.",
			cause:   "Libraries leave `typ` out, or write the more exact type that newer profiles of OAuth ask for.",
			sent:    `"typ": "client-authentication+jwt"`,
			right:   `"typ": "JWT"`,
			answer:  "jwt.typ: typ is 'client-authentication+jwt', not JWT", put: inHeader,
		},
		rule.JWTHeaderParameter: {
			refused: "There is another parameter. `policy.extra_header_parameters: allow` lets unknown ones pass, and never `crit`, `jwk`, `jku`, `x5u` and `b64`, by which others have let strangers in.",
			cause:   "A library adds the identifier of the key (`kid`), or the thumbprint of the certificate (`x5t`), as those of .NET do.",
			sent:    `"kid": "2f9c51"`,
			right:   "(no such parameter)",
			answer:  "jwt.header-parameter: the header holds kid besides alg, typ and x5c", put: inHeader,
		},
		rule.JWTX5C: {
			refused: "`x5c` is left out, is not an array of 1 to 10 strings, or an entry is not the standard base64 of one certificate in DER, with padding and on one line.",
			cause:   "The PEM file is encoded as it is, in place of what stands between its BEGIN and END lines. Published examples of iSHARE 2.0 do so.",
			sent:    `"x5c": ["LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t…", …]`,
			right:   `"x5c": ["MII…", …]`,
			answer:  "jwt.x5c: x5c[0] is base64 of a PEM text; it must be base64 of the DER, which is what stands between the BEGIN and END lines", put: inFirstCertificate,
		},
		rule.JWTPayload: {
			refused: "The second part is not one JSON object in UTF-8 in which each name stands once, with nothing behind it. Of two values of one name, two programs may believe different ones.",
			cause:   "The program sets a claim that the library has set already.",
			sent:    `"exp": 1795456830, "exp": 1795456830`,
			right:   `"exp": 1795456830`,
			answer:  "jwt.payload: the payload holds the name 'exp' twice", put: inPayload,
		},

		rule.ClaimIss: {
			refused: "`iss` is left out, not a text, or not the `client_id` of the request, character for character.",
			cause:   "`iss` is the URL or the name of the program, as in tokens that a server issues.",
			sent:    `"iss": "https://consumer.example"`,
			right:   `"iss": "did:ishare:EU.NL.NTRNL-10000001"`,
			answer:  "claim.iss: iss is 'https://consumer.example', and client_id is 'did:ishare:EU.NL.NTRNL-10000001'", put: inPayload,
		},
		rule.ClaimSub: {
			refused: "`sub` is left out, not a text, or another one than `iss`.",
			cause:   "`sub` names a user or a service, as in tokens for people.",
			sent:    `"sub": "order-service"`,
			right:   `"sub": "did:ishare:EU.NL.NTRNL-10000001"`,
			answer:  "claim.sub: sub is 'order-service', and iss is 'did:ishare:EU.NL.NTRNL-10000001'", put: inPayload,
		},
		rule.ClaimAud: {
			refused: "`aud` is left out, an array (also of one), or not an identifier of this server: `party.id`, or one of `party.also_known_as`.",
			cause:   "OAuth libraries set the URL of the token endpoint or of the issuer, as OpenID Connect has it.",
			sent:    `"aud": "https://provider.example/connect/token"`,
			right:   `"aud": "did:ishare:EU.NL.NTRNL-10000000"`,
			answer:  "claim.aud: aud is 'https://provider.example/connect/token'; this server is did:ishare:EU.NL.NTRNL-10000000", put: inPayload,
		},
		rule.ClaimJTI: {
			refused: "`jti` is left out, empty, not a text, or longer than 255 bytes.",
			cause:   "`jti` is the number of a row, or a library leaves it out because RFC 7519 does not demand it.",
			sent:    `"jti": 42`,
			right:   `"jti": "9f0c6a52-6d0b-4b4e-8f57-0d6a3f1b2c4d"`,
			answer:  "claim.jti: jti is the number 42, not a string", put: inPayload,
		},
		rule.ClaimIat: {
			refused: "`iat` is left out, not a number, in milliseconds, or further in the future than `policy.leeway` (10 s).",
			cause:   "Milliseconds, as `Date.now()` and `System.currentTimeMillis()` give them; or a clock that is fast.",
			sent:    `"iat": 1795456800000, "exp": 1795456830000`,
			right:   `"iat": 1795456800, "exp": 1795456830`,
			answer:  "claim.iat: iat is in milliseconds (…); it must be in seconds", put: inPayload,
		},
		rule.ClaimExp: {
			refused: "`exp` is left out, not a number, in milliseconds, or further in the past than `policy.leeway` (10 s).",
			cause:   "An assertion is made once and kept, or the clock is slow. Here two minutes have passed.",
			sent:    `"iat": 1795456680, "exp": 1795456710`,
			right:   `"iat": 1795456800, "exp": 1795456830`,
			answer:  "claim.exp: the assertion expired … ago: exp says …, and here it is …", put: inPayload,
		},
		rule.ClaimLifetime: {
			refused: "`exp` is not `iat` and 30 seconds, to the millisecond. No leeway applies.",
			cause:   "A library has a default: a minute, five minutes, an hour.",
			sent:    `"iat": 1795456800, "exp": 1795460400`,
			right:   `"iat": 1795456800, "exp": 1795456830`,
			answer:  "claim.lifetime: exp is iat + 3600 seconds, and must be iat + 30", put: inPayload,
		},
		rule.ClaimNbf: {
			refused: "`nbf` is there, and is not a number, in milliseconds, or further in the future than `policy.leeway` (10 s).",
			cause:   "Local time is taken for UTC, or `nbf` comes from another clock than `iat`.",
			sent:    `"nbf": 1795460400`,
			right:   `"nbf": 1795456800`,
			answer:  "claim.nbf: nbf is … in the future: it says …, and here it is …", put: inPayload,
		},

		rule.CertificateKey: {
			refused: "The key of the seal is not RSA of 2048 to 8192 bits with an odd exponent of at least 65537, or has the structure of a faulty generator (ROCA). Keys of issuers may also be ECDSA, and never DSA.",
			cause:   "A certificate of another system is used: one with an elliptic curve, or an old one of 1024 bits.",
			sent:    "x5c[0]: Public Key Algorithm: id-ecPublicKey, ASN1 OID: prime256v1",
			right:   "x5c[0]: Public Key Algorithm: rsaEncryption, Public-Key: (2048 bit)",
			answer:  "certificate.key: the key of x5c[0] ('Test Consumer') is ECDSA, not RSA", attempt: "ECDSA",
		},
		rule.CertificateValidity: {
			refused: "A certificate of `x5c`, those above the trusted one included, is not valid yet or not any more. No leeway applies.",
			cause:   "The seal has run out, as each does after some years, and the program still has the old file.",
			sent:    "x5c[0]: Not After : Nov 23 17:00:00 2026 GMT (an hour ago)",
			right:   "x5c[0]: Not After : Nov 23 17:00:00 2029 GMT",
			answer:  "certificate.validity: x5c[0] ('Test Consumer') expired on …, … ago", attempt: "expired",
		},
		rule.CertificateUsage: {
			refused: "`x5c[0]` is a CA, has no key usage, or one with neither digitalSignature nor nonRepudiation.",
			cause:   "The file holds the chain from the root down; or a test certificate was made with `openssl req -x509`, which makes a CA unless told otherwise.",
			sent:    "x5c: root, sub CA, issuing CA, seal",
			right:   "x5c: seal, issuing CA, sub CA, root",
			answer:  "certificate.usage: x5c[0] ('Waybill Test Root CA'), the first certificate of x5c, is a CA; the seal itself comes first", put: inChain,
		},
		rule.ChainOrder: {
			refused: "A certificate names another issuer than the next one; or, below the trusted CA, it is not signed with the next one's key, or with SHA-1 or worse.",
			cause:   "A CA between is left out, or the CAs stand in the order in which they were downloaded.",
			sent:    "x5c: seal, issuing CA, root",
			right:   "x5c: seal, issuing CA, sub CA, root",
			answer:  "chain.order: x5c[1] ('Waybill Test Issuing CA') names another issuer than x5c[2] ('Waybill Test Root CA'): 'Waybill Test Sub CA'", put: inChain,
		},
		rule.ChainIssuer: {
			refused: "A certificate behind the first is no CA (basicConstraints), has a key usage without keyCertSign, is exceeded in its path length, or breaks name or policy constraints; or any certificate has a critical extension that is not processed.",
			cause:   "A CA for tests was made by hand, without extensions. An attack looks the same: a participant's seal that issues seals for others.",
			sent:    "x5c[1]: (no X509v3 Basic Constraints)",
			right:   "x5c[1]: X509v3 Basic Constraints: critical, CA:TRUE",
			answer:  "chain.issuer: x5c[1] ('Waybill Test Issuing CA') is not a CA: it has no basicConstraints", attempt: "no basic constraints",
		},
		rule.ChainUntrusted: {
			refused: "No certificate behind the first is one of `trust.anchors` or, with `trust.trusted_list`, on the registry's list as valid and granted. Fingerprints are compared, never names.",
			cause:   "`x5c` holds the seal alone, as libraries set it; or the seal is of a test CA and the server of production, or the other way round.",
			sent:    "x5c: seal",
			right:   "x5c: seal, issuing CA, sub CA, root",
			answer:  "chain.untrusted: x5c holds one certificate, that of x5c[0] ('Some Consumer'); the one of its issuer 'Waybill Test Issuing CA' is missing", put: inChain,
		},

		rule.JWTSignature: {
			refused: "The signature is not that of the key of `x5c[0]` over the first two parts, by the algorithm of `alg`. No other key is ever tried.",
			cause:   "The seal was renewed, and the key is still the old one; or `alg` says RS256 and the program hashes with SHA-512.",
			sent:    "signed with the key of seal-2023.pem, x5c[0] is seal-2026.pem",
			right:   "signed with the key of seal-2026.pem, x5c[0] is seal-2026.pem",
			answer:  "jwt.signature: the RS256 signature does not verify with the key of the first certificate of x5c", attempt: "another key",
		},

		rule.PartyUnknown: {
			refused: "The registry (or the file) says that there is no such participant. When it cannot be asked, that is `unavailable.registry`.",
			cause:   "A typing mistake, here a digit too few; or the party is registered in another data space, or under another identifier.",
			sent:    "client_id, iss and sub: did:ishare:EU.NL.NTRNL-1000001",
			right:   "client_id, iss and sub: did:ishare:EU.NL.NTRNL-10000001",
			answer:  "party.unknown: the client 'did:ishare:EU.NL.NTRNL-1000001' is not known to this server's Participant Registry", put: asParty,
		},
		rule.PartyNotActive: {
			refused: "The record has no `frameworkCompliance` with iSHARE that is active and within both its dates, or one that is suspended or revoked (2.x: `adherence`).",
			cause:   "The registration was for a year and was not renewed, or the registrar has suspended the party.",
			sent:    `registered: {"type": "frameworkCompliance", "frameworkId": "iSHARE", "status": "active", "startDate": "2025-11-01T00:00:00Z", "endDate": "2026-11-01T00:00:00Z"}`,
			right:   `registered: {"type": "frameworkCompliance", "frameworkId": "iSHARE", "status": "active", "startDate": "2025-11-01T00:00:00Z", "endDate": "2027-11-01T00:00:00Z"}`,
			answer:  "party.not-active: compliance ended on …", put: inRecord,
		},
		rule.PartyCertificate: {
			refused: "The record has no `x509Certificate` that is this very certificate, by the SHA-256 of its DER, active and within its dates. The same subject and key are not enough.",
			cause:   "The seal was renewed and is not registered yet; or a registered certificate of another environment is used.",
			sent:    "x5c[0] is seal-2026.pem, registered: seal-2023.pem",
			right:   "x5c[0] is seal-2026.pem, registered: seal-2023.pem and seal-2026.pem",
			answer:  "party.certificate: the certificate is none of the 1 that are registered for the client (SHA-256 …)", attempt: "another registered",
		},
		rule.PartyPolicy: {
			refused: "One of the roles in `policy.roles`, or of the memberships in `policy.dataspaces`, is not in the record, or is not active. All of them are needed.",
			cause:   "The party is registered in another role than the one in which it calls.",
			sent:    `registered: {"type": "frameworkRole", "roleId": "ServiceProvider", "loa": "high", "status": "active"}`,
			right:   `registered: {"type": "frameworkRole", "roleId": "ServiceConsumer", "loa": "high", "status": "active"}`,
			answer:  "party.policy: the client lacks the role ServiceConsumer, which this server demands", put: inRecord,
		},

		rule.CertificateRevoked: {
			refused: "OCSP or a revocation list says of the seal, or of a CA below the trusted one, that it is revoked or on hold. When nobody says anything, that is `unavailable.revocation`.",
			cause:   "The key was lost or replaced, and the old seal revoked, while a copy of it is still in use somewhere.",
			sent:    "OCSP for x5c[0]: revoked",
			right:   "OCSP for x5c[0]: good",
			answer:  "certificate.revoked: x5c[0] is revoked since … (keyCompromise), says OCSP", put: atStatusService,
		},
		rule.JTIReplayed: {
			refused: "An assertion with this `iss` and `jti` has got a token before, here or at a server that shares the `state`. It is remembered until `exp` and the leeway.",
			cause:   "A retry sends the same request again (`curl --retry`, a retrying HTTP client, a proxy), or `jti` is a constant.",
			sent:    "jti of the first try: 5f0c2a9e, of the second: 5f0c2a9e",
			right:   "jti of the first try: 5f0c2a9e, of the second: 81d3b7e0",
			answer:  "jti.replayed: an assertion with this jti was used before", put: inTwoTries,
		},
	}
}

// An unavailability is why a server cannot decide, for docs/rules.md.
type unavailability struct {
	cause    string
	operator string // where the operator looks
}

func unavailabilities() map[*rule.Rule]unavailability {
	return map[*rule.Rule]unavailability{
		rule.UnavailableRegistry: {
			cause:    "The registry is down or slow, answers with what it has not signed, or refuses this server. Or its trusted list, on which the answer would hang, has not been read yet.",
			operator: "`/readyz` and the log say what the registry said; `waybill check` asks it.",
		},
		rule.UnavailableRevocation: {
			cause:    "No OCSP responder and no list of the certificate gives an answer that holds, often because a firewall lets the server call the registry only; or the certificate names neither.",
			operator: "The log names the address. `trust.revocation_proxy` is for machines behind a proxy, `trust.revocation: prefer` lets the certificate pass.",
		},
		rule.UnavailableState: {
			cause:    "The server was started for the first time or after a crash, seconds ago. With a shared `state`: the store is out of reach, was restarted, or its clock differs by more than a second. With `audit.required`: the audit trail cannot be written, which has a sentence of its own.",
			operator: "`/readyz` says from when tokens are given, and what is in the way. [What each store guarantees](scaling.md#what-each-store-guarantees).",
		},
		rule.UnavailableOverload: {
			cause:    "More assertions at once than the processors can judge, above all of clients that are new.",
			operator: "[Limits](configuration.md#limits), and [what was measured](performance.md).",
		},
		rule.Limited: {
			cause:    "A program asks for a token before each call in place of keeping one; a seal names clients that the registry does not know; or all clients come by a proxy that is not in `limits.trusted_proxies`.",
			operator: "`limits.per_address`, `limits.per_party` and `limits.trusted_proxies`; the log says which seal or address.",
		},
		rule.Internal: {
			cause:    "A fault of the server or its machine, such as a key of access tokens that cannot be used.",
			operator: "The log has the event with the same id, and the cause: `waybill explain --correlation ID`.",
		},
	}
}
