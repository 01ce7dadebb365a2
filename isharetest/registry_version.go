package isharetest

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/tokenendpoint"
	"github.com/waybill-token/waybill/trust"
)

// Where a registry answers besides its token endpoint and its trusted list.
const (
	partiesPath      = "/parties"
	capabilitiesPath = "/capabilities"
)

// word spells a name of 3.0 as the registry's version does: trustedList is trusted_list in 2.x.
func (g *Registry) word(name string) string {
	if g.config.Version == registry.Version3 {
		return name
	}
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// statusPending is of 2.x only; see [Pending].
const statusPending = "pending"

// record3 is a record in the words of 3.0.
func record3(record *ishare.Party) *ishare.Party {
	pending := func(c ishare.Claim) bool { return c.Status == statusPending }
	if !slices.ContainsFunc(record.Claims, pending) {
		return record
	}
	record = clone(record)
	for i := range record.Claims {
		if pending(record.Claims[i]) {
			record.Claims[i].Status = "inactive"
		}
	}
	return record
}

// A register3 is a list in the words of 3.0, in which clients of every version are judged.
type register3 struct{ *List }

// Party returns the record of the party that goes by id.
func (r register3) Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	record, err := r.List.Party(ctx, id)
	if err != nil {
		return nil, err
	}
	return record3(record), nil
}

// adherences are the statuses of compliance in the words of 2.x, which knows no suspension.
var adherences = map[string]string{ //nolint:gochecknoglobals // a constant in all but syntax
	"active": "Active", statusPending: "Pending", "inactive": "NotActive", "suspended": "NotActive", "revoked": "Revoked",
}

// party is a record as the registry's version has it.
func (g *Registry) party(record *ishare.Party) any {
	if g.config.Version == registry.Version3 {
		return record3(record)
	}
	var registrar string
	adherence := Object{{"status", ""}, {"start_date", time.Time{}}, {"end_date", time.Time{}}}
	certificates, roles := []any{}, []any{}
	for _, c := range record.Claims {
		switch c.Type {
		case ishare.ClaimFrameworkCompliance:
			registrar = c.RegistrarID
			adherence = Object{{"status", cmp.Or(adherences[c.Status], c.Status)}, {"start_date", c.Start}, {"end_date", c.End}}
		case ishare.ClaimFrameworkRole:
			roles = append(roles, Object{{"role", c.RoleID}, {"start_date", c.Start}, {"end_date", c.End}, {"loa", c.LoA}})
		case ishare.ClaimX509Certificate:
			certificates = append(certificates, Object{
				{"subject_name", c.SubjectName},
				{"certificate_type", c.CertificateType},
				{"enabled_from", c.Start},
				{"x5c", c.X5C},
				{"x5t#s256", c.X5T},
			})
		}
	}
	return Object{
		{"party_id", record.ID},
		{"alsoKnownAs", record.AlsoKnownAs},
		{"party_name", record.Name},
		{"registrar_id", registrar},
		{"adherence", adherence},
		{"certificates", certificates},
		{"roles", roles},
	}
}

// Pages of a search (iSHARE 3.0, parties).
const (
	defaultPerPage = 10
	maxPerPage     = 100
	maxPage        = 1_000_000
)

var errPage = errors.New("a page is a number from 1, with at most 100 parties on it")

// A search is what a client looks for. Fields that are not set match everybody.
type search struct {
	id, alias     ishare.PartyID
	name          string // may hold one * for any text
	activeOnly    bool
	page, perPage int // pages count from 1
}

