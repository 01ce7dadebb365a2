package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/internal/keyforms"
	"github.com/waybill-token/waybill/internal/regular"
)

// say writes a line to the error stream. Unlike the rest of a command, it may do so beside others.
func (c *command) say(format string, args ...any) {
	c.saying.Lock()
	defer c.saying.Unlock()
	fmt.Fprintf(c.err, format+"\n", args...)
}

// patience is how long nothing is said of what is waited for.
const patience = time.Second

// waiting says after a second what is waited for, unless the function that it returns was called before. Once that has
// returned, nothing more is said.
func (c *command) waiting(what string) (done func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-timer.C:
			if !c.paused.Load() { // which is told already
				c.say("waiting for %s", printable(what))
			}
		case <-stop:
		}
	}()
	return func() {
		close(stop)
		<-ended
	}
}

// sayPause tells of a pause between two token requests, unless it is short.
func (c *command) sayPause(because error, pause time.Duration) {
	if pause < patience {
		return
	}
	c.paused.Store(true)
	said := because.Error()
	if answer, ok := errors.AsType[*client.Error](because); ok {
		said = strings.TrimSpace(fmt.Sprintf("the server says %d %s", answer.Status, cmp.Or(answer.RuleID, answer.Code)))
	}
	c.say("%s; trying again in %s", printable(said), pause.Round(time.Second))
}

// A transport carries the requests of one command.
type transport struct {
	base    *http.Transport
	verbose *command // nil: nothing is told of them
}

// transport makes one that trusts the CAs of a file, or those of the system when none is named.
func (c *command) transport(ca string, verbose bool) (*transport, error) {
	t := &transport{base: client.NewTransport()}
	if verbose {
		t.verbose = c
	}
	if ca == "" {
		return t, nil
	}
	certificates, err := readCertificates(ca)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	t.base.TLSClientConfig.RootCAs = x509.NewCertPool()
	for _, certificate := range certificates {
		t.base.TLSClientConfig.RootCAs.AddCert(certificate)
	}
	return t, nil
}

// readCertificates reads the certificates of a file of any form.
func readCertificates(path string) ([]*x509.Certificate, error) {
	contents, err := readForms(path, "", keyforms.Whole, keyforms.Certificate)
	if err != nil {
		return nil, err
	}
	if len(contents.Certificates) == 0 {
		return nil, fmt.Errorf("%s: no certificate found: the file holds %s", path, contents.Instead())
	}
	return contents.Certificates, nil
}

// readForms reads a file of any form, of which these parts must be fit for use.
func readForms(path, password string, parts ...keyforms.Part) (*keyforms.Contents, error) {
	file, err := regular.OpenAny(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(file, keyforms.MaxSize+1))
	if err != nil {
		return nil, err
	}
	contents := keyforms.Read(data, keyforms.Source{Name: path, Password: password, PasswordFrom: passwordPlaces})
	for _, part := range parts {
		for _, fault := range contents.FaultsOf(part) {
			return nil, hintedError{fmt.Errorf("%s: %s", path, fault.Message), fault.Hint}
		}
	}
	return contents, nil
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.verbose == nil {
		return t.base.RoundTrip(r)
	}
	r, err := t.tellRequest(r)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	answer, err := t.base.RoundTrip(r)
	took := time.Since(began).Round(time.Millisecond)
	if err != nil {
		t.verbose.say("< no answer after %s: %s", took, printable(err.Error()))
		return nil, err
	}
	t.verbose.say("< %s %s after %s, %s", answer.Proto, printable(answer.Status), took, printable(cmp.Or(answer.Header.Get("Content-Type"), "of no media type")))
	if answer.TLS != nil {
		t.verbose.say("  %s", printable(peerOf(answer.TLS)))
	}
	return answer, nil
}

// tellRequest says what is sent: of header fields and of a form, the values that are no secret. It returns the request
// to send, whose body is whole.
func (t *transport) tellRequest(r *http.Request) (*http.Request, error) {
	shown := *r.URL
	shown.User = nil
	if shown.RawQuery != "" {
		shown.RawQuery = "…"
	}
	t.verbose.say("> %s %s", r.Method, printable(strings.ReplaceAll(shown.String(), "%E2%80%A6", "…")))
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		value := strings.Join(r.Header[name], ", ")
		if !slices.Contains([]string{"Accept", "Content-Type", "User-Agent"}, name) {
			value = fmt.Sprintf("(hidden, %d characters)", len(value))
		}
		t.verbose.say("  %s: %s", printable(name), printable(value))
	}
	if r.Body == nil || r.Body == http.NoBody || r.Header.Get("Content-Type") != formType {
		return r, nil
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("client_assertion") == "" {
		return r, nil //nolint:nilerr // what is no token request is nothing to tell of
	}
	for _, name := range slices.Sorted(maps.Keys(form)) {
		value := form.Get(name)
		if !slices.Contains([]string{"grant_type", "scope", "client_id", "client_assertion_type"}, name) {
			value = fmt.Sprintf("(hidden, %d characters)", len(value))
		}
		t.verbose.say("  %s=%s", printable(name), printable(value))
	}
	return r, nil
}

const formType = "application/x-www-form-urlencoded"

// peerOf is who answered, by TLS.
func peerOf(state *tls.ConnectionState) string {
	leaf := state.PeerCertificates[0] // a client always has one
	return fmt.Sprintf("%s, %s, certificate of %q, issued by %q, until %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite),
		leaf.Subject, leaf.Issuer, leaf.NotAfter.UTC().Format(time.DateOnly))
}
