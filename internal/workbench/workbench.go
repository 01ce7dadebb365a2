// Package workbench puts assertions together by hand, right ones and wrong ones, for the participants of a sandbox: a [Draft]
// holds every member of the header and the claims as a text that can be edited, which chain goes along, and which key signs.
// A [Preset] is a draft that breaks one rule.
//
// Its purpose includes forgery: with the key of the sandbox's CA it issues certificates that no CA should. Nothing of it may
// be trusted elsewhere.
package workbench

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/sandbox"
)

// A Field is a member of the header or the claims, whose value is written as JSON, right or wrong, or a parameter of the form,
// whose value is written as it is. Both may hold marks: see [Marks].
type Field struct{ Name, Value string }

// Fields are the members of an object, or the parameters of a form, in their order. A name may occur twice.
type Fields []Field

// Set replaces the value of the first field with this name, or adds a field behind the others.
func (f *Fields) Set(name, value string) {
	i := slices.IndexFunc(*f, func(field Field) bool { return field.Name == name })
	if i < 0 {
		*f = append(*f, Field{name, value})
		return
	}
	(*f)[i].Value = value
}

// Delete removes every field with this name.
func (f *Fields) Delete(name string) {
	*f = slices.DeleteFunc(*f, func(field Field) bool { return field.Name == name })
}

// A Draft is a token request before it is made.
type Draft struct {
	Party  string // folder of the participant
	Form   Fields
	Header Fields
	Claims Fields
	Chain  string // name of one of [Chains]
	Signer string // name of one of [Signers]
	Change string // name of one of [Changes], made after signing
	Way    string // name of one of [Ways], in which the form is sent
	Twice  bool   // the same request is sent before
}

// A Choice is one of several things that a draft can have.
type Choice struct{ Name, About string }

// A Mark stands for something that is not known before the assertion is made.
type Mark struct{ Text, About string }

// Marks are replaced in the values of fields.
func Marks() []Mark {
	return []Mark{
		{"{now}", "the time, in seconds since 1970"},
		{"{now+30}", "so many seconds later; {now-30} is earlier"},
		{"{uuid}", "a new UUID, without quotes"},
		{"{chain}", "the certificates chosen below, as an array for x5c"},
		{"{x5c 0}", "one of them, by its number from 0, without quotes"},
		{"{pem 0}", "the same as a PEM text, without quotes"},
		{isharetest.Signed, "the assertion, alone in a parameter of the form"},
	}
}

var marks = regexp.MustCompile(`\{(now|uuid|chain|x5c|pem)( ?[+-]?[0-9]{1,9})?\}`)

// A Workbench makes the assertions of the participants of a sandbox. It is safe for concurrent use.
type Workbench struct {
	provider sandbox.Participant
	parties  []sandbox.Participant
	seals    map[string]*testca.Identity // by folder
	renewed  map[string]*testca.Identity // as well: the newer seals
	ca       *testca.CA
	presets  []Preset
}

// New reads the seals and the CA of a sandbox.
func New(s *sandbox.Sandbox) (*Workbench, error) {
	w := &Workbench{
		provider: s.Provider, parties: s.Everybody,
		seals: map[string]*testca.Identity{}, renewed: map[string]*testca.Identity{},
	}
	var err error
	if w.ca, err = testca.Load(s.CAFolder, testca.Config{}); err != nil {
		return nil, fmt.Errorf("workbench: %w", err)
	}
	for _, p := range w.parties {
		if w.seals[p.Folder], err = testca.LoadIdentity(p.KeyFile, p.ChainFile); err != nil {
			return nil, fmt.Errorf("workbench: %w", err)
		}
		if w.renewed[p.Folder], err = testca.LoadIdentity(p.KeyFile, p.RenewedFile); err != nil {
			return nil, fmt.Errorf("workbench: %w", err)
		}
	}
	w.presets = w.makePresets(s.URL + ishare.TokenPath)
	return w, nil
}

// Authority is the name of the CA that issued the seals of everybody but the untrusted.
func (w *Workbench) Authority() string {
	return w.ca.Authority(testca.Root).Certificate().Subject.CommonName
}

// party finds a participant by its folder.
func (w *Workbench) party(folder string) (sandbox.Participant, bool) {
	i := slices.IndexFunc(w.parties, func(p sandbox.Participant) bool { return p.Folder == folder })
	if i < 0 {
		return sandbox.Participant{}, false
	}
	return w.parties[i], true
}

