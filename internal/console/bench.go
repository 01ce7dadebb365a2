package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/explain"
	"github.com/waybill-token/waybill/internal/workbench"
	"github.com/waybill-token/waybill/sandbox"
)

// Bounds of a draft.
const (
	maxFields = 40 // of the header, and of the claims
	spare     = 2  // empty fields for more
)

// A benchView is the workbench with a draft on it, and what became of it.
type benchView struct {
	Draft    workbench.Draft
	Preset   string
	Groups   []presetGroup
	Parties  []sandbox.Participant
	Chains   []workbench.Choice
	Signers  []workbench.Choice
	Changes  []workbench.Choice
	Ways     []workbench.Choice
	Marks    []workbench.Mark
	Form     []fieldView
	Header   []fieldView
	Claims   []fieldView
	Endpoint string
	Result   *benchResult // nil: nothing was made yet
}

// A presetGroup is the presets of the rules of a group.
type presetGroup struct {
	Name    string
	Presets []workbench.Preset
}

// A fieldView is a field with what it is called for who does not see it.
type fieldView struct {
	workbench.Field

	Kind, ID, NameID, Label string
}

// A benchResult is what became of a draft.
type benchResult struct {
	Answer   *workbench.Answer // nil: it was not sent
	View     *explain.View
	Commands []commandView
}

// A commandView is a command to copy.
type commandView struct{ ID, About, Text string }

