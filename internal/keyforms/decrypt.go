package keyforms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // old files are encrypted with it, and it only reads them
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // as above
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"slices"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/scrypt"
)

const (
	// maxWork is how often a password may be hashed for one file: some seconds. The number
	// stands in the file.
	maxWork = 10_000_000

	// maxScrypt is the memory that scrypt may take, in bytes.
	maxScrypt = 128 << 20
)

// ErrPassword is the cause of faults that another password, or any at all, would remove.
var ErrPassword = errors.New("the password does not open it")

// unsupported names what a file uses and this package does not read.
type unsupported string

func (u unsupported) Error() string { return string(u) }

// A decrypter has a password, and bounds the work of trying it.
type decrypter struct {
	password string
	work     int // how often it may still be hashed
	// encoding is how PKCS#12 takes the password, once it is known; see [encodings].
	encoding []byte
}

// useWork takes a number of iterations, which the file states, off the work that is left.
func (d *decrypter) useWork(iterations int) error {
	if iterations < 1 {
		return errBER
	}
	if iterations > d.work {
		return unsupported(fmt.Sprintf("a password that has to be hashed over %d times", maxWork))
	}
	d.work -= iterations
	return nil
}

// encodings lists the ways in which programs write a password for PKCS#12: UTF-16 with an
// end (RFC 7292 appendix B.1), nothing at all for the empty one, and, by OpenSSL before
// 1.1, each byte of UTF-8 as a character.
func encodings(password string) [][]byte {
	encode := func(units []uint16) []byte {
		var out []byte
		for _, u := range append(units, 0) {
			out = append(out, byte(u>>8), byte(u))
		}
		return out
	}
	all := [][]byte{encode(utf16.Encode([]rune(password)))}
	if password == "" {
		return append(all, nil)
	}
	var each []uint16
	for _, b := range []byte(password) {
		each = append(each, uint16(b))
	}
	if old := encode(each); !bytes.Equal(old, all[0]) {
		all = append(all, old)
	}
	return all
}

// hashes are the digests that files name.
var hashes = map[string]func() hash.Hash{
	"1.2.840.113549.2.5":     md5.New,
	"1.3.14.3.2.26":          sha1.New,
	"2.16.840.1.101.3.4.2.1": sha256.New,
	"2.16.840.1.101.3.4.2.2": sha512.New384,
	"2.16.840.1.101.3.4.2.3": sha512.New,
	"2.16.840.1.101.3.4.2.4": sha256.New224,
	"2.16.840.1.101.3.4.2.6": sha512.New512_256,
}

// hmacs are the pseudo-random functions of PBKDF2, and the MACs of PBMAC1 (RFC 8018 appendix B.1).
var hmacs = map[string]func() hash.Hash{
	"1.2.840.113549.2.7":  sha1.New,
	"1.2.840.113549.2.8":  sha256.New224,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
	"1.2.840.113549.2.13": sha512.New512_256,
}

// A blockCipher makes a cipher of a key of so many bytes.
type blockCipher struct {
	size int
	new  func(key []byte) (cipher.Block, error)
}

func rc2Cipher(key []byte) (cipher.Block, error) { return newRC2(key), nil }

// ciphers are those of PBES2 (RFC 8018 appendix B.2), all in CBC.
var ciphers = map[string]blockCipher{
	"1.3.14.3.2.7":            {8, des.NewCipher},
	"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
	"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
	"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
	"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
}

// pkcs12Ciphers are those that PKCS#12 names with their derivation (RFC 7292 appendix C).
var pkcs12Ciphers = map[string]blockCipher{
	"1.2.840.113549.1.12.1.3": {24, des.NewTripleDESCipher},
	"1.2.840.113549.1.12.1.4": {16, func(key []byte) (cipher.Block, error) { // the first of two keys is used once more in the end
		return des.NewTripleDESCipher(slices.Concat(key, key[:8])) //nolint:gosec // it only reads old files
	}},
	"1.2.840.113549.1.12.1.5": {16, rc2Cipher},
	"1.2.840.113549.1.12.1.6": {5, rc2Cipher},
}

