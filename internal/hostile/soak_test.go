package hostile

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// A soak has every kind of client ask two servers for a long time, through reloads, outages, restarts and crashes, and
// its oracle hold each answer. One server asks a registry and the status services of the data space; the other reads its
// participants from a file and meets the catalogue of right and wrong requests of package isharetest.
type soak struct {
	*oracle

	space    *space
	front    *front
	living   *server // asks the data space
	filed    *server // reads a file
	attempts *isharetest.Attempts
	end      time.Time
	calm     time.Time // from when on nothing is restarted
	recovery time.Duration

	used    used
	revoked withdrawn
}

// used are requests that got a token and are to be sent again.
type used struct {
	mu       sync.Mutex
	requests []*isharetest.Request
}

// withdrawn are access tokens that were revoked.
type withdrawn struct {
	mu     sync.Mutex
	tokens []string
}

// No answer is wrong, either way, whatever happens around the server, and nothing grows.
func TestSoak(t *testing.T) {
	short := form(t)
	length, patience := 20*time.Minute, recovery
	if short {
		length, patience = 2*time.Minute, recoverySlow
	}
	s := &soak{oracle: newOracle(), space: newSpace(t), recovery: patience}
	s.front = newFront(t, s.space.Registry.URL)
	s.space.turn(t, "pending-consumer.standing", "active")
	s.stands("active")
	s.living = newServer(t, s.space.world, serverConfig{registry: s.front.url(), cache: time.Second})
	s.filed = s.newFiled(t)
	s.open(remembering)(young) // a first start knows as little of what was used before as one behind a crash
	s.warm(t)
	s.end = time.Now().Add(length)
	s.calm = time.Now().Add(length * 6 / 10)

	ctx, stop := context.WithDeadline(t.Context(), s.end)
	defer stop()
	var all sync.WaitGroup
	for name, actor := range s.actors() {
		all.Go(func() {
			for ctx.Err() == nil {
				actor.act(name)
				pause(ctx, actor.each)
			}
		})
	}
	growth := s.happen(ctx, t)
	all.Wait()
	requests := s.print()
	fmt.Fprintf(os.Stdout, "%d requests in %s, %d wrong; %s\n", requests, length, len(s.wrong), growth)
	for _, wrong := range s.wrong {
		t.Error(wrong)
	}
}

// newFiled starts the server for the catalogue.
func (s *soak) newFiled(t *testing.T) *server {
	t.Helper()
	ca := isharetest.NewCA()
	s.attempts = isharetest.NewAttempts(ca, isharetest.ProviderID)
	dir := t.TempDir()
	provider := ca.Party(isharetest.ProviderID, "Provider")
	seal := testca.Identity{Key: provider.Key, Chain: provider.Certificates}
	var records []*ishare.Party
	for _, p := range append(s.attempts.Parties(), provider) {
		records = append(records, p.Record)
	}
	files := map[string][]byte{"root.pem": ca.RootPEM(), "parties.json": must(json.Marshal(records))}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, chain := filepath.Join(dir, "key.pem"), filepath.Join(dir, "chain.pem")
	if err := seal.Save(key, chain); err != nil {
		t.Fatal(err)
	}
	return newServer(t, s.space.world, serverConfig{text: fmt.Sprintf(`
party: {id: %q, key: %q, certificates: %q}
participants: {file: %q}
trust: {anchors: [%q], revocation: off}
data: data
policy: {leeway: 1s, roles: [%s]}
`, isharetest.ProviderID, key, chain, filepath.Join(dir, "parties.json"), filepath.Join(dir, "root.pem"), isharetest.RoleServiceConsumer)})
}

// unsure is what becomes of whom the registry refused when it was asked last: no refusal while nobody can be asked.
var unsure = map[string]string{registryOut: "unavailable.registry"}

// cast are the parties of the data space, with what becomes of each, and what may become of it in a window.
var cast = []struct {
	folder, outcome string
	excuses         map[string]string
	each            time.Duration
}{
	{"consumer", served, nil, 50 * time.Millisecond},
	{"former-consumer", "party.not-active", unsure, 300 * time.Millisecond},
	{"suspended-consumer", "party.not-active", unsure, 300 * time.Millisecond},
	{"replaced-consumer", "party.certificate", unsure, 300 * time.Millisecond},
	{"revoked-consumer", "certificate.revoked", map[string]string{statusOut: "unavailable.revocation"}, 300 * time.Millisecond},
	{"unknown-consumer", "party.unknown", unsure, time.Second},
	{"untrusted-consumer", "chain.untrusted", unsure, 300 * time.Millisecond},
}

