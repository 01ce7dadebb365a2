package probe

import (
	"cmp"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/internal/loopback"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/ishare"
)

// Limits of a run.
const (
	DefaultPause = 100 * time.Millisecond

	// atOnceCopies is how many copies of an assertion are sent at once, in the one case about that.
	atOnceCopies = 20

	requestTimeout = 20 * time.Second
	maxRequests    = 500
	maxSilence     = 5                // requests in a row that are not answered
	maxAttempts    = 4                // of a request while the server wants to be asked later
	maxDeferral    = time.Minute      // for which it may ask each time
	maxDeferred    = 3                // requests in a row to which it says nothing else
	maxWaited      = 30 * time.Minute // for such a server, in a whole run
)

// Config says what to probe, and with what.
type Config struct {
	// Server is the server's base URL; the token endpoint is taken to be at /connect/token below it. It need not be
	// set when TokenEndpoint is, but the cases about metadata and capabilities are skipped then.
	Server string
	// TokenEndpoint is the URL of the token endpoint, for a server that has it in another place. Optional.
	TokenEndpoint string
	// Audience is the server's party identifier.
	Audience ishare.PartyID
	// Seal is that of a participant in good standing, which the server accepts.
	Seal Seal
	// Scope is what right requests ask for: iSHARE unless set. Optional.
	Scope ishare.Scope
	// TestSeals are of a CA that the server trusts. Optional.
	TestSeals *TestSeals
	// Revoked is a seal that is revoked, and Inactive that of a participant who is not active. Optional.
	Revoked, Inactive *Seal
	// SecuredURL is asked with GET and access tokens. Optional.
	SecuredURL string
	// Only selects cases, as [Select] does. [RightCase] is always among them. Optional.
	Only []string
	// Pause is how long to wait before each request: [DefaultPause] unless set; less than nothing is no pause. Optional.
	Pause time.Duration
	// Wait is how long the run may wait in the end, until an access token has expired; what becomes of that is not tried
	// unless it is long enough. Optional.
	Wait time.Duration
	// Transport carries the requests: that of package client unless set. It must not repeat a POST by itself. Optional.
	Transport http.RoundTripper
	// UserAgent is sent along: waybill-probe unless set. Optional.
	UserAgent string
	// Name gives the name by which a field of the Config is called in errors, for programs that take it from flags: its
	// own name unless set. Optional.
	Name func(field string) string
	// Progress is told of each case that is done. Optional.
	Progress func(r Result, done, of int)
	// Waiting is told of pauses that the server or a case asks for: why, and how long. Optional.
	Waiting func(because string, pause time.Duration)

	newKey newKey // of tests
}

// A runner sends the requests of one run.
type runner struct {
	ctx      context.Context //nolint:containedctx // it is that of one call of Run, which the runner does not outlive
	config   Config
	endpoint *url.URL
	base     *url.URL // nil: not given
	secured  *url.URL // nil: not given
	http     *http.Client
	forge    *forge

	requests int
	silent   int           // requests in a row that were not answered
	deferred int           // requests in a row that the server put off, and never answered
	waited   time.Duration // for a server that wanted to be asked later
	secrets  []string      // tokens, to be kept out of the report
	signed   string        // the signature that was sent last, to be kept out as well
	right    *answer       // to the first right request; nil: there is none yet
	granted  time.Time     // when its token had come
	token    string        // that one, or a later one
	renewed  time.Time     // when that had come
	wrong    *answer       // to a wrong one, for the cases about errors
	testSeal *finding      // of a right seal of the test CA
	entry    *answer       // of the secured endpoint, with the right token
	shown    string        // what was sent last
	fetched  map[string]*answer
}

