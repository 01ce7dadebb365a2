package console

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/waybill-token/waybill/internal/workbench"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/sandbox"
)

// A spaceView is who is there, how everything stands, and the last decisions.
type spaceView struct {
	Framework sandbox.Framework
	Freshness time.Duration
	Provider  partyView
	Services  []serviceView
	Parties   []partyView
	Decisions []decisionView // the latest first
	Start     string         // tells this start of the sandbox from others
	Next      uint64         // number of the next decision
	Most      int            // decisions that are remembered
	Address   string         // of the provider
}

// A serviceView is a server, or an authority, with a switch of its own.
type serviceView struct {
	Name    string
	Address string
	Asked   uint64
	Counts  bool // it is asked
	Fine    bool
	Switch  sandbox.Switch
	Quick   action
	Fixed   bool // there is nothing to set
}

// A partyView is a participant with its switches.
type partyView struct {
	sandbox.Participant

	Standing    sandbox.Switch
	Certificate sandbox.Switch
	Consumer    bool // may ask for a token
	Last        *decisionView
	Quick       []action
}

// An action is a button that turns a switch.
type action struct {
	ID     string // of the button, the same for doing and undoing
	Label  string
	Switch string
	Value  string
	Said   string // when it is done
}

// A decisionView is a decision in a line.
type decisionView struct {
	Number   uint64
	Time     time.Time
	Took     time.Duration
	Who      string
	Kind     string // token, refused, outage
	Outcome  string
	Sentence string
}

func (c *console) showSpace(w http.ResponseWriter, _ *http.Request) {
	c.show(w, http.StatusOK, "space", view{Title: "Data space", Path: "/", Page: c.spaceNow()})
}

func (c *console) spaceNow() spaceView {
	state := c.Sandbox.State()
	switches := map[string]sandbox.Switch{}
	for _, s := range state.Switches {
		switches[s.Name] = s
	}
	v := spaceView{
		Framework: state.Framework, Freshness: c.Sandbox.Freshness(), Most: sandbox.MaxDecisions, Start: c.start, Next: 1, Address: c.Sandbox.URL,
		Services: []serviceView{
			{Name: c.bench.Authority(), Fine: true, Switch: sandbox.Switch{Name: "ca", Value: "granted"}, Fixed: true},
			service("Participant Registry", state.Registry.URL, state.Asked.Tokens+state.Asked.Parties+state.Asked.TrustedLists+state.Asked.Capabilities, switches["registry"]),
			service("OCSP responder", "", state.Asked.OCSP, switches["ocsp"]),
			service("Revocation lists", "", state.Asked.CRL, switches["crl"]),
			authority(switches["other-ca"]),
		},
	}
	latest := map[string]*decisionView{}
	for _, d := range c.Sandbox.Decisions(0) {
		line := c.line(&d)
		latest[line.Who] = &line
		v.Decisions, v.Next = append(v.Decisions, line), d.Number+1
	}
	slices.Reverse(v.Decisions)
	for _, p := range c.Sandbox.Everybody {
		party := partyView{
			Participant: p, Standing: switches[p.Folder+".standing"], Certificate: switches[p.Folder+".certificate"],
			Consumer: c.isConsumer(p), Last: latest[p.Name],
		}
		party.Quick = []action{standingAction(&party), certificateAction(&party)}
		if p.Folder == c.Sandbox.Provider.Folder {
			v.Provider = party
		}
		v.Parties = append(v.Parties, party)
	}
	return v
}

func (c *console) isConsumer(p sandbox.Participant) bool {
	return p.ID != c.Sandbox.Provider.ID && p.ID != c.registry
}

// service is a server that can be stopped.
func service(name, address string, asked uint64, s sandbox.Switch) serviceView {
	v := serviceView{Name: name, Address: address, Asked: asked, Counts: true, Fine: s.Value == "normal", Switch: s}
	v.Quick = action{ID: "quick-" + s.Name, Label: "Stop", Switch: s.Name, Value: "off", Said: name + ": stopped"}
	if !v.Fine {
		v.Quick.Label, v.Quick.Value, v.Quick.Said = "Start", "normal", name+": answers as usual"
	}
	return v
}

