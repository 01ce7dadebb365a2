package accesstoken

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// openAsGoJose is the other implementation of open.
func openAsGoJose(secret []byte, token string) ([]byte, error) {
	object, err := jose.ParseEncryptedCompact(token, []jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, err
	}
	return object.Decrypt(secret)
}

// A rawToken is how somebody who has the key may write a token.
type rawToken struct {
	header, encryptedKey, payload string

	border int    // bytes of the tag that stand at the end of the ciphertext, or the other way round
	at     int    // a place in the text, counted from its end when it is negative
	out    int    // bytes that are taken out there
	in     string // and what is put in
}

func (s rawToken) token(gcm cipher.AEAD) string {
	encode := base64.RawURLEncoding.EncodeToString
	header, nonce := encode([]byte(s.header)), make([]byte, gcm.NonceSize())
	sealed := gcm.Seal(nil, nonce, []byte(s.payload), []byte(header))
	border := min(max(len(sealed)-gcm.Overhead()+s.border, 0), len(sealed))
	text := strings.Join([]string{header, s.encryptedKey, encode(nonce), encode(sealed[:border]), encode(sealed[border:])}, ".")
	at := s.at
	if at < 0 {
		at += len(text)
	}
	at = min(max(at, 0), len(text))
	return text[:at] + s.in + text[min(max(at+s.out, at), len(text)):]
}

// A workshop has a sealer, and its key for other tools.
type workshop struct {
	*opaqueSealer
	ref    keyRef
	secret []byte
	gcm    cipher.AEAD
	header string
}

func newWorkshop(tb testing.TB) *workshop {
	tb.Helper()
	w := &workshop{ref: keyRef{sealing, "kid"}, secret: make([]byte, sealingKeySize)}
	w.header = sealedHeaderStart + w.ref.kid + sealedHeaderEnd
	block, err := aes.NewCipher(w.secret)
	if err != nil {
		tb.Fatal(err)
	}
	if w.gcm, err = cipher.NewGCM(block); err != nil {
		tb.Fatal(err)
	}
	if w.opaqueSealer, err = newOpaqueSealer(w.ref.kid, w.secret); err != nil {
		tb.Fatal(err)
	}
	return w
}

// oddSpellings are of authentic tokens, which go-jose opens.
func (w *workshop) oddSpellings() map[string]rawToken {
	with := func(change rawToken) rawToken {
		if change.header == "" {
			change.header = w.header
		}
		if change.payload == "" {
			change.payload = "pay"
		}
		return change
	}
	return map[string]rawToken{
		"another kid":                   with(rawToken{header: sealedHeaderStart + "kit" + sealedHeaderEnd}),
		"no kid":                        with(rawToken{header: `{"alg":"dir","enc":"A256GCM"}`}),
		"a member more":                 with(rawToken{header: sealedHeaderStart + `kid","typ":"JWT"}`}),
		"a blank in the header":         with(rawToken{header: strings.Replace(w.header, ":", ": ", 1)}),
		"members in another order":      with(rawToken{header: `{"enc":"A256GCM","alg":"dir","kid":"kid"}`}),
		"an escape in the header":       with(rawToken{header: strings.Replace(w.header, "dir", `\u0064ir`, 1)}),
		"an encrypted key":              with(rawToken{encryptedKey: "AAAA"}),
		"a byte of the text in the tag": with(rawToken{border: -1}),
		"no ciphertext":                 with(rawToken{border: -3}),
		"a line break in the header":    with(rawToken{at: 5, in: "\n"}),
		"a line break in the nonce":     with(rawToken{at: len(w.opaqueSealer.header) + 5, in: "\n"}),
		"a carriage return in the tag":  with(rawToken{at: -5, in: "\r"}),
		"a line break for a character":  with(rawToken{payload: "pa", at: -23, in: "\n"}),
		"a line break at the end":       with(rawToken{at: 1 << 10, in: "\r\n"}),
	}
}

// What go-jose is more lenient about is refused before the key decides.
func TestOpenTakesOneSpelling(t *testing.T) {
	w := newWorkshop(t)
	right := rawToken{header: w.header, payload: "pay"}.token(w.gcm)
	if payload, err := w.open(right); err != nil || string(payload) != "pay" {
		t.Fatalf("open = %q, %v", payload, err)
	}
	for name, s := range w.oddSpellings() {
		token := s.token(w.gcm)
		if payload, err := openAsGoJose(w.secret, token); err != nil || string(payload) != s.payload {
			t.Errorf("%s: go-jose: %q, %v; the case shows nothing", name, payload, err)
		}
		if payload, err := w.open(token); err == nil || payload != nil {
			t.Errorf("%s: open(%q) = %q", name, token, payload)
		}
	}
}