// pbes1Hashes are the digests of PBES1 with DES (RFC 8018 appendix A.3).
var pbes1Hashes = map[string]func() hash.Hash{
	"1.2.840.113549.1.5.3":  md5.New,
	"1.2.840.113549.1.5.10": sha1.New,
}

// names are those of algorithms that are not read.
var names = map[string]string{
	"1.2.840.113549.1.12.1.1":   "RC4 of 128 bits",
	"1.2.840.113549.1.12.1.2":   "RC4 of 40 bits",
	"1.2.840.113549.1.5.1":      "MD2 and DES",
	"1.2.840.113549.1.5.4":      "MD2 and RC2",
	"1.2.840.113549.1.5.6":      "MD5 and RC2",
	"1.2.840.113549.1.5.11":     "SHA-1 and RC2",
	"1.2.840.113549.3.2":        "RC2",
	"2.16.840.1.101.3.4.1.6":    "AES-GCM",
	"2.16.840.1.101.3.4.1.26":   "AES-GCM",
	"2.16.840.1.101.3.4.1.46":   "AES-GCM",
	"1.2.392.200011.61.1.1.1.2": "Camellia",
	"1.2.392.200011.61.1.1.1.3": "Camellia",
	"1.2.392.200011.61.1.1.1.4": "Camellia",
	"1.2.643.7.1.1.5.2.2":       "GOST",
	"1.2.643.2.2.21":            "GOST",
}

// unknown says which algorithm is not read, by its name if it has one here.
func unknown(kind, id string) error {
	if name, ok := names[id]; ok {
		return unsupported(kind + " " + name)
	}
	return unsupported(fmt.Sprintf("%s of the identifier %s", kind, id))
}

// readAlgorithm reads an AlgorithmIdentifier and gives its parameters as they stand.
func readAlgorithm(s *cryptobyte.String) (id string, parameters cryptobyte.String, ok bool) {
	var oid asn1.ObjectIdentifier
	if !s.ReadASN1(&parameters, cryptobyteasn1.SEQUENCE) || !parameters.ReadASN1ObjectIdentifier(&oid) {
		return "", nil, false
	}
	return oid.String(), parameters, true
}

// decrypt undoes password-based encryption by any of the schemes.
func (d *decrypter) decrypt(id string, parameters cryptobyte.String, data []byte) ([]byte, error) {
	if id == "1.2.840.113549.1.5.13" {
		return d.decryptPBES2(parameters, data)
	}
	var content, salt cryptobyte.String
	var iterations int
	if !parameters.ReadASN1(&content, cryptobyteasn1.SEQUENCE) || !content.ReadASN1(&salt, cryptobyteasn1.OCTET_STRING) ||
		!content.ReadASN1Integer(&iterations) {
		return nil, unknown("the encryption", id)
	}
	if c, ok := pkcs12Ciphers[id]; ok {
		return d.decryptPKCS12(c, salt, iterations, data)
	}
	newHash, ok := pbes1Hashes[id]
	if !ok {
		return nil, unknown("the encryption", id)
	}
	if err := d.useWork(iterations); err != nil {
		return nil, err
	}
	sum := slices.Concat([]byte(d.password), salt) // PBKDF1, RFC 8018 section 5.1
	for range iterations {
		h := newHash()
		h.Write(sum)
		sum = h.Sum(nil)
	}
	return decryptCBC(blockCipher{8, des.NewCipher}, sum[:8], sum[8:16], data)
}