// Run probes a server. The error says that the configuration is of no use, and then nothing was sent. Whatever the
// server does is in the report; when the context ends, it holds what was done until then.
func Run(ctx context.Context, c Config) (*Report, error) {
	selected, err := Select(c.Only...)
	if err != nil {
		return nil, c.wrong("Only", err)
	}
	if !slices.ContainsFunc(selected, func(c Case) bool { return c.Name == RightCase }) {
		selected = slices.Concat(Cases()[:1], selected)
	}
	r, err := newRunner(ctx, c)
	if err != nil {
		return nil, err
	}
	defer r.http.CloseIdleConnections()
	report := &Report{
		Endpoint: r.endpoint.String(), Server: c.Server, Audience: c.Audience, ClientID: c.Seal.ClientID, Started: time.Now().UTC().Truncate(time.Second),
	}
	began := time.Now()
	for i, c := range selected {
		result := r.run(c)
		if ctx.Err() != nil {
			report.Interrupted = true
			break
		}
		report.Results = append(report.Results, result)
		if r.config.Progress != nil {
			r.config.Progress(result, i+1, len(selected))
		}
	}
	report.Requests, report.Seconds = r.requests, seconds(time.Since(began))
	return report, nil
}

// seconds is exact to the millisecond, so that it reads and writes the same.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

func newRunner(ctx context.Context, c Config) (*runner, error) {
	r := &runner{ctx: ctx, config: c, fetched: map[string]*answer{}}
	if err := r.addresses(); err != nil {
		return nil, err
	}
	for name, seal := range map[string]*Seal{"Seal": &r.config.Seal, "Revoked": c.Revoked, "Inactive": c.Inactive} {
		if seal != nil {
			if err := seal.check(); err != nil {
				return nil, c.wrong(name, err)
			}
		}
	}
	if _, err := ishare.ParsePartyID(string(c.Audience)); err != nil {
		return nil, c.wrong("Audience", err)
	}
	r.config.Pause = cmp.Or(c.Pause, DefaultPause)
	r.config.UserAgent = cmp.Or(c.UserAgent, "waybill-probe")
	transport := c.Transport
	if transport == nil {
		own := client.NewTransport()
		own.MaxIdleConnsPerHost = atOnceCopies
		transport = own
	}
	r.http = &http.Client{
		Transport: transport, Timeout: requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r.forge = &forge{endpoint: r.endpoint.String(), newKey: generate}
	if c.newKey != nil {
		r.forge.newKey = c.newKey
	}
	return r, nil
}

// wrong is an error about a field.
func (c *Config) wrong(field string, err error) error {
	if c.Name != nil {
		field = c.Name(field)
	}
	return fmt.Errorf("probe: %s: %w", field, err)
}

func (s *Seal) check() error {
	if _, err := ishare.ParsePartyID(string(s.ClientID)); err != nil {
		return fmt.Errorf("ClientID: %w", err)
	}
	if s.Key == nil || len(s.Certificates) == 0 {
		return errors.New("it has no key or no certificate")
	}
	if _, ok := s.Key.Public().(*rsa.PublicKey); !ok {
		return fmt.Errorf("its key is of type %T; iSHARE asks for RSA", s.Key.Public())
	}
	return nil
}

// addresses reads those of the configuration. Plain http goes to this machine only: who listens in would have an assertion.
func (r *runner) addresses() (err error) {
	c := r.config
	for _, a := range []struct {
		name, text string
		to         **url.URL
	}{{"Server", c.Server, &r.base}, {"TokenEndpoint", c.TokenEndpoint, &r.endpoint}, {"SecuredURL", c.SecuredURL, &r.secured}} {
		if a.text == "" {
			continue
		}
		if *a.to, err = parseURL(a.text); err != nil {
			return c.wrong(a.name, err)
		}
	}
	switch {
	case r.endpoint != nil:
	case r.base != nil:
		r.endpoint = r.base.JoinPath(ishare.TokenPath)
	default:
		return errors.New("probe: neither Server nor TokenEndpoint is set")
	}
	return nil
}

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("it is no URL such as https://provider.example")
	case u.User != nil:
		return nil, errors.New("it holds credentials")
	case u.Fragment != "":
		return nil, errors.New("it holds a fragment")
	case u.Scheme == "http" && !loopback.Is(u.Hostname()):
		return nil, errors.New("it is not https, and who listens in has the assertions; plain http is for a loopback address only")
	}
	if u.Path == "" { // which joins to a path without a slash before it
		u.Path = "/"
	}
	return u, nil
}