// What ours opens is what the guard before it lets pass, what names its key and what go-jose opens:
// no more, no less, and to the same payload.
func FuzzOpen(f *testing.F) {
	w := newWorkshop(f)
	add := func(s rawToken) { f.Add(s.header, s.encryptedKey, s.payload, s.border, s.at, s.out, s.in) }
	for _, s := range w.oddSpellings() {
		add(s)
	}
	for n := range 6 {
		right := rawToken{header: w.header, payload: "payload"[:n]}
		add(right)
		for _, border := range []int{1, 16} {
			moved := right
			moved.border = border
			add(moved)
		}
		// The last characters of ciphertext and tag have bits that say nothing.
		for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=.\né" {
			for _, at := range []int{-1, -24} {
				changed := right
				changed.at, changed.out, changed.in = at, 1, string(c)
				add(changed)
			}
		}
	}
	f.Fuzz(func(t *testing.T, header, encryptedKey, payload string, border, at, out int, in string) {
		token := rawToken{header, encryptedKey, payload, border, at, out, in}.token(w.gcm)
		if len(token) > MaxLength {
			return
		}
		ref, err := inspect(token)
		theirs, theirErr := openAsGoJose(w.secret, token)
		good := err == nil && ref == w.ref && theirErr == nil
		got, err := w.open(token)
		if (err == nil) != good || good && !bytes.Equal(got, theirs) {
			t.Errorf("open(%q) = %q, %v; the guard names %+v, go-jose says %q, %v", token, got, err, ref, theirs, theirErr)
		}
	})
}

// FuzzSeal holds what is sealed against go-jose: it opens to the same payload there, and has the layout of what go-jose
// seals, which ours opens.
func FuzzSeal(f *testing.F) {
	w := newWorkshop(f)
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: w.secret, KeyID: w.ref.kid}, nil)
	if err != nil {
		f.Fatal(err)
	}
	for n := range 70 {
		f.Add(bytes.Repeat([]byte{'a'}, n))
	}
	f.Add(inOwnLayout(f, exampleSet()))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > MaxLength/2 {
			return
		}
		token, err := w.seal(payload)
		if err != nil {
			t.Fatal(err)
		}
		object, err := encrypter.Encrypt(payload)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := object.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		for at, part := range strings.Split(theirs, ".") {
			if ours := strings.Split(token, ".")[at]; len(ours) != len(part) || at == 0 && ours != part {
				t.Errorf("part %d is %q; go-jose has %q", at, ours, part)
			}
		}
		for name, token := range map[string]string{"ours": token, "theirs": theirs} {
			if ref, err := inspect(token); err != nil || ref != w.ref {
				t.Errorf("%s: inspect = %+v, %v", name, ref, err)
			}
			if got, err := w.open(token); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("%s: open = %q, %v", name, got, err)
			}
			if got, err := openAsGoJose(w.secret, token); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("%s: go-jose: %q, %v", name, got, err)
			}
		}
	})
}

// Two seals of one payload never have the same nonce: by such a pair tokens could be forged.
func TestNoncesDiffer(t *testing.T) {
	w := newWorkshop(t)
	seen := map[string]bool{}
	for range 1000 {
		token, err := w.seal([]byte("pay"))
		if err != nil {
			t.Fatal(err)
		}
		nonce := strings.Split(token, ".")[2]
		if seen[nonce] {
			t.Fatalf("nonce %s twice", nonce)
		}
		seen[nonce] = true
	}
}

// A token cannot be moved to another key of the same ring, by changing its header or by sealing
// it under a wrong name.
func TestTokenUnderTheNameOfAnotherKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	keys := openKeys(t, dir)
	if err := testFolder(t, dir).add(keyName{sealing, 2}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := keys.maintain(time.Now()); err != nil {
		t.Fatal(err)
	}
	issuer := newIssuer(t, Opaque, keys)
	payload := newMint(t, issuer).payload(nil)
	ring := keys.set.Load().ages[sealing]
	for n, k := range ring {
		token, err := k.seal([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		accept(t, issuer, token)
		other := ring[1-n]
		elsewhere, err := other.seal([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		header, _, _ := strings.Cut(elsewhere, ".")
		_, rest, _ := strings.Cut(token, ".")
		refuse(t, issuer, header+"."+rest, ErrInvalid)
		var jwk jose.JSONWebKey
		if err := jwk.UnmarshalJSON(k.file); err != nil {
			t.Fatal(err)
		}
		secret, _ := jwk.Key.([]byte)
		misnamed, err := newOpaqueSealer(other.kid, secret)
		if err != nil {
			t.Fatal(err)
		}
		if token, err = misnamed.seal([]byte(payload)); err != nil {
			t.Fatal(err)
		}
		refuse(t, issuer, token, ErrInvalid)
	}
}
