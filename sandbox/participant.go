package sandbox

import (
	"cmp"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
)

// A Participant is a party of the data space with the files that it signs with.
type Participant struct {
	ID          ishare.PartyID
	AlsoKnownAs []ishare.PartyID
	Name        string
	Folder      string // its own in the data space; switches know it by this name
	KeyFile     string
	ChainFile   string
	RenewedFile string // the chain of a newer certificate of the same key
	ProfileFile string // of a consumer: with which the program gets tokens of the provider as this one (waybill token --profile)
}

// A fixture is a party as it is in the beginning.
type fixture struct {
	number      int // in its identifiers
	folder      string
	name        string
	role        string // empty: none
	standing    string // active unless set
	certificate string // registered unless set
	untrusted   bool   // its seal is of the other CA
}

// Folders of those that others know by name.
const (
	providerFolder = "provider"
	registryFolder = "registry"
	consumerFolder = "consumer"
	formerFolder   = "former-consumer"
)

const serviceConsumer = isharetest.RoleServiceConsumer

var fixtures = []fixture{
	{number: 0, folder: providerFolder, name: "Sandbox Provider", role: "ServiceProvider"},
	{number: 9, folder: registryFolder, name: "Sandbox Registry", role: "ParticipantRegistry"},
	{number: 1, folder: consumerFolder, name: "Sandbox Consumer", role: serviceConsumer},
	{number: 2, folder: formerFolder, name: "Former Consumer", role: serviceConsumer, standing: ended},
	{number: 3, folder: "pending-consumer", name: "Pending Consumer", role: serviceConsumer, standing: "pending"},
	{number: 4, folder: "suspended-consumer", name: "Suspended Consumer", role: serviceConsumer, standing: "suspended"},
	{number: 5, folder: "unknown-consumer", name: "Unknown Consumer", role: serviceConsumer, standing: unknown},
	{number: 6, folder: "revoked-consumer", name: "Revoked Consumer", role: serviceConsumer, certificate: revoked},
	{number: 7, folder: "replaced-consumer", name: "Replaced Consumer", role: serviceConsumer, certificate: replaced},
	{number: 8, folder: "untrusted-consumer", name: "Untrusted Consumer", role: serviceConsumer, untrusted: true},
	{number: 10, folder: "roleless-consumer", name: "Roleless Consumer"},
}

// A party is a participant with what its registrar and its CA say of it.
type party struct {
	Participant

	role        string
	seal        *testca.Identity
	renewed     *testca.Identity
	isNew       bool // made with this start
	standing    *switchControl
	certificate *switchControl
}

