package capabilities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/spelling"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// A Service is one of the services that a party offers. Only Identifier and EndpointURL must be
// set.
type Service struct {
	Identifier          string   `json:"identifier"` // unique among our services
	Title               string   `json:"title"`      // empty: the identifier
	Description         string   `json:"description"`
	EndpointDescription string   `json:"endpointDescription,omitempty"` // the address of its documentation
	EndpointURL         string   `json:"endpointURL"`                   // an address, or a path on this server
	TokenEndpoint       string   `json:"tokenEndpoint"`                 // where to get a token for it; empty: here
	Status              Status   `json:"status"`                        // empty: active
	Type                Type     `json:"serviceType"`                   // empty: self-defined
	Version             Version  `json:"version"`
	Methods             []string `json:"methods"` // of HTTP

	// Roles and Dataspaces are for restricted services: the service is shown to parties that comply with the framework,
	// have all of these framework roles, and are members of all of these data spaces.
	Roles      []string `json:"-"`
	Dataspaces []string `json:"-"`
}

// A Status says whether a service should be used by those who begin.
type Status string

// The states of services.
const (
	Active     Status = "active"
	Deprecated Status = "deprecated"
)

// UnmarshalText reads one of the states.
func (s *Status) UnmarshalText(text []byte) error {
	if _, err := spelling.Choose(text, string(Active), string(Deprecated)); err != nil {
		return err
	}
	*s = Status(text)
	return nil
}

// A Type says who defines what a service does.
type Type string

// The types of services.
const (
	SelfDefined      Type = "self-defined"
	DataspaceDefined Type = "dataspace-defined"
	FrameworkDefined Type = "framework-defined"
)

// UnmarshalText reads one of the types.
func (t *Type) UnmarshalText(text []byte) error {
	if _, err := spelling.Choose(text, string(SelfDefined), string(DataspaceDefined), string(FrameworkDefined)); err != nil {
		return err
	}
	*t = Type(text)
	return nil
}

// limited reports whether the service is shown to some bearers of a token only.
func (s Service) limited() bool { return len(s.Roles)+len(s.Dataspaces) > 0 }

// isFor reports whether a limited service is shown to a party.
func (s Service) isFor(party *ishare.Party, now time.Time) bool {
	lacksRole := func(role string) bool { return !party.HasRole(role, now) }
	isOutside := func(dataspace string) bool { return !party.MemberOf(dataspace, now) }
	return party.Compliant(now) == nil && !slices.ContainsFunc(s.Roles, lacksRole) && !slices.ContainsFunc(s.Dataspaces, isOutside)
}

// A Version says what a service complies with.
type Version struct {
	Frameworks []string `json:"compliesWithFrameworkVersions"` // empty: 3.0
	Dataspaces []string `json:"compliesWithDataspaceVersions"`
	Capability string   `json:"capabilityVersion"` // of the service itself; empty: 1.0
}

const frameworkVersion = "3.0"

// The services that the framework defines and that every provider has. Their identifiers are the
// operationIds of its OpenAPI description.
func frameworkDefined() []Service {
	version := Version{Frameworks: []string{frameworkVersion}, Capability: frameworkVersion}
	return []Service{
		{
			Identifier: "request-oauth-token", Title: "Access token",
			Description: "Gives an access token to a participant that signs for it.",
			EndpointURL: ishare.TokenPath, Type: FrameworkDefined, Version: version, Methods: []string{http.MethodPost},
		},
		{
			Identifier: "get-capabilities-token", Title: "Capabilities",
			Description: "Says which services this party offers.",
			EndpointURL: Path, Type: FrameworkDefined, Version: version, Methods: []string{http.MethodGet},
		},
	}
}

// An offer is our services, complete.
type offer struct{ public, restricted []Service }

func newOffer(c Config) (offer, error) {
	if u := c.URL; u == nil || !isAddress(u) || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return offer{}, errors.New("want the URL by which clients reach us, without user, query and fragment")
	}
	base := strings.TrimSuffix(c.URL.String(), "/")
	o := offer{public: slices.Concat(frameworkDefined(), c.Public), restricted: slices.Clone(c.Restricted)}
	seen := map[string]bool{}
	if slices.ContainsFunc(o.public, Service.limited) {
		return offer{}, errors.New("a public service is for everybody: only a restricted one can be for roles and data spaces")
	}
	for _, list := range [][]Service{o.public, o.restricted} {
		for i := range list {
			if err := list[i].complete(base); err != nil {
				return offer{}, fmt.Errorf("service %q: %w", list[i].Identifier, err)
			}
			if seen[list[i].Identifier] {
				return offer{}, fmt.Errorf("service %q is there twice, or is there by itself", list[i].Identifier)
			}
			seen[list[i].Identifier] = true
		}
	}
	return o, nil
}

// visibleTo are the restricted services that a party is shown. Its record is asked for only where it
// decides. A party that is not known is shown none that is limited. When the record cannot be had, that is an error:
// a list that lacks something would be a guess with our signature.
func (o offer) visibleTo(ctx context.Context, id ishare.PartyID, parties PartySource) ([]Service, error) {
	if !slices.ContainsFunc(o.restricted, Service.limited) {
		return o.restricted, nil
	}
	party, err := parties.Party(ctx, id)
	unknown := rule.IsUnknownParty(err)
	switch {
	case err != nil && !unknown:
		return nil, fmt.Errorf("the record of the caller: %w", err)
	case !unknown && party == nil:
		return nil, errors.New("the record of the caller: the source answered with none")
	}
	now := time.Now()
	return slices.DeleteFunc(slices.Clone(o.restricted), func(s Service) bool {
		return s.limited() && (unknown || !s.isFor(party, now))
	}), nil
}

func isAddress(u *url.URL) bool {
	return u.Hostname() != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// complete fills in what is empty, and refuses what makes no sense.
func (s *Service) complete(base string) error {
	if s.Identifier == "" {
		return errors.New("it has no identifier")
	}
	s.Title = cmp.Or(s.Title, s.Identifier)
	s.Status = cmp.Or(s.Status, Active)
	s.Type = cmp.Or(s.Type, SelfDefined)
	s.TokenEndpoint = cmp.Or(s.TokenEndpoint, ishare.TokenPath)
	s.Version.Capability = cmp.Or(s.Version.Capability, "1.0")
	if len(s.Version.Frameworks) == 0 {
		s.Version.Frameworks = []string{frameworkVersion}
	}
	switch {
	case !slices.Contains([]Status{Active, Deprecated}, s.Status):
		return errors.New("want a status that is active or deprecated")
	case !slices.Contains([]Type{FrameworkDefined, DataspaceDefined, SelfDefined}, s.Type):
		return errors.New("want a type that is framework-defined, dataspace-defined or self-defined")
	}
	return errors.Join(
		resolve("endpoint URL", &s.EndpointURL, base),
		resolve("token endpoint", &s.TokenEndpoint, base),
		resolve("endpoint description", &s.EndpointDescription, base),
	)
}

// resolve puts the base before a path. Only the description may be missing.
func resolve(what string, address *string, base string) error {
	if strings.HasPrefix(*address, "/") && !strings.HasPrefix(*address, "//") {
		*address = base + *address
	}
	u, err := url.Parse(*address)
	switch {
	case *address == "" && what == "endpoint description":
		return nil
	case err != nil || !isAddress(u):
		return fmt.Errorf("want an %s that is an http or https URL, or a path on this server", what)
	}
	return nil
}