// Draft is the right request of a participant; of the first one when there is none with that folder.
func (w *Workbench) Draft(folder string) Draft {
	p, ok := w.party(folder)
	if !ok {
		p = w.parties[0]
	}
	id := textOf(string(p.ID))
	return Draft{
		Party: p.Folder,
		Form: Fields{
			{"grant_type", isharetest.GrantType},
			{"scope", ishare.ScopeISHARE},
			{"client_id", string(p.ID)},
			{"client_assertion_type", isharetest.AssertionType},
			{"client_assertion", isharetest.Signed},
		},
		Header: Fields{{"alg", `"RS256"`}, {"typ", `"JWT"`}, {"x5c", "{chain}"}},
		Claims: Fields{
			{"iss", id},
			{"sub", id},
			{"aud", textOf(string(w.provider.ID))},
			{"jti", `"{uuid}"`},
			{"iat", "{now}"},
			{"exp", "{now+30}"},
		},
		Chain: Chains()[0].Name, Signer: Signers()[0].Name, Change: Changes()[0].Name, Way: Ways()[0].Name,
	}
}

// textOf is a JSON string.
func textOf(s string) string {
	b, err := json.Marshal(strings.ToValidUTF8(s, "\ufffd"))
	if err != nil {
		return `""` // which does not happen
	}
	return string(b)
}

// A Made assertion is what became of a draft.
type Made struct {
	Assertion string
	Header    string // as it was signed
	Claims    string // likewise
	Request   isharetest.Request
	Time      time.Time
}

// Errors of [Workbench.Make].
var (
	ErrNoParty  = errors.New("there is no such participant")
	ErrNoChoice = errors.New("there is no such choice")
)

// Make makes the assertion of a draft at this moment. The error wraps [ErrNoParty] or [ErrNoChoice].
func (w *Workbench) Make(d Draft) (*Made, error) {
	if _, ok := w.party(d.Party); !ok {
		return nil, fmt.Errorf("%w: %.40q", ErrNoParty, d.Party)
	}
	id, err := w.chain(d)
	if err != nil {
		return nil, err
	}
	sign, err := w.signer(d, id)
	if err != nil {
		return nil, err
	}
	change, err := changeNamed(d.Change)
	if err != nil {
		return nil, err
	}
	made := &Made{Time: time.Now(), Request: isharetest.Request{
		Method: http.MethodPost, Path: isharetest.TokenPath, Header: http.Header{"Content-Type": {isharetest.MediaType}},
	}}
	replace := newReplacer(made.Time, id.Chain)
	header, claims := objectOf(d.Header, replace), objectOf(d.Claims, replace)
	made.Header, made.Claims = header.String(), claims.String()
	a := isharetest.Assertion{Header: header, Payload: claims, Key: id.Key, Sign: sign, Rewrite: change}
	made.Assertion = a.Compact()
	for _, f := range d.Form.given() {
		value := replace(f.Value)
		if value == isharetest.Signed {
			value = made.Assertion
		}
		made.Request.Form.Add(f.Name, value)
	}
	return made, takeWay(d.Way, &made.Request)
}

// given are the fields that somebody has filled in.
func (f *Fields) given() Fields {
	return slices.DeleteFunc(slices.Clone(*f), func(field Field) bool { return field == Field{} })
}

func objectOf(fields Fields, replace func(string) string) isharetest.Object {
	var o isharetest.Object
	for _, f := range fields.given() {
		o.Add(strings.ToValidUTF8(f.Name, "\ufffd"), isharetest.Raw(replace(f.Value)))
	}
	return o
}

// newReplacer makes what takes marks out of a value. The same mark means the same in each.
func newReplacer(now time.Time, chain []*x509.Certificate) func(string) string {
	id := newUUID()
	entry := func(argument string) *x509.Certificate {
		i, err := strconv.Atoi(strings.TrimSpace(cmp.Or(argument, "0")))
		if err != nil || i < 0 || i >= len(chain) {
			return nil
		}
		return chain[i]
	}
	return func(value string) string {
		return marks.ReplaceAllStringFunc(value, func(mark string) string {
			parts := marks.FindStringSubmatch(mark)
			switch what, argument := parts[1], parts[2]; {
			case what == "now":
				offset, _ := strconv.ParseInt(strings.TrimSpace(cmp.Or(argument, "0")), 10, 64) // of which there are few digits
				return strconv.FormatInt(now.Unix()+offset, 10)
			case what == "uuid":
				return id
			case what == "chain":
				b, err := json.Marshal(isharetest.X5C(chain...))
				if err != nil {
					return mark
				}
				return string(b)
			case entry(argument) == nil:
				return mark
			case what == "x5c":
				return base64.StdEncoding.EncodeToString(entry(argument).Raw)
			default:
				text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: entry(argument).Raw})
				return strings.Trim(textOf(string(text)), `"`)
			}
		})
	}
}