func (c *console) showWorkbench(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	preset := query.Get("preset")
	if preset == "" {
		preset = workbench.PresetRight
	}
	draft := c.bench.Preset(preset, orDefault(query.Get("party"), c.Sandbox.Consumer.Folder))
	c.showDraft(w, draft, preset, nil)
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (c *console) showDraft(w http.ResponseWriter, d workbench.Draft, preset string, result *benchResult) {
	v := benchView{
		Draft: d, Preset: preset, Groups: c.groups(), Chains: workbench.Chains(), Signers: workbench.Signers(), Changes: workbench.Changes(), Ways: workbench.Ways(),
		Marks: workbench.Marks(), Form: fieldViews("form", d.Form), Header: fieldViews("header", d.Header), Claims: fieldViews("claim", d.Claims),
		Endpoint: c.Sandbox.URL, Result: result,
	}
	for _, p := range c.Sandbox.Everybody {
		if c.isConsumer(p) {
			v.Parties = append(v.Parties, p)
		}
	}
	c.show(w, http.StatusOK, "workbench", view{Title: "Workbench", Path: "/workbench", Page: v})
}

// groups are the presets by the groups of their rules.
func (c *console) groups() []presetGroup {
	var groups []presetGroup
	for i, p := range c.bench.Presets() {
		name := "Whole requests"
		if i > 1 {
			group, _, _ := strings.Cut(p.Rule.ID, ".")
			name = "Break a rule of " + group
		}
		if n := len(groups); n > 0 && groups[n-1].Name == name {
			groups[n-1].Presets = append(groups[n-1].Presets, p)
			continue
		}
		groups = append(groups, presetGroup{name, []workbench.Preset{p}})
	}
	return groups
}

func fieldViews(kind string, fields workbench.Fields) []fieldView {
	all := append(slices.Clone(fields), make(workbench.Fields, spare)...)
	views := make([]fieldView, len(all))
	for i, f := range all {
		number := strconv.Itoa(i + 1)
		label := kind + " " + number
		if f.Name != "" {
			label = cut(f.Name, maxWho)
		}
		views[i] = fieldView{Field: f, Kind: kind, ID: kind + "-value-" + number, NameID: kind + "-name-" + number, Label: label}
	}
	return views
}

// draftOf reads the draft that a form holds, or says what is wrong with it.
func draftOf(form url.Values) (d workbench.Draft, problem string) {
	fields := func(names, values []string) workbench.Fields {
		var all workbench.Fields
		for i, name := range names {
			if name != "" || values[i] != "" {
				all = append(all, workbench.Field{Name: name, Value: values[i]})
			}
		}
		return all
	}
	for _, kind := range []string{"form", "header", "claim"} {
		if n := len(form[kind+"-name"]); n != len(form[kind+"-value"]) || n > maxFields+spare {
			return d, "A draft has at most " + strconv.Itoa(maxFields) + " fields of a kind, each with a name and a value."
		}
	}
	return workbench.Draft{
		Party: form.Get("party"), Form: fields(form["form-name"], form["form-value"]),
		Header: fields(form["header-name"], form["header-value"]), Claims: fields(form["claim-name"], form["claim-value"]),
		Chain: form.Get("chain"), Signer: form.Get("signer"), Change: form.Get("change"), Way: form.Get("way"), Twice: form.Get("twice") != "",
	}, ""
}

func (c *console) useWorkbench(w http.ResponseWriter, r *http.Request) {
	if !c.form(w, r) {
		return
	}
	d, problem := draftOf(r.PostForm)
	if problem != "" {
		c.problem(w, http.StatusBadRequest, problem)
		return
	}
	made, err := c.bench.Make(d)
	if err != nil {
		c.problem(w, http.StatusBadRequest, "That cannot be made: "+err.Error()+".")
		return
	}
	result := &benchResult{Commands: c.commands(d, made)}
	var body []byte
	if !made.Request.InURL {
		body = []byte(made.Request.Body())
	}
	in := explain.OfRequest(made.Request.HTTP(c.Sandbox.URL), body)
	if r.PostForm.Get("do") == "send" {
		if result.Answer, err = made.Send(c.Sandbox.URL, d.Twice); err != nil {
			c.problem(w, http.StatusBadGateway, "The provider did not answer: "+err.Error()+".")
			return
		}
		result.View = c.decided(r.Context(), in, made.Time, result.Answer.Rule, result.Answer.Sentence)
	} else if result.View, err = c.judge(r.Context(), in, made.Time); err != nil {
		c.problem(w, http.StatusInternalServerError, "That cannot be judged: "+err.Error()+".")
		return
	}
	c.showDraft(w, d, r.PostForm.Get("preset"), result)
}

// commands do the same from a shell, and what would be right.
func (c *console) commands(d workbench.Draft, made *workbench.Made) []commandView {
	words := []string{"curl --silent --show-error " + quote(c.Sandbox.URL+"/connect/token")}
	if made.Request.InURL {
		words[0] += " --get"
	}
	if made.Request.Rewrite != nil {
		words = append(words, "--header "+quote("Content-Type: "+made.Request.Header.Get("Content-Type")), "--data-raw "+quote(made.Request.Body()))
	} else {
		for _, p := range made.Request.Form {
			words = append(words, "--data-urlencode "+quote(url.QueryEscape(p.Name)+"="+p.Value)) // curl sends the name as it is
		}
	}
	curl := strings.Join(words, " \\\n  ")
	explain := "printf %s " + quote(made.Assertion) + " |\n  " + c.Command + " explain --config " + quote(c.Sandbox.ConfigFile) +
		" --at " + made.Time.UTC().Format(time.RFC3339)
	commands := []commandView{
		{"command-curl", "Send this request with curl. The assertion is good for half a minute, and once.", curl},
		{"command-explain", "Have this assertion explained on the command line.", explain},
	}
	for _, p := range c.Sandbox.Everybody {
		if p.Folder == d.Party {
			commands = append(commands, commandView{
				"command-token", "Get a token for this participant in the right way.",
				c.Command + " token --server " + quote(c.Sandbox.URL) + " --audience " + quote(string(c.Sandbox.Provider.ID)) +
					" \\\n  --client-id " + quote(string(p.ID)) + " --key " + quote(p.KeyFile) + " --certificates " + quote(p.ChainFile),
			})
		}
	}
	return commands
}