// authority is the CA of the consumer that nobody trusts.
func authority(s sandbox.Switch) serviceView {
	v := serviceView{Name: "Another CA, of the untrusted consumer", Fine: s.Value == "granted", Switch: s}
	v.Quick = action{ID: "quick-" + s.Name, Label: "Grant", Switch: s.Name, Value: "granted", Said: "The other CA is granted"}
	if v.Fine {
		v.Quick.Label, v.Quick.Value, v.Quick.Said = "Withdraw", "withdrawn", "The other CA is withdrawn"
	}
	return v
}

func standingAction(p *partyView) action {
	a := action{ID: "quick-" + p.Standing.Name, Switch: p.Standing.Name, Label: "Suspend", Value: "suspended", Said: p.Name + " is suspended"}
	if p.Standing.Value != "active" {
		a.Label, a.Value, a.Said = "Reinstate", "active", p.Name+" is active"
	}
	return a
}

// certificateAction revokes a certificate so that it can be undone: one that is revoked for good stays so to who has noticed.
func certificateAction(p *partyView) action {
	a := action{ID: "quick-" + p.Certificate.Name, Switch: p.Certificate.Name, Label: "Revoke certificate", Value: "held", Said: "The certificate of " + p.Name + " is revoked"}
	if p.Certificate.Value != "registered" {
		a.Label, a.Value, a.Said = "Restore certificate", "registered", "The certificate of "+p.Name+" is registered and good"
	}
	return a
}

// line is a decision in a line.
func (c *console) line(d *sandbox.Decision) decisionView {
	v := decisionView{Number: d.Number, Time: d.Time, Took: d.Took.Round(10 * time.Microsecond), Who: c.who(d.ClientID()), Sentence: d.Sentence}
	switch {
	case d.Rule == nil:
		v.Kind, v.Outcome = "token", "a token"
	case slices.Contains(rule.Outages(), d.Rule):
		v.Kind, v.Outcome = "outage", d.Rule.ID
	default:
		v.Kind, v.Outcome = "refused", d.Rule.ID
	}
	return v
}

// maxWho is how much is shown of a client_id of nobody.
const maxWho = 60

// who is the name of the participant with this identifier, or the identifier.
func (c *console) who(id string) string {
	for _, p := range c.Sandbox.Everybody {
		if string(p.ID) == id {
			return p.Name
		}
		for _, alias := range p.AlsoKnownAs {
			if string(alias) == id {
				return p.Name
			}
		}
	}
	return cmp.Or(cut(id, maxWho), "without a client_id")
}

// cut is the beginning of what a stranger wrote, as it can be shown in a line.
func cut(s string, most int) string {
	shown := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, strings.ToValidUTF8(s[:min(len(s), most)], "\ufffd"))
	if len(s) > most {
		shown += "…"
	}
	return shown
}

// set turns a switch.
func (c *console) set(w http.ResponseWriter, r *http.Request) {
	if !c.form(w, r) {
		return
	}
	name := r.PostForm.Get("switch")
	if err := c.Sandbox.Set(name, r.PostForm.Get("value")); err != nil {
		c.problem(w, http.StatusBadRequest, "That cannot be set: "+err.Error()+".")
		return
	}
	http.Redirect(w, r, "/#"+anchorOf(name), http.StatusSeeOther) //nolint:gosec // there is such a switch
}

// anchorOf is where the page shows a switch that there is.
func anchorOf(name string) string {
	folder, _, ofParty := strings.Cut(name, ".")
	if !ofParty {
		return "of-service-" + name
	}
	return "of-" + folder
}

// undo puts every switch back.
func (c *console) undo(w http.ResponseWriter, r *http.Request) {
	c.Sandbox.Reset()
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// try has a participant ask for a token in the right way.
func (c *console) try(w http.ResponseWriter, r *http.Request) {
	if !c.form(w, r) {
		return
	}
	draft := c.bench.Preset(workbench.PresetRight, r.PostForm.Get("party"))
	draft.Party = r.PostForm.Get("party")
	made, err := c.bench.Make(draft)
	if err != nil {
		c.problem(w, http.StatusBadRequest, "That cannot be made: "+err.Error()+".")
		return
	}
	if _, err = made.Send(c.Sandbox.URL, false); err != nil {
		c.problem(w, http.StatusBadGateway, "The provider did not answer: "+err.Error()+".")
		return
	}
	http.Redirect(w, r, "/#decisions", http.StatusSeeOther)
}