// openParties finds or makes the seals of every fixture. Keys are made at the same
// time, because that is what takes long.
func (s *Sandbox) openParties() error {
	s.parties = make([]*party, len(fixtures))
	if _, err := os.Stat(filepath.Join(s.config.Dir, fixtures[0].folder)); errors.Is(err, fs.ErrNotExist) {
		s.config.Progress(fmt.Sprintf("making the seals of %d participants", len(fixtures)))
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, f := range fixtures {
		group.Go(func() (err error) {
			s.parties[i], err = s.openParty(f)
			return err
		})
	}
	return group.Wait()
}

func (s *Sandbox) openParty(f fixture) (*party, error) {
	identifier := fmt.Sprintf("NTRNL-%08d", 10000000+f.number)
	did := ishare.PartyID("did:ishare:EU.NL." + identifier)
	eori := ishare.PartyID(fmt.Sprintf("EU.EORI.NL%09d", f.number))
	canonical, alias := did, eori
	if s.config.Framework == Framework2 {
		canonical, alias = eori, did
	}
	file := func(name string) string { return filepath.Join(s.config.Dir, f.folder, name) }
	p := &party{
		Participant: Participant{
			ID: canonical, AlsoKnownAs: []ishare.PartyID{alias}, Name: f.name, Folder: f.folder,
			KeyFile: file("key.pem"), ChainFile: file("chain.pem"), RenewedFile: file("renewed-chain.pem"),
		},
		role: f.role,
	}
	if f.role == serviceConsumer {
		p.ProfileFile = filepath.Join(s.config.Dir, f.folder+".yaml")
	}
	issuer := s.authorities[ownCA]
	if f.untrusted {
		issuer = s.authorities[otherCA]
	}
	request := testca.SealRequest{Organization: f.name, Identifier: identifier, SerialNumber: string(eori)}
	var err error
	if p.seal, p.isNew, err = openSeal(issuer, p.KeyFile, p.ChainFile, request); err != nil {
		return nil, err
	}
	request.Key = p.seal.Key
	if p.renewed, _, err = openSeal(issuer, p.KeyFile, p.RenewedFile, request); err != nil {
		return nil, err
	}
	p.standing = newSwitch(f.folder+".standing", "what the registry says of "+f.name,
		[]string{active, "pending", "inactive", "suspended", "revoked", ended, unknown}, cmp.Or(f.standing, active), func(string) { s.updateRegister() })
	p.certificate = newSwitch(f.folder+".certificate", "what the registry and the CA say of the certificate of "+f.name,
		[]string{registered, held, revoked, replaced, unregistered}, cmp.Or(f.certificate, registered), func(state string) {
			s.updateRegister()
			switch cert := p.seal.Certificate(); state {
			case held:
				s.status.Hold(cert)
			case revoked:
				s.status.Revoke(cert)
			default:
				s.status.Reinstate(cert)
			}
		})
	return p, nil
}

// openSeal finds a seal in its files, or has one made.
func openSeal(ca *testca.CA, keyFile, chainFile string, request testca.SealRequest) (seal *testca.Identity, made bool, err error) {
	seal, err = testca.LoadIdentity(keyFile, chainFile)
	if !errors.Is(err, fs.ErrNotExist) {
		return seal, false, err
	}
	if seal, err = ca.Seal(request); err != nil {
		return nil, false, err
	}
	if err := os.MkdirAll(filepath.Dir(keyFile), 0o700); err != nil {
		return nil, false, err
	}
	err = seal.Save(keyFile, chainFile)
	return seal, true, err
}

// inRegistry is the party as the doubles of package isharetest take it.
func (p *party) inRegistry(registrar ishare.PartyID) (*isharetest.Party, error) {
	key, ok := p.seal.Key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds no RSA key", p.KeyFile)
	}
	return &isharetest.Party{Record: p.record(registrar), Key: key, Certificates: p.seal.Chain}, nil
}

// record is what a registrar says of the party, as its switches stand.
func (p *party) record(registrar ishare.PartyID) *ishare.Party {
	record := &ishare.Party{
		ID: p.ID, Name: p.Name,
		AlsoKnownAs: append([]ishare.PartyID{p.ID}, p.AlsoKnownAs...), // as registries do
	}
	leaf := p.seal.Certificate()
	add := func(c ishare.Claim) {
		c.ID = fmt.Sprintf("11111111-0000-4000-8000-%012d", len(record.Claims)+1)
		c.Status, c.RegistrarID = cmp.Or(c.Status, active), string(registrar)
		if c.Start.IsZero() {
			c.Start, c.End = leaf.NotBefore, leaf.NotAfter
		}
		record.Claims = append(record.Claims, c)
	}
	compliance := ishare.Claim{Type: ishare.ClaimFrameworkCompliance, FrameworkID: ishare.FrameworkISHARE, Status: p.standing.Value}
	if p.standing.Value == ended {
		today := time.Now().UTC().Truncate(24 * time.Hour)
		compliance.Status, compliance.Start, compliance.End = active, today.AddDate(-1, 0, 0), today.AddDate(0, -1, 0)
	}
	add(compliance)
	if p.role != "" {
		add(ishare.Claim{Type: ishare.ClaimFrameworkRole, FrameworkID: ishare.FrameworkISHARE, RoleID: p.role, LoA: "high"})
	}
	cert := leaf
	switch p.certificate.Value {
	case unregistered:
		return record
	case replaced:
		cert = p.renewed.Certificate()
	}
	add(ishare.Claim{
		Type: ishare.ClaimX509Certificate, SubjectName: cert.Subject.String(), CertificateType: "eSEAL",
		X5C: base64.StdEncoding.EncodeToString(cert.Raw), X5T: ishare.Thumbprint(cert.Raw),
		Start: cert.NotBefore, End: cert.NotAfter,
	})
	return record
}