// decryptPKCS12 tries the encodings of the password, unless the MAC has told which it is.
func (d *decrypter) decryptPKCS12(c blockCipher, salt []byte, iterations int, data []byte) ([]byte, error) {
	tried := [][]byte{d.encoding}
	if d.encoding == nil {
		tried = encodings(d.password)
	}
	for _, password := range tried {
		if err := d.useWork(iterations); err != nil {
			return nil, err
		}
		key := pkcs12KDF(sha1.New, derivation{1, c.size, iterations}, password, salt)
		iv := pkcs12KDF(sha1.New, derivation{2, 8, iterations}, password, salt)
		if plain, err := decryptCBC(c, key, iv, data); err == nil {
			return plain, nil
		}
	}
	return nil, ErrPassword
}

// decryptPBES2 is RFC 8018 section 6.2.
func (d *decrypter) decryptPBES2(parameters cryptobyte.String, data []byte) ([]byte, error) {
	var content, iv cryptobyte.String
	if !parameters.ReadASN1(&content, cryptobyteasn1.SEQUENCE) {
		return nil, errBER
	}
	kdf, kdfParameters, ok := readAlgorithm(&content)
	id, cipherParameters, also := readAlgorithm(&content)
	if !ok || !also {
		return nil, errBER
	}
	c, ok := ciphers[id]
	if !ok {
		return nil, unknown("the cipher", id)
	}
	if !cipherParameters.ReadASN1(&iv, cryptobyteasn1.OCTET_STRING) {
		return nil, errBER
	}
	key, err := d.derive(kdf, kdfParameters, c.size)
	if err != nil {
		return nil, err
	}
	return decryptCBC(c, key, iv, data)
}

// derive makes a key of the password by PBKDF2 or scrypt. A size of 0 leaves it to the file.
func (d *decrypter) derive(id string, parameters cryptobyte.String, size int) ([]byte, error) {
	var content cryptobyte.String
	if !parameters.ReadASN1(&content, cryptobyteasn1.SEQUENCE) {
		return nil, errBER
	}
	switch id {
	case "1.2.840.113549.1.5.12":
		return d.pbkdf2(content, size)
	case "1.3.6.1.4.1.11591.4.11":
		return d.scrypt(content, size)
	}
	return nil, unknown("the key derivation", id)
}

// pbkdf2 is RFC 8018 appendix A.2. A length that the file states has to be the one that is needed.
func (d *decrypter) pbkdf2(parameters cryptobyte.String, size int) ([]byte, error) {
	var salt cryptobyte.String
	var iterations int
	prf, length := "1.2.840.113549.2.7", size
	if !parameters.ReadASN1(&salt, cryptobyteasn1.OCTET_STRING) || !parameters.ReadASN1Integer(&iterations) ||
		parameters.PeekASN1Tag(cryptobyteasn1.INTEGER) && !parameters.ReadASN1Integer(&length) {
		return nil, errBER
	}
	if !parameters.Empty() {
		id, _, ok := readAlgorithm(&parameters)
		if !ok {
			return nil, errBER
		}
		prf = id
	}
	newHash, ok := hmacs[prf]
	switch {
	case !ok:
		return nil, unknown("the pseudo-random function", prf)
	case length < 1 || length > sha512.Size || size != 0 && length != size:
		return nil, errBER
	}
	if err := d.useWork(iterations); err != nil {
		return nil, err
	}
	return pbkdf2.Key(newHash, d.password, salt, iterations, length)
}

// scrypt is RFC 7914 section 7.
func (d *decrypter) scrypt(parameters cryptobyte.String, size int) ([]byte, error) {
	var salt cryptobyte.String
	var n, r, p int
	length := size
	if !parameters.ReadASN1(&salt, cryptobyteasn1.OCTET_STRING) || !parameters.ReadASN1Integer(&n) ||
		!parameters.ReadASN1Integer(&r) || !parameters.ReadASN1Integer(&p) ||
		parameters.PeekASN1Tag(cryptobyteasn1.INTEGER) && !parameters.ReadASN1Integer(&length) ||
		length < 1 || length > sha512.Size || size != 0 && length != size {
		return nil, errBER
	}
	if n < 2 || n > maxScrypt/128 || r < 1 || r > maxScrypt/128/n || p < 1 || p > 16 {
		return nil, unsupported("scrypt with more memory or less than is sensible")
	}
	if err := d.useWork(max(n/16*r*p, 1)); err != nil {
		return nil, err
	}
	return scrypt.Key([]byte(d.password), salt, n, r, p, length)
}

