package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/isharetest"
)

// A Switch is one thing about a running sandbox that can be changed: a party's
// standing, a certificate, what the registry does instead of answering.
type Switch struct {
	Name    string   `json:"name"`    // such as consumer.standing
	About   string   `json:"about"`   // what it changes
	Value   string   `json:"value"`   // where it stands
	Choices []string `json:"choices"` // where it can stand
}

// Errors of [Sandbox.Set]. They are wrapped with what there is instead.
var (
	ErrNoSwitch = errors.New("there is no such switch")
	ErrNoChoice = errors.New("the switch has no such position")
)

// Standings of a party. The others are the statuses of compliance.
const (
	active  = "active"
	ended   = "ended"   // active, but the dates are over
	unknown = "unknown" // not in the register at all
)

// The states of a party's certificate.
const (
	registered   = "registered"   // nothing
	held         = "held"         // revoked at its CA until it is registered again
	revoked      = "revoked"      // revoked at its CA for good: whoever noticed need not ask again
	replaced     = "replaced"     // the registry has a newer one
	unregistered = "unregistered" // the registry has none
)

// The status of the other authority on the trusted list.
const (
	granted   = "granted"
	withdrawn = "withdrawn"
)

// faults are those that every server can have, and more.
func faults(more ...isharetest.Fault) []string {
	var names []string
	for _, fault := range append([]isharetest.Fault{
		isharetest.NoFault, isharetest.FaultSlow, isharetest.FaultError, isharetest.FaultOff,
	}, more...) {
		names = append(names, string(fault))
	}
	return names
}

// A switchControl is a switch with what it does.
type switchControl struct {
	Switch

	initial string             // where it stands at every start
	apply   func(value string) // carries a turn out
}

func newSwitch(name, about string, choices []string, initial string, apply func(string)) *switchControl {
	return &switchControl{Switch: Switch{Name: name, About: about, Choices: choices, Value: initial}, initial: initial, apply: apply}
}

// makeSwitches makes every switch, in the order in which they are shown.
func (s *Sandbox) makeSwitches() {
	s.switches = []*switchControl{
		newSwitch("registry", "how the registry answers", faults(
			isharetest.FaultWrongSignature, isharetest.FaultWrongSigner, isharetest.FaultWrongIssuer, isharetest.FaultWrongAudience,
			isharetest.FaultExpired, isharetest.FaultOtherParty, isharetest.FaultMalformed,
		), string(isharetest.NoFault), func(value string) { s.registry.Fail(isharetest.Fault(value)) }),
		newSwitch("ocsp", "how the OCSP responder answers", faults(isharetest.FaultMalformed), string(isharetest.NoFault),
			func(value string) { s.status.FailOCSP(isharetest.Fault(value)) }),
		newSwitch("crl", "how the revocation lists are served", faults(isharetest.FaultMalformed), string(isharetest.NoFault),
			func(value string) { s.status.FailCRL(isharetest.Fault(value)) }),
		newSwitch("other-ca", "what the trusted list says of the CA of the untrusted consumer", []string{withdrawn, granted}, withdrawn,
			func(value string) { s.registry.SetTrustedList(s.trustedList(value)...) }),
	}
	for _, p := range s.parties {
		s.switches = append(s.switches, p.standing, p.certificate)
	}
}

// updateRegister has the registry say of everybody what the switches say.
func (s *Sandbox) updateRegister() {
	var list []*isharetest.Party
	for _, p := range s.parties {
		if p.standing.Value != unknown {
			list = append(list, &isharetest.Party{Record: p.record(s.registry.ID)})
		}
	}
	s.registry.Parties.Replace(list...)
}

// Set turns a switch. What it changes holds for requests from now on; the provider notices when it asks again, which it
// does within the sandbox's freshness. It asks again about a party that it found unknown after half a minute, and never
// about a certificate that it found revoked for good. The error wraps [ErrNoSwitch] or [ErrNoChoice].
func (s *Sandbox) Set(name, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, len(s.switches))
	for i, control := range s.switches {
		names[i] = control.Name
		if control.Name != name {
			continue
		}
		if !slices.Contains(control.Choices, value) {
			return fmt.Errorf("%w: %s can be %s", ErrNoChoice, name, strings.Join(control.Choices, ", "))
		}
		control.Value = value
		control.apply(value)
		s.decisions.tell()
		return nil
	}
	return fmt.Errorf("%w; there are %s", ErrNoSwitch, strings.Join(names, ", "))
}

// Reset puts every switch back to where it stood in the beginning.
func (s *Sandbox) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, control := range s.switches {
		control.Value = control.initial
	}
	for _, control := range s.switches {
		control.apply(control.Value)
	}
	s.decisions.tell()
}

// State tells how everything stands.
func (s *Sandbox) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	switches := make([]Switch, len(s.switches))
	for i, control := range s.switches {
		switches[i] = control.Switch
	}
	registry, status := s.registry.Counters(), s.status.Counters()
	return State{
		Framework: s.config.Framework,
		Provider:  Address{ID: s.Provider.ID, URL: s.URL},
		Registry:  Address{ID: s.registry.ID, URL: s.registry.URL},
		Control:   baseURL(s.listeners.control),
		Switches:  switches,
		Asked: Counters{
			Tokens: registry.Tokens, Parties: registry.Parties, TrustedLists: registry.TrustedLists,
			Capabilities: registry.Capabilities, OCSP: status.OCSP, CRL: status.CRL,
		},
	}
}