// parseSearch reads the query of GET /parties. In 2.x, eori became id with 2.1.
func (g *Registry) parseSearch(q url.Values) (s search, err error) {
	s = search{id: ishare.PartyID(q.Get("id")), name: q.Get("name")}
	if g.config.Version == registry.Version3 {
		s.alias = ishare.PartyID(q.Get("alsoKnownAs"))
	} else {
		s.id, s.activeOnly = cmp.Or(s.id, ishare.PartyID(q.Get("eori"))), q.Get("active_only") == "true"
	}
	number := func(name string, fallback, most int) int {
		text := cmp.Or(q.Get(name), strconv.Itoa(fallback))
		n, wrong := strconv.Atoi(text)
		if wrong != nil || n < 1 || n > most {
			err = errPage
		}
		return n
	}
	s.page, s.perPage = number("page", 1, maxPage), number(g.word("pageSize"), defaultPerPage, maxPerPage)
	return s, err
}

// find returns the page of those who are found, and how many there are on all pages.
func (s search) find(records []*ishare.Party) (page []*ishare.Party, total int) {
	found := slices.DeleteFunc(slices.Clone(records), func(record *ishare.Party) bool {
		return s.id != "" && !record.KnownAs(s.id) ||
			s.alias != "" && !slices.Contains(record.AlsoKnownAs, s.alias) ||
			s.name != "" && !matchesName(s.name, record.Name) ||
			s.activeOnly && record.Compliant(time.Now()) != nil
	})
	from := min((s.page-1)*s.perPage, len(found))
	return found[from:min(from+s.perPage, len(found))], len(found)
}

func matchesName(pattern, name string) bool {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == name
	}
	return len(name) >= len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
}

// trustedList is the list as the registry's version has it: 2.x begins words with a capital.
func (g *Registry) trustedList(list []TrustedCA) []any {
	spell := func(text string) string {
		if g.config.Version == registry.Version2 {
			return strings.ToUpper(text[:1]) + text[1:]
		}
		return text
	}
	items := []any{}
	for _, ca := range list {
		status := "granted"
		if ca.Withdrawn {
			status = "withdrawn"
		}
		items = append(items, Object{
			{"subject", ca.Certificate.Subject.String()},
			{g.word("certificateFingerprint"), strings.ToUpper(trust.FingerprintOf(ca.Certificate).String())},
			{"validity", spell("valid")},
			{"status", spell(status)},
		})
	}
	return items
}

// capabilitiesOf is what the registry can do: for everybody, and restricted to those who have a token.
func (g *Registry) capabilitiesOf(restricted bool) Object {
	public := []any{
		g.service("request-oauth-token", "Access token", tokenendpoint.Path, "POST"),
		g.service("get-capabilities-token", "Capabilities", capabilitiesPath, "GET"),
	}
	secured := []any{
		g.service("get-parties-list-token", "Parties", partiesPath, "GET"),
		g.service("get-trusted-list", "Trusted list", "/"+g.word("trustedList"), "GET"),
	}
	if g.config.Version == registry.Version3 {
		o := Object{{"publicServices", public}}
		if restricted {
			o.Add("restrictedServices", secured)
		}
		return o
	}
	features := []any{Object{{"public", public}}}
	if restricted {
		features = append(features, Object{{"restricted", secured}})
	}
	return Object{
		{"party_id", g.ID},
		{"ishare_roles", []any{Object{{"role", "iShareSatellite"}}}},
		{"supported_versions", []any{Object{{"version", "2.0"}, {"supported_features", features}}}},
	}
}

func (g *Registry) service(identifier, title, path, method string) Object {
	if g.config.Version == registry.Version2 {
		feature := strings.ToLower(title)
		return Object{
			{"id", strings.ReplaceAll(feature, " ", "-")},
			{"feature", feature},
			{"description", feature + " of " + g.config.Name},
			{"url", g.URL + path},
			{"token_endpoint", g.URL + tokenendpoint.Path},
		}
	}
	return Object{
		{"identifier", identifier},
		{"title", title},
		{"description", title + " of " + g.config.Name},
		{"endpointURL", g.URL + path},
		{"tokenEndpoint", g.URL + tokenendpoint.Path},
		{"status", "active"},
		{"serviceType", "framework-defined"},
		{"version", Object{{"compliesWithFrameworkVersions", []string{"3.0"}}, {"capabilityVersion", "3.0"}}},
		{"methods", []string{method}},
	}
}