// run tries a case.
func (r *runner) run(c Case) Result {
	began := time.Now()
	r.shown = ""
	f := r.missing(c)
	if f == nil {
		f = r.try(c)
	}
	result := Result{Case: c, Verdict: f.Verdict, Outcome: f.Outcome, Came: f.Reason, Sent: r.shown, Seconds: seconds(time.Since(began))}
	if f.Outcome == NotJudged && f.Verdict == Skipped {
		result.Came, result.Reason = "", f.Reason
	}
	return result
}

// missing says why a case cannot be tried.
func (r *runner) missing(c Case) *finding {
	given := map[string]bool{
		"": true, NeedsServer: r.base != nil, NeedsTestCA: r.config.TestSeals != nil, NeedsSecured: r.secured != nil,
		NeedsRevoked: r.config.Revoked != nil, NeedsInactive: r.config.Inactive != nil,
	}
	switch {
	case !given[c.Needs]:
		return skip("not given: %s", c.Needs)
	case c.Name != RightCase && !c.alone && (r.right == nil || r.right.token == ""):
		return skip("not even the right request gets a token, so that nothing can be told")
	case r.silent >= maxSilence:
		return skip("%d requests in a row were not answered", r.silent)
	case r.deferred >= maxDeferred:
		return skip("the server wanted to be asked later, and no more came of %d requests in a row", r.deferred)
	case r.waited >= maxWaited:
		return skip("the server wanted to be asked later so often that the run has waited for %s; ask it at longer intervals", r.waited)
	case r.requests+atOnceCopies > maxRequests:
		return skip("%d requests were made, and more are not", r.requests)
	}
	return nil
}

func (r *runner) try(c Case) *finding {
	if c.steps != nil {
		return c.steps(c, r)
	}
	a, f := r.send(func() *draft {
		d := r.draft()
		c.change(d)
		return d
	})
	switch {
	case f != nil && c.Name == RightCase: // without which a run shows nothing
		return &finding{Fail, NoAnswer, f.Reason}
	case f != nil:
		return f
	}
	if c.Name == RightCase {
		r.right, r.granted, r.token, r.renewed = a, time.Now(), a.token, time.Now()
	}
	return new(c.judge(c, a))
}

// draft makes a right request.
func (r *runner) draft() *draft {
	return newDraft(r.config.Seal, r.config.Audience, r.config.Scope, r.forge)
}

// send sends a request, which is made again when the server wants to be asked later. The finding says that no request could
// be made, or that there was no end of waiting.
func (r *runner) send(makeDraft func() *draft) (*answer, *finding) {
	return r.patiently(func() (*http.Request, *finding) {
		d := makeDraft()
		if d.unable != "" {
			return nil, skip("%s", d.unable)
		}
		r.shown = d.shown()
		return r.request(d)
	})
}

// patiently makes a request, and makes it again when the server wants to be asked later. When there is no end of that, the
// answer that says so comes with the finding.
func (r *runner) patiently(newRequest func() (*http.Request, *finding)) (*answer, *finding) {
	for attempt := 1; ; attempt++ {
		request, f := newRequest()
		if f != nil {
			return nil, f
		}
		a := r.exchange(request)
		later := max(outbound.RetryAfter(a.header, time.Now(), maxDeferral+1), time.Second)
		switch {
		case r.ctx.Err() != nil:
			return a, skip("interrupted")
		case !a.busy():
			r.deferred = 0
			return a, nil
		case attempt == maxAttempts || later > maxDeferral || r.waited >= maxWaited:
			r.deferred++
			f = a.putOff()
			return a, f
		}
		r.waited += later
		r.tellAndWait("the server says "+a.told(), later)
	}
}

// putOff says that an answer is none yet.
func (a *answer) putOff() *finding {
	return skip("the server wants to be asked later (Retry-After: %s): %s", a.clean(orMissing(a.header.Get("Retry-After"))), a.told())
}

// tellAndWait waits, and says for what.
func (r *runner) tellAndWait(because string, pause time.Duration) {
	if r.config.Waiting != nil {
		r.config.Waiting(because, pause)
	}
	r.wait(pause)
}

// again sends this very draft.
func again(d *draft) func() *draft { return func() *draft { return d } }

