package workbench_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/internal/workbench"
	"github.com/waybill-token/waybill/sandbox"
)

// shared is the workbench of a sandbox that does not answer: its seals are all that is needed.
var shared = sync.OnceValues(func() (*workbench.Workbench, error) {
	s, err := sandbox.Open(context.Background(), sandbox.Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	w, err := workbench.New(s)
	return w, errors.Join(err, s.Run(ended)) // which gives everything back
})

func bench(tb testing.TB) *workbench.Workbench {
	tb.Helper()
	w, err := shared()
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// part decodes a part of an assertion.
func part(t *testing.T, assertion string, i int) string {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(strings.Split(assertion, ".")[i])
	if err != nil {
		t.Fatal(err)
	}
	return string(decoded)
}

// Marks become what they stand for, and what is none stays.
func TestMarks(t *testing.T) {
	w := bench(t)
	d := w.Draft("consumer")
	d.Claims = workbench.Fields{
		{Name: "a", Value: "{now}"},
		{Name: "b", Value: "{now+30}"},
		{Name: "c", Value: "{now-30}000"},
		{Name: "d", Value: `"{uuid}-{uuid}"`},
		{Name: "e", Value: "{chain}"},
		{Name: "f", Value: `["{x5c 1}", "{pem 0}", "{x5c 9}"]`},
		{Name: "g", Value: `{"now": "{later}"}`},
		{Name: "g", Value: `{"x5c": 1}`},
		{},
	}
	made, err := w.Make(d)
	if err != nil {
		t.Fatal(err)
	}
	claims := part(t, made.Assertion, 1)
	if claims != made.Claims {
		t.Errorf("signed is %s, told is %s", claims, made.Claims)
	}
	number := `(\d+)`
	text := regexp.MustCompile(`^\{"a":` + number + `,"b":` + number + `,"c":` + number + `,"d":"([0-9a-f-]{36})-([0-9a-f-]{36})","e":(\[.*\]),"f":(\[.*\]),"g":\{"now": "\{later\}"\},"g":\{"x5c": 1\}\}$`)
	found := text.FindStringSubmatch(claims)
	if found == nil {
		t.Fatalf("the claims are %s", claims)
	}
	var now, later, earlier int64
	for i, n := range []*int64{&now, &later, &earlier} {
		if err := json.Unmarshal([]byte(found[i+1]), n); err != nil {
			t.Fatal(err)
		}
	}
	if now != made.Time.Unix() || later != now+30 || earlier != (now-30)*1000 || found[4] != found[5] {
		t.Errorf("%d, %d, %d; %s, %s", now, later, earlier, found[4], found[5])
	}
	var chain, some []string
	if err := errors.Join(json.Unmarshal([]byte(found[6]), &chain), json.Unmarshal([]byte(found[7]), &some)); err != nil {
		t.Fatal(err)
	}
	if len(chain) != 4 || some[0] != chain[1] || !strings.HasPrefix(some[1], "-----BEGIN CERTIFICATE-----\n") || some[2] != "{x5c 9}" {
		t.Errorf("%d certificates, %q", len(chain), some)
	}
	for _, entry := range chain {
		der, err := base64.StdEncoding.DecodeString(entry)
		if err == nil {
			_, err = x509.ParseCertificate(der)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// Every choice makes an assertion, for every participant, and its chain names the participant or somebody else on purpose.
func TestEveryChoice(t *testing.T) {
	w := bench(t)
	for _, folder := range []string{"consumer", "untrusted-consumer", "roleless-consumer"} {
		seen := map[string]string{}
		for _, c := range workbench.Chains() {
			d := w.Draft(folder)
			d.Chain = c.Name
			made, err := w.Make(d)
			if err != nil {
				t.Errorf("%s, %s: %v", folder, c.Name, err)
				continue
			}
			header := part(t, made.Assertion, 0)
			if other := seen[header]; other != "" {
				t.Errorf("%s: %s is the same as %s", folder, c.Name, other)
			}
			seen[header] = c.Name
		}
	}
	signatures := map[string]bool{}
	for _, c := range workbench.Signers() {
		d := w.Draft("consumer")
		d.Signer = c.Name
		made, err := w.Make(d)
		if err != nil {
			t.Fatal(err)
		}
		signatures[part(t, made.Assertion, 2)] = true
	}
	if len(signatures) != len(workbench.Signers()) {
		t.Errorf("%d signatures", len(signatures))
	}
	for _, c := range workbench.Changes() {
		d := w.Draft("consumer")
		d.Change = c.Name
		if _, err := w.Make(d); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

// What there is not is refused.
func TestWrongDraft(t *testing.T) {
	w := bench(t)
	for want, change := range map[error][]func(*workbench.Draft){
		workbench.ErrNoParty: {func(d *workbench.Draft) { d.Party = "nobody" }},
		workbench.ErrNoChoice: {
			func(d *workbench.Draft) { d.Chain = "" }, func(d *workbench.Draft) { d.Signer = "" }, func(d *workbench.Draft) { d.Change = "" },
			func(d *workbench.Draft) { d.Way = "" },
		},
	} {
		for _, edit := range change {
			d := w.Draft("consumer")
			edit(&d)
			if _, err := w.Make(d); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
	}
	if d := w.Preset("nothing", "nobody"); d.Party != "provider" || d.Chain != "own" {
		t.Errorf("no preset for nobody: %+v", d)
	}
}

// Presets have names of their own, and one that is for a participant takes that one.
func TestPresetNames(t *testing.T) {
	w := bench(t)
	var names []string
	for _, p := range w.Presets() {
		if slices.Contains(names, p.Name) || p.About == "" || strings.HasSuffix(p.About, ".") {
			t.Errorf("preset %q, %q", p.Name, p.About)
		}
		names = append(names, p.Name)
	}
	if d := w.Preset("revoked-consumer", "consumer"); d.Party != "revoked-consumer" {
		t.Errorf("of %s", d.Party)
	}
	if d := w.Preset("kid", "former-consumer"); d.Party != "former-consumer" {
		t.Errorf("of %s", d.Party)
	}
}

// Whatever is written into a draft, something is made of it.
func FuzzMake(f *testing.F) {
	f.Add("kid", `"1"`, "{now}")
	f.Add("", "", "")
	f.Add("\xff", "\xff", "{now+999999999}{pem 3}{x5c -1}{chain}")
	f.Add("alg", `"RS512"`, "{uuid}")
	w := bench(f)
	f.Fuzz(func(t *testing.T, name, value, claim string) {
		d := w.Draft("consumer")
		d.Header.Set(name, value)
		d.Claims.Set(name, claim)
		d.Form.Set(name, value)
		made, err := w.Make(d)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(made.Assertion, ".") != 2 {
			t.Errorf("%q", made.Assertion)
		}
		d.Way = "json"
		if made, err = w.Make(d); err != nil {
			t.Fatal(err)
		}
		if body := made.Request.Body(); !jsontext.Value(body).IsValid(jsontext.AllowDuplicateNames(true)) {
			t.Errorf("%q is no JSON", body)
		}
	})
}
