package sandbox_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waybill-token/waybill/sandbox"
)

func getAny(t *testing.T, address string) (status int, body []byte) {
	t.Helper()
	response, err := plain().Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body
}

// order sends a request to the control API and returns the status.
func (s *space) order(t *testing.T, method, path, body string, header map[string]string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.State().Control+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	if host, ok := header["Host"]; ok {
		request.Host = host
	}
	response, err := plain().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// value is where a switch stands.
func value(t *testing.T, state sandbox.State, name string) string {
	t.Helper()
	i := slices.IndexFunc(state.Switches, func(s sandbox.Switch) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("there is no switch %s", name)
	}
	return state.Switches[i].Value
}

// TestControlOrders with everything that a page of another site could send, and
// what is no order.
func TestControlOrders(t *testing.T) {
	t.Parallel()
	s := start(t)
	u, err := url.Parse(s.State().Control)
	if err != nil {
		t.Fatal(err)
	}
	own := "http://" + u.Host
	const path, body = "/switches/consumer.standing", `{"value":"suspended"}`
	for _, c := range []struct {
		name       string
		method     string
		path, body string
		header     map[string]string
		want       int
	}{
		{"not from a browser", http.MethodPut, path, body, nil, http.StatusOK},
		{"by name", http.MethodPut, path, body, map[string]string{"Host": "localhost:" + u.Port()}, http.StatusOK},
		{"own page", http.MethodPut, path, body, map[string]string{"Origin": own, "Sec-Fetch-Site": "same-origin"}, http.StatusOK},
		{"with a charset", http.MethodPut, path, body, map[string]string{"Content-Type": "application/json; charset=utf-8"}, http.StatusOK},
		{"reset", http.MethodPost, "/reset", "{}", nil, http.StatusOK},
		{"state", http.MethodGet, "/state", "", nil, http.StatusOK},

		{"page of another site", http.MethodPut, path, body, map[string]string{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, http.StatusForbidden},
		{"older browser", http.MethodPut, path, body, map[string]string{"Origin": "http://evil.example"}, http.StatusForbidden},
		{"another port of this machine", http.MethodPut, path, body, map[string]string{"Origin": "http://127.0.0.1:1"}, http.StatusForbidden},
		{"sandboxed frame", http.MethodPost, "/reset", "{}", map[string]string{"Origin": "null"}, http.StatusForbidden},
		{"form", http.MethodPost, "/reset", "", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, http.StatusUnsupportedMediaType},
		{"plain text", http.MethodPost, "/reset", "{}", map[string]string{"Content-Type": "text/plain"}, http.StatusUnsupportedMediaType},
		{"no type", http.MethodPost, "/reset", "{}", map[string]string{"Content-Type": ""}, http.StatusUnsupportedMediaType},
		{"name that leads here", http.MethodGet, "/state", "", map[string]string{"Host": "evil.example:" + u.Port()}, http.StatusMisdirectedRequest},
		{"name without port", http.MethodGet, "/state", "", map[string]string{"Host": "localhost"}, http.StatusMisdirectedRequest},
		{"rebound, same origin", http.MethodPut, path, body, map[string]string{"Host": "evil.example", "Origin": "http://evil.example"}, http.StatusMisdirectedRequest},

		{"no such switch", http.MethodPut, "/switches/nothing", body, nil, http.StatusNotFound},
		{"no such position", http.MethodPut, path, `{"value":"sleepy"}`, nil, http.StatusBadRequest},
		{"no JSON", http.MethodPut, path, `value=suspended`, nil, http.StatusBadRequest},
		{"unknown member", http.MethodPut, path, `{"value":"active","more":1}`, nil, http.StatusBadRequest},
		{"too long", http.MethodPut, path, `{"value":"` + strings.Repeat("x", 8<<10) + `"}`, nil, http.StatusBadRequest},
		{"other method", http.MethodDelete, path, body, nil, http.StatusMethodNotAllowed},
		{"switch by GET", http.MethodGet, path, "", nil, http.StatusMethodNotAllowed},
		{"other path", http.MethodGet, "/", "", nil, http.StatusNotFound},
	} {
		s.Reset()
		if got := s.order(t, c.method, c.path, c.body, c.header); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		turned := value(t, s.State(), "consumer.standing") == "suspended"
		if want := c.want == http.StatusOK && c.path == path; turned != want {
			t.Errorf("%s: the switch was turned: %t, want %t", c.name, turned, want)
		}
	}
}

// exceptTally compares states but for what was asked: the provider asks when it likes.
var exceptTally = cmpopts.IgnoreFields(sandbox.State{}, "Asked")

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := sandbox.Find(dir); !errors.Is(err, sandbox.ErrNotRunning) {
		t.Errorf("before: %v", err)
	}
	s := startIn(t, dir)
	r, err := sandbox.Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	state, err := r.Set(t.Context(), "consumer.certificate", "held")
	if err != nil || value(t, *state, "consumer.certificate") != "held" {
		t.Errorf("Set = %v, %v", state, err)
	}
	if state, err = r.State(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.State(), *state, exceptTally); diff != "" {
		t.Errorf("State (-want +got):\n%s", diff)
	}
	if state, err = r.Reset(t.Context()); err != nil || value(t, *state, "consumer.certificate") != "registered" {
		t.Errorf("Reset = %v, %v", state, err)
	}
	if _, err := r.Set(t.Context(), "nothing", "held"); !errors.Is(err, sandbox.ErrNoSwitch) || errors.Is(err, sandbox.ErrNoChoice) {
		t.Errorf("no such switch: %v", err)
	}
	if _, err := r.Set(t.Context(), "consumer.certificate", "lost"); !errors.Is(err, sandbox.ErrNoChoice) {
		t.Errorf("no such position: %v", err)
	}
	s.stop()
	if _, err := r.State(t.Context()); !errors.Is(err, sandbox.ErrNotRunning) {
		t.Errorf("after, asked: %v", err)
	}
	if _, err := sandbox.Find(dir); !errors.Is(err, sandbox.ErrNotRunning) {
		t.Errorf("after: %v", err)
	}
}

// TestEverySwitchTurns to every position that it names, and back.
func TestEverySwitchTurns(t *testing.T) {
	t.Parallel()
	s := start(t)
	before := s.State()
	for _, w := range before.Switches {
		if w.About == "" || !slices.Contains(w.Choices, w.Value) {
			t.Errorf("%+v", w)
		}
		for _, choice := range w.Choices {
			s.set(t, w.Name, choice)
			if got := value(t, s.State(), w.Name); got != choice {
				t.Errorf("%s: %s, want %s", w.Name, got, choice)
			}
		}
	}
	s.Reset()
	if diff := cmp.Diff(before, s.State(), exceptTally); diff != "" {
		t.Errorf("after Reset (-want +got):\n%s", diff)
	}
}

// TestRestart that everything is in the same place, and as it was in the beginning.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, dir)
	before := s.State()
	key := read(t, s.Consumer.KeyFile)
	s.set(t, "registry", "off")
	s.stop()
	s = startIn(t, dir)
	after := s.State()
	before.Provider.URL = after.Provider.URL // on a free port each time
	if diff := cmp.Diff(before, after, exceptTally); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	if !bytes.Equal(key, read(t, s.Consumer.KeyFile)) {
		t.Error("the consumer has another key")
	}
	if err := s.checkRevocation(t, s.Consumer); err != nil {
		t.Errorf("the status services are not where the certificates say: %v", err)
	}
}

func TestFrameworkChangesWithARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, dir)
	s.stop()
	s = startIn(t, dir, framework2)
	if s.Provider.ID != "EU.EORI.NL000000000" || s.State().Framework != sandbox.Framework2 {
		t.Errorf("provider %s, framework %s", s.Provider.ID, s.State().Framework)
	}
	s.payload(t, "/parties/"+string(s.Consumer.ID))
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	open := func(dir string, change func(*sandbox.Config)) error {
		c := sandbox.ConfigForTest(dir)
		if change != nil {
			change(&c)
		}
		_, err := sandbox.Open(t.Context(), c)
		return err
	}
	dir := t.TempDir()
	s := startIn(t, dir)
	if err := open(dir, nil); err == nil || !strings.Contains(err.Error(), "is running in "+dir) {
		t.Errorf("in the folder of another: %v", err)
	}
	if _, err := sandbox.Find(dir); err != nil {
		t.Errorf("the one that runs cannot be found any more: %v", err)
	}
	if err := open(t.TempDir(), func(c *sandbox.Config) { c.Framework = "4" }); err == nil || !strings.Contains(err.Error(), `"4"`) {
		t.Errorf("framework 4: %v", err)
	}
	taken := t.TempDir()
	if err := os.WriteFile(filepath.Join(taken, "addresses.json"), []byte(`{"ocsp":"`+strings.TrimPrefix(s.State().Control, "http://")+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(taken, nil); err == nil || !strings.Contains(err.Error(), "the certificates name") {
		t.Errorf("status services' place is taken: %v", err)
	}
	s.stop()
	if err := os.Remove(filepath.Join(dir, "addresses.json")); err != nil {
		t.Fatal(err)
	}
	if err := open(dir, nil); err == nil || !strings.Contains(err.Error(), "remove the folder") {
		t.Errorf("status services somewhere else: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "addresses.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(dir, nil); err == nil || !strings.Contains(err.Error(), "addresses.json") {
		t.Errorf("broken addresses: %v", err)
	}
}