// warm lets the servers hear of everybody once.
func (s *soak) warm(t *testing.T) {
	t.Helper()
	for _, c := range cast {
		s.living.refuses(t, s.space.world, s.space.Seals[c.folder].party(), c.outcome)
	}
	s.living.refuses(t, s.space.world, s.space.Seals["pending-consumer"].party(), served)
	await(t, "the second server gives a token", func() bool {
		return told(send(s.filed.base, s.attempts.Consumer.Request(isharetest.ProviderID))) == served
	})
}

// An actor does something again and again.
type actor struct {
	each time.Duration
	act  func(name string)
}

func (s *soak) actors() map[string]actor {
	all := map[string]actor{
		"toggled":  {200 * time.Millisecond, s.toggled},
		"replayed": {200 * time.Millisecond, s.replay},
		"tokens":   {500 * time.Millisecond, s.withdraw},
		"attempts": {0, s.attempt},
		"junk":     {20 * time.Millisecond, s.junk},
	}
	for _, c := range cast {
		party := s.space.Seals[c.folder].party()
		all[c.folder] = actor{c.each, func(name string) {
			r := party.Request(s.space.Audience)
			s.ask(name, r, []string{c.outcome}, c.excuses)
		}}
	}
	for name, spoil := range spoilt {
		party := s.space.world.Consumer.party()
		all["wrong "+name] = actor{time.Second, func(actor string) {
			r := party.Request(s.space.Audience)
			spoil(r)
			s.ask(actor, r, []string{name}, nil)
		}}
	}
	return all
}

// spoilt are requests of the good client that break the rule.
var spoilt = map[string]func(*isharetest.Request){
	"claim.aud":      func(r *isharetest.Request) { r.Assertion.Payload.Set("aud", "did:ishare:EU.NL.NTRNL-99999999") },
	"claim.sub":      func(r *isharetest.Request) { r.Assertion.Payload.Set("sub", "did:ishare:EU.NL.NTRNL-99999999") },
	"claim.jti":      func(r *isharetest.Request) { r.Assertion.Payload.Delete("jti") },
	"claim.lifetime": func(r *isharetest.Request) { r.Assertion.Payload.Set("exp", time.Now().Unix()+60) },
	"claim.exp": func(r *isharetest.Request) {
		now := time.Now().Unix()
		r.Assertion.Payload.Set("iat", now-100)
		r.Assertion.Payload.Set("exp", now-70)
	},
	"jwt.alg":       func(r *isharetest.Request) { r.Assertion.Header.Set("alg", "none") },
	"jwt.signature": func(r *isharetest.Request) { r.Assertion.Sign = func(string) []byte { return make([]byte, 256) } },
	"request.scope": func(r *isharetest.Request) { r.Form.Set("scope", "openid") },
	"claim.iss":     func(r *isharetest.Request) { r.Form.Set("client_id", "did:ishare:EU.NL.NTRNL-99999999") },
}

// ask sends a request to the server of the data space and has the answer judged. Some of what got a token is kept.
func (s *soak) ask(name string, r *isharetest.Request, wanted []string, excuses map[string]string) {
	began := time.Now()
	body := r.Body()
	r.Rewrite = func(string) string { return body } // the same assertion when it is sent again
	a, err := send(s.living.base, r)
	s.judge(name, told(a, err), began, wanted, excuses)
	if told(a, err) == served && rand.IntN(4) == 0 {
		s.used.keep(r)
	}
}

func (u *used) keep(r *isharetest.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.requests) == 100 {
		u.requests = u.requests[1:]
	}
	u.requests = append(u.requests, r)
}