// anySignature finds that of an assertion in a form: without it, nobody can use what else is shown.
var anySignature = regexp.MustCompile(`(?:^|&)client_assertion=[\w-]*\.[\w-]*\.([\w-]{20,})`)

// request is the draft as an HTTP request to the endpoint.
func (r *runner) request(d *draft) (*http.Request, *finding) {
	body := d.Body()
	if d.signer.err != nil {
		return nil, skip("the key cannot sign this: %v", d.signer.err)
	}
	r.signed = ""
	if found := anySignature.FindStringSubmatch(body); found != nil {
		r.signed = found[1]
	}
	address := *r.endpoint
	if d.InURL {
		address.RawQuery, body = body, ""
	}
	request, err := http.NewRequestWithContext(r.ctx, d.Method, address.String(), strings.NewReader(body))
	if err != nil {
		return nil, skip("the request cannot be made: %v", err)
	}
	request.Header = d.Header.Clone()
	return request, nil
}

// exchange sends one request after a pause, and reads the answer.
func (r *runner) exchange(request *http.Request) *answer {
	r.wait(r.config.Pause)
	r.requests++
	a := r.roundTrip(request)
	r.silent++
	if a.err == nil {
		r.silent = 0
	}
	r.remember(a)
	return a
}

// roundTrip is safe for concurrent use.
func (r *runner) roundTrip(request *http.Request) *answer {
	request.Header.Set("User-Agent", r.config.UserAgent)
	if request.Header.Get("Accept") == "" {
		request.Header.Set("Accept", "application/json")
	}
	response, err := r.http.Do(request)
	if err != nil {
		return &answer{err: noAnswer(err)}
	}
	defer response.Body.Close()
	a, err := readAnswer(response)
	if err != nil {
		return &answer{err: noAnswer(err)}
	}
	return a
}

// noAnswer says why there is none.
func noAnswer(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok { // which quotes the address, and in it perhaps a token
		err = wrapped.Err
	}
	if _, connecting := errors.AsType[*net.OpError](err); !connecting && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no whole answer came within %s", requestTimeout)
	}
	return err
}

// remember keeps tokens out of what is told.
func (r *runner) remember(a *answer) {
	if len(a.token) > 3 && !slices.Contains(r.secrets, a.token) {
		r.secrets = append(r.secrets, a.token)
	}
	a.secrets = r.secrets
	if r.signed != "" {
		a.secrets = append(slices.Clip(r.secrets), r.signed)
	}
}

// wait ends with the context.
func (r *runner) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	}
}

// atOnce sends copies of one assertion at once: exactly one of them gets a token.
func atOnce(c Case, r *runner) *finding {
	d := r.draft()
	d.Form.Set("client_assertion", d.Assertion.Compact())
	r.shown = d.shown()
	answers := make([]*answer, atOnceCopies)
	requests := make([]*http.Request, atOnceCopies)
	for i := range requests {
		request, f := r.request(d)
		if f != nil {
			return f
		}
		requests[i] = request
	}
	r.wait(r.config.Pause)
	r.requests += atOnceCopies
	var group sync.WaitGroup
	for i, request := range requests {
		group.Go(func() { answers[i] = r.roundTrip(request) })
	}
	group.Wait()
	tokens, busy, lost := 0, 0, 0
	var odd *answer
	for _, a := range answers {
		r.remember(a)
		switch {
		case a.token != "":
			tokens++
		case a.busy():
			busy++
		case a.err != nil:
			lost++
		case a.status >= 500:
			odd = a
		}
	}
	told := fmt.Sprintf("%d tokens for one assertion that was sent %d times at once", tokens, atOnceCopies)
	switch {
	case tokens > 1:
		return &finding{c.miss(), GaveToken, told}
	case odd != nil:
		return &finding{Fail, ServerError, odd.told()}
	case tokens == 0 && busy+lost > 0, tokens+busy+lost == atOnceCopies: // which shows nothing of what is remembered
		return skip("%d copies got a token, %d answers were 429 or 503, and %d requests were not answered", tokens, busy, lost)
	case tokens == 0:
		return &finding{Warn, RefusedRight, told + "; one is right"}
	}
	return &finding{Pass, Refused, "one token; the other copies got none"}
}
