package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
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
}

// A part is what somebody plays in the data space when it begins.
type part struct {
	number      int // in its identifiers
	folder      string
	name        string
	role        string
	standing    string // active unless set
	certificate string // registered unless set
	stranger    bool   // its seal is of the other CA
}

// Folders of those that others know by name.
const (
	providerFolder = "provider"
	registryFolder = "registry"
	consumerFolder = "consumer"
	formerFolder   = "former-consumer"
)

const serviceConsumer = "ServiceConsumer"

var cast = []part{
	{number: 0, folder: providerFolder, name: "Sandbox Provider", role: "ServiceProvider"},
	{number: 9, folder: registryFolder, name: "Sandbox Registry", role: "ParticipantRegistry"},
	{number: 1, folder: consumerFolder, name: "Sandbox Consumer", role: serviceConsumer},
	{number: 2, folder: formerFolder, name: "Former Consumer", role: serviceConsumer, standing: "ended"},
	{number: 3, folder: "pending-consumer", name: "Pending Consumer", role: serviceConsumer, standing: "pending"},
	{number: 4, folder: "suspended-consumer", name: "Suspended Consumer", role: serviceConsumer, standing: "suspended"},
	{number: 5, folder: "unknown-consumer", name: "Unknown Consumer", role: serviceConsumer, standing: unknown},
	{number: 6, folder: "revoked-consumer", name: "Revoked Consumer", role: serviceConsumer, certificate: revoked},
	{number: 7, folder: "replaced-consumer", name: "Replaced Consumer", role: serviceConsumer, certificate: replaced},
	{number: 8, folder: "untrusted-consumer", name: "Untrusted Consumer", role: serviceConsumer, stranger: true},
}

func (p part) identifier() string { return fmt.Sprintf("NTRNL-%08d", 10000000+p.number) }

func (p part) eori() ishare.PartyID {
	return ishare.PartyID(fmt.Sprintf("EU.EORI.NL%09d", p.number))
}

func (p part) participant(c Config) Participant {
	did := ishare.PartyID("did:ishare:EU.NL." + p.identifier())
	canonical, alias := c.Framework.identifiers(did, p.eori())
	file := func(name string) string { return filepath.Join(c.Dir, p.folder, name) }
	return Participant{
		ID: canonical, AlsoKnownAs: []ishare.PartyID{alias}, Name: p.name, Folder: p.folder,
		KeyFile: file("key.pem"), ChainFile: file("chain.pem"), RenewedFile: file("renewed-chain.pem"),
	}
}

// A member is a participant with what its registrar and its CA say of it.
type member struct {
	Participant

	role        string
	seal        *testca.Identity
	renewed     *testca.Identity
	newborn     bool // made with this start
	standing    *dial
	certificate *dial
}

// openMembers finds or makes the seals of everybody in the cast. Keys are made at
// the same time, because that is what takes long.
func openMembers(c Config, own, other *authority) ([]*member, error) {
	members := make([]*member, len(cast))
	if _, err := os.Stat(filepath.Join(c.Dir, cast[0].folder)); errors.Is(err, fs.ErrNotExist) {
		c.Progress(fmt.Sprintf("making the seals of %d participants", len(cast)))
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range cast {
		issuer := own
		if p.stranger {
			issuer = other
		}
		group.Go(func() (err error) {
			members[i], err = openMember(p, p.participant(c), issuer)
			return err
		})
	}
	return members, group.Wait()
}

func openMember(p part, who Participant, issuer *authority) (*member, error) {
	m := &member{Participant: who, role: p.role}
	request := testca.SealRequest{Organization: p.name, Identifier: p.identifier(), SerialNumber: string(p.eori())}
	var err error
	if m.seal, m.newborn, err = openSeal(issuer.ca, who.KeyFile, who.ChainFile, request); err != nil {
		return nil, err
	}
	request.Key = m.seal.Key
	if m.renewed, _, err = openSeal(issuer.ca, who.KeyFile, who.RenewedFile, request); err != nil {
		return nil, err
	}
	m.standing = newDial(&dial{
		name: who.Folder + ".standing", about: "what the registry says of " + who.Name,
		choices: standingNames(), initial: orElse(p.standing, active),
	})
	m.certificate = newDial(&dial{
		name: who.Folder + ".certificate", about: "what the registry and the CA say of the certificate of " + who.Name,
		choices: certificateChoices(), initial: orElse(p.certificate, registered),
		turned: func(choice string) { issuer.mark(m.seal, choice) },
	})
	return m, nil
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

// registeredSeal is the one that the registry has for the member, or nil.
func (m *member) registeredSeal() *testca.Identity {
	switch m.certificate.get() {
	case replaced:
		return m.renewed
	case unregistered:
		return nil
	}
	return m.seal
}