// toggled asks for the party whose standing changes.
func (s *soak) toggled(name string) {
	began := time.Now()
	a, err := send(s.living.base, s.space.Seals["pending-consumer"].party().Request(s.space.Audience))
	var wanted []string
	for _, standing := range s.standingIn(began, time.Now()) {
		wanted = append(wanted, map[string]string{"active": served, "suspended": "party.not-active"}[standing])
	}
	var excuses map[string]string
	if slices.Contains(wanted, "party.not-active") {
		excuses = unsure
	}
	s.judge(name, told(a, err), began, wanted, excuses)
}

// replay sends again what got a token before.
func (s *soak) replay(name string) {
	s.used.mu.Lock()
	if len(s.used.requests) == 0 {
		s.used.mu.Unlock()
		return
	}
	r := s.used.requests[rand.IntN(len(s.used.requests))]
	s.used.mu.Unlock()
	began := time.Now()
	a, err := send(s.living.base, r)
	wanted := []string{"jti.replayed"}
	if exp, _ := r.Assertion.Payload.Get("exp").(int64); time.Now().Unix() >= exp {
		wanted = append(wanted, "claim.exp")
	}
	s.judge(name, told(a, err), began, wanted, map[string]string{remembering: "unavailable.state"})
}

// withdraw gets a token, has it judged good, revokes it, and looks whether it and one from before stay revoked.
func (s *soak) withdraw(name string) {
	began := time.Now()
	a, err := send(s.living.base, s.space.world.Consumer.party().Request(s.space.Audience))
	s.judge(name+": given", told(a, err), began, []string{served}, nil)
	if told(a, err) != served {
		return
	}
	began = time.Now()
	s.judge(name+": good", s.forward(a.AccessToken), began, []string{"200"}, nil)
	began = time.Now()
	outcome := s.inner(http.MethodPost, "/revoke", "", url.Values{"token": {a.AccessToken}}.Encode())
	s.judge(name+": revoked", outcome, began, []string{"200"}, nil)
	if outcome != "200" {
		return
	}
	s.revoked.mu.Lock()
	if len(s.revoked.tokens) == 1000 {
		s.revoked.tokens = s.revoked.tokens[1:]
	}
	s.revoked.tokens = append(s.revoked.tokens, a.AccessToken)
	earlier := s.revoked.tokens[rand.IntN(len(s.revoked.tokens))]
	s.revoked.mu.Unlock()
	for _, token := range []string{a.AccessToken, earlier} {
		began = time.Now()
		s.judge(name+": revoked before", s.forward(token), began, []string{"401"}, nil)
	}
}

// forward asks forward-auth about a token.
func (s *soak) forward(token string) string { return s.inner(http.MethodGet, "/auth", token, "") }

// inner asks the internal listener, and gives the status.
func (s *soak) inner(method, path, token, body string) string {
	r := must(http.NewRequest(method, "http://"+s.living.inner+path, strings.NewReader(body)))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", isharetest.MediaType)
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	a, err := client.Do(r)
	if err != nil {
		return told(nil, err)
	}
	defer a.Body.Close()
	io.Copy(io.Discard, a.Body)
	return fmt.Sprint(a.StatusCode)
}

// attempt goes through the catalogue once.
func (s *soak) attempt(name string) {
	for _, attempt := range s.attempts.All() {
		if time.Now().After(s.end) {
			return
		}
		for _, r := range attempt.Requests() {
			began := time.Now()
			a, err := send(s.filed.base, r)
			outcome := told(a, err)
			wanted := []string{served}
			switch r.Expect {
			case nil:
			case rule.RequestSize: // whose client may still be sending when the connection is closed
				wanted = []string{r.Expect.ID, unreachable}
			default:
				wanted = []string{r.Expect.ID}
			}
			s.judge(name+"/"+attempt.String(), outcome, began, wanted, map[string]string{remembering: "unavailable.state"})
			if outcome != wanted[0] {
				break // what comes next is about what comes before
			}
		}
	}
}

// junk sends what is no request, and hangs up.
func (s *soak) junk(string) {
	c, err := dial(s.living.public)
	if err != nil {
		return
	}
	defer c.Close()
	texts := []string{"\x16\x03\x01junk", head + "Content-Length: 4\r\n\r\njunk", head + "Content-Length: 4000\r\n\r\nhalf", framed + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n"}
	io.WriteString(c, texts[rand.IntN(len(texts))])
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	io.Copy(io.Discard, c)
}