// decryptCBC takes the padding off, by which a wrong password is noticed most of the time.
func decryptCBC(c blockCipher, key, iv, data []byte) ([]byte, error) {
	block, err := c.new(key)
	if err != nil {
		return nil, errBER
	}
	size := block.BlockSize()
	if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, errBER
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	n := int(plain[len(plain)-1])
	if n < 1 || n > size || !bytes.HasSuffix(plain, bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, ErrPassword
	}
	return plain[:len(plain)-n], nil
}

// derivation is what to derive by RFC 7292 appendix B: 1 is a key, 2 an IV, 3 the key of a MAC.
type derivation struct {
	id               byte
	size, iterations int
}

// pkcs12KDF is RFC 7292 appendix B.2.
func pkcs12KDF(newHash func() hash.Hash, d derivation, password, salt []byte) []byte {
	h := newHash()
	v := h.BlockSize()
	fill := func(b []byte) []byte {
		if len(b) == 0 {
			return nil
		}
		n := (len(b) + v - 1) / v * v
		return bytes.Repeat(b, n/len(b)+1)[:n]
	}
	diversifier := bytes.Repeat([]byte{d.id}, v)
	input := slices.Concat(fill(salt), fill(password))
	var out []byte
	for len(out) < d.size {
		a := slices.Concat(diversifier, input)
		for range d.iterations {
			h.Reset()
			h.Write(a)
			a = h.Sum(a[:0:0])
		}
		out = append(out, a...)
		b := bytes.Repeat(a, v/len(a)+1)[:v]
		for j := 0; j < len(input); j += v {
			carry := 1
			for k := v - 1; k >= 0; k-- { // I_j = I_j + B + 1
				carry += int(input[j+k]) + int(b[k])
				input[j+k], carry = byte(carry), carry>>8
			}
		}
	}
	return out[:d.size]
}

// isMAC reports whether the MAC of PKCS#12 is that of the data under the password, and keeps
// the encoding of the password by which it is.
func (d *decrypter) isMAC(m macData, data []byte) error {
	if m.algorithm == "1.2.840.113549.1.5.14" {
		return d.isPBMAC1(m, data)
	}
	newHash, ok := hashes[m.algorithm]
	if !ok {
		return unknown("the MAC", m.algorithm)
	}
	for _, password := range encodings(d.password) {
		if err := d.useWork(m.iterations); err != nil {
			return err
		}
		mac := hmac.New(newHash, pkcs12KDF(newHash, derivation{3, newHash().Size(), m.iterations}, password, m.salt))
		mac.Write(data)
		if hmac.Equal(mac.Sum(nil), m.sum) {
			d.encoding = append([]byte{}, password...)
			return nil
		}
	}
	return ErrPassword
}

// isPBMAC1 is RFC 9579.
func (d *decrypter) isPBMAC1(m macData, data []byte) error {
	var content cryptobyte.String
	parameters := m.parameters
	if !parameters.ReadASN1(&content, cryptobyteasn1.SEQUENCE) {
		return errBER
	}
	kdf, kdfParameters, ok := readAlgorithm(&content)
	id, _, also := readAlgorithm(&content)
	newHash, known := hmacs[id]
	switch {
	case !ok || !also:
		return errBER
	case !known:
		return unknown("the MAC", id)
	}
	key, err := d.derive(kdf, kdfParameters, 0)
	if err != nil {
		return err
	}
	mac := hmac.New(newHash, key)
	mac.Write(data)
	if !hmac.Equal(mac.Sum(nil), m.sum) {
		return ErrPassword
	}
	return nil
}
