// Package accesstoken issues the access tokens of POST /connect/token, and
// checks them at secured endpoints.
//
// A token is self-contained: it carries what a secured endpoint wants to know
// of its bearer, so that neither issuing nor checking reads a store. Two formats
// carry the same claims. [Opaque] tokens are sealed and say nothing to anybody
// but us; [JWT] tokens are signed, and whoever fetches our public keys can read
// and check them. [Issuer.Check] takes both, whichever of them is issued, so
// that the format can be changed while tokens are out.
//
// # Where to begin
//
// [OpenKeys] opens the folder of keys, and [KeyRing.Run] replaces them in time. [New] makes
// the [Issuer] of one party, whose [Issuer.Issue] and [Issuer.Check] are all that a token
// endpoint and a secured endpoint need. [OpenTokenRevocations] opens a store of
// revocations, which New takes as Config.Revoked. Issue believes what it is told of the
// client: give it only what a client assertion that was found valid says.
//
// # What a token carries
//
// The claims are those of RFC 9068 section 2.2, as one JSON object. It is the
// payload of the JWT and the plaintext of the opaque token.
//
//	field of Claims   claim       value
//	ID                jti         random, 130 bits, in base32 (RFC 4648 section 6)
//	Issuer            aud, iss    our own party identifier: only we accept our tokens
//	IssuerURL         iss         in place of it, the issuer of our metadata, if Config states one
//	Party             sub         the client's canonical party identifier
//	Client            client_id   the client_id of the token request, which may be an alias
//	Scope             scope       space-separated (RFC 8693 section 4.2)
//	Thumbprint        x5t#S256    SHA-256 of the seal that the client authenticated with,
//	                              base64url without padding (RFC 7515 section 4.1.8); in hex
//	                              in Claims, as party records have it
//	Issued            iat         whole UNIX seconds
//	Expires           exp         whole UNIX seconds; iat plus the lifetime
//
// The thumbprint is a record of who asked for the token, and deliberately not
// the confirmation claim cnf of RFC 8705 section 3.1. A confirmation orders
// every secured endpoint to refuse a caller that does not show the same
// certificate in TLS, and iSHARE's seals are for signing, not for TLS.
//
// # What protects it
//
// An opaque token is a compact JWE (RFC 7516) with the header members alg "dir",
// enc "A256GCM" and kid; a JWT is a compact JWS (RFC 7515) with alg "ES256", typ
// "at+jwt" and kid. No other algorithm and no other header member exists here: a
// header that says more, such as zip, crit or jwk, or the same in other bytes, is
// refused before any key is looked for.
//
// A token has one spelling. Go's base64 decoder skips line breaks and
// ignores the unused bits of the last character, and go-jose takes any text as the
// encrypted key that alg "dir" does not have and does not check where the ciphertext
// ends and the authentication tag begins; each would let a bearer make new strings out of
// one token. All of them are refused. ES256 itself still allows a second
// signature (r, n−s) for the same content, so revoke and count by ID, never by
// the token's text.
//
// Keys live in a folder that all servers of one party share, or in a JWK Set of which each has
// a copy: see [KeyRing].
//
// # Revocation of tokens
//
// A token can be withdrawn before it expires: it alone by its ID, or with all others that
// were issued so far to a party or to the holder of a certificate. Only this is remembered,
// and only until the tokens have expired: see [TokenRevocations]. A checker that fails makes
// [Issuer.Check] fail, with neither [ErrInvalid] nor [ErrExpired], so that nobody is let in.
// A token that was issued in the second of the revocation counts as issued before it. One that
// was issued while the clock ran ahead, before it was set back, seems newer than a revocation: withdraw
// it by its ID.
package accesstoken
