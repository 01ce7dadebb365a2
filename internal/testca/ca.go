package testca

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"
)

// DefaultKeyBits is the size of the RSA keys that are made unless another one is
// asked for. The CAs of the real test PKI have 4096 bits, its seals 2048.
const DefaultKeyBits = 2048

// Lives of certificates, those of the real test PKI. Certificates begin an hour
// before they are made, so that a machine whose clock is slow accepts them.
const (
	caYears    = 25
	sealYears  = 3
	backdating = time.Hour
)

// Config says what kind of [CA] to make. The zero Config is a good one.
type Config struct {
	// Name starts the common names of the three CAs: "Waybill Test" unless set.
	Name string
	// KeyBits is the size of the CAs' RSA keys: [DefaultKeyBits] unless set.
	KeyBits int
	// OCSPURL is where every certificate below the root says that its status can
	// be asked. Empty: it names no responder.
	OCSPURL string
	// CRLURL is the folder of the revocation lists: a certificate names
	// <CRLURL>/<level of its issuer>.crl. Empty: it names none.
	CRLURL string
	// NewKey makes the keys of CAs and seals: rsa.GenerateKey unless set. Tests set [PooledKey].
	NewKey func(bits int) (*rsa.PrivateKey, error)
}

// A Level is one of the three levels of a [CA].
type Level int

// The levels, from the top.
const (
	Root Level = iota
	Sub
	Issuing
)

// Levels lists the levels from the top.
func Levels() []Level { return []Level{Root, Sub, Issuing} }

// String gives the level as it stands in names of files and addresses.
func (l Level) String() string { return [...]string{"root", "sub", "issuing"}[l] }

// A CA is a certificate authority of three levels.
type CA struct {
	config      Config
	authorities [3]*Identity
}

// New makes a CA with new keys.
func New(c Config) (*CA, error) {
	ca := &CA{config: c.withDefaults()}
	for _, level := range Levels() {
		key, err := ca.config.NewKey(ca.config.KeyBits)
		if err != nil {
			return nil, fmt.Errorf("test CA: key of the %s CA: %w", level, err)
		}
		if level == Root {
			ca.authorities[level], err = SelfSign(ca.Template(level), key)
		} else {
			ca.authorities[level], err = ca.authorities[level-1].Issue(ca.Template(level), key)
		}
		if err != nil {
			return nil, err
		}
	}
	return ca, nil
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "Waybill Test"
	}
	if c.KeyBits == 0 {
		c.KeyBits = DefaultKeyBits
	}
	if c.NewKey == nil {
		c.NewKey = func(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }
	}
	return c
}

// Authority is the CA at a level, with its key.
func (ca *CA) Authority(level Level) *Identity { return ca.authorities[level] }

// Template is the certificate of the CA at a level before it was signed, to be
// changed into that of a forged CA. Each call makes a new one.
func (ca *CA) Template(level Level) *x509.Certificate {
	now := time.Now()
	title := [...]string{"Root CA", "Sub CA", "Issuing CA"}[level]
	t := &x509.Certificate{
		Subject: pkix.Name{
			Country: []string{"NL"}, Organization: []string{ca.config.Name}, CommonName: ca.config.Name + " " + title,
		},
		NotBefore:             now.Add(-backdating),
		NotAfter:              now.AddDate(caYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	if level == Issuing {
		t.MaxPathLen = 1 // as the real one, which issues seals only
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection}
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidDocumentSigning}
	}
	if level != Root {
		ca.nameStatusServices(t, level-1)
	}
	return t
}

// nameStatusServices says where the status of a certificate can be asked whose issuer is at the level.
func (ca *CA) nameStatusServices(t *x509.Certificate, issuer Level) {
	if ca.config.OCSPURL != "" {
		t.OCSPServer = []string{ca.config.OCSPURL}
	}
	if ca.config.CRLURL != "" {
		t.CRLDistributionPoints = []string{ca.config.CRLURL + "/" + issuer.String() + ".crl"}
	}
}

// Object identifiers of what makes a certificate an electronic seal.
var (
	oidDocumentSigning        = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 12}
	oidOrganizationIdentifier = asn1.ObjectIdentifier{2, 5, 4, 97}
	oidQCStatements           = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 3}
	oidQCType                 = asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 6}
	oidQCTypeSeal             = asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 6, 2}
)

// A SealRequest says what seal to issue.
type SealRequest struct {
	// Organization is the subject's O and CN.
	Organization string
	// Country is the subject's C: NL unless set.
	Country string
	// Identifier is the subject's organizationIdentifier (ETSI EN 319 412-1),
	// such as NTRNL-10000001. Empty: the subject has none.
	Identifier string
	// SerialNumber is the subject's serialNumber, where seals of the 2.x framework
	// carry an EU.EORI identifier. Empty: the subject has none.
	SerialNumber string
	// KeyBits is the size of the RSA key that is made: [DefaultKeyBits] unless set.
	KeyBits int
	// Key is the seal's key, of any kind, in place of a new one.
	Key crypto.Signer
	// Issuer signs the seal: the issuing CA unless set.
	Issuer *Identity
	// Template changes the certificate before it is signed. May be nil.
	Template func(*x509.Certificate)
}

// Seal issues a seal.
func (ca *CA) Seal(r SealRequest) (*Identity, error) {
	key, issuer := r.Key, r.Issuer
	if key == nil {
		made, err := ca.config.NewKey(cmp.Or(r.KeyBits, DefaultKeyBits))
		if err != nil {
			return nil, fmt.Errorf("test CA: key of a seal: %w", err)
		}
		key = made
	}
	if issuer == nil {
		issuer = ca.authorities[Issuing]
	}
	template, err := ca.SealTemplate(r)
	if err != nil {
		return nil, err
	}
	if r.Template != nil {
		r.Template(template)
	}
	return issuer.Issue(template, key)
}

// SealTemplate is the certificate that [CA.Seal] would sign, without the changes of the request's Template.
func (ca *CA) SealTemplate(r SealRequest) (*x509.Certificate, error) {
	// The qcStatements say that the certificate is for electronic seals (ETSI EN 319 412-5 section 4.2.3).
	type statement struct {
		ID    asn1.ObjectIdentifier
		Types []asn1.ObjectIdentifier
	}
	statements, err := asn1.Marshal([]statement{{ID: oidQCType, Types: []asn1.ObjectIdentifier{oidQCTypeSeal}}})
	if err != nil {
		return nil, fmt.Errorf("test CA: qcStatements: %w", err)
	}
	subject := pkix.Name{
		Country: []string{cmp.Or(r.Country, "NL")}, Organization: []string{r.Organization}, CommonName: r.Organization,
		SerialNumber: r.SerialNumber,
	}
	if r.Identifier != "" {
		subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oidOrganizationIdentifier, Value: r.Identifier}}
	}
	now := time.Now()
	t := &x509.Certificate{
		Subject:               subject,
		NotBefore:             now.Add(-backdating),
		NotAfter:              now.AddDate(sealYears, 0, 0),
		KeyUsage:              x509.KeyUsageContentCommitment, // the newer name of nonRepudiation
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
		UnknownExtKeyUsage:    []asn1.ObjectIdentifier{oidDocumentSigning},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{{Id: oidQCStatements, Value: statements}},
	}
	ca.nameStatusServices(t, Issuing)
	return t, nil
}
