package assertion_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

const (
	server      ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000000"
	serverAlias ishare.PartyID = "EU.EORI.NL000000000"
	client      ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000001"
	clientAlias ishare.PartyID = "EU.EORI.NL000000001"
	nobody      ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000009"

	leeway = 10 * time.Second
)

// A world is everything around a verifier: a CA, a client in good standing, and
// what the verifier asks, which counts how often it was asked.
type world struct {
	ca         *testca.CA
	seal       *testca.Identity
	registry   *registry
	revocation *revocationAnswers
	memory     *memory
	config     assertion.Config
}

// within runs a test in a world of its own, where it is the first moment of the
// year 2000 and time passes only when everybody waits.
func within(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	ca, seal := certificates(tb)
	store, err := replay.Open(replay.Config{Leeway: replay.MaxLeeway, NoHistory: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { store.Close() })
	w := &world{
		ca:         ca,
		seal:       seal,
		registry:   &registry{records: map[ishare.PartyID]*ishare.Party{}},
		revocation: &revocationAnswers{},
		memory:     &memory{store: store, leeway: leeway},
	}
	w.register(w.seal)
	w.config = assertion.Config{
		Audience: []ishare.PartyID{server, serverAlias},
		Trust:    w.trusting(tb, ca.Authority(testca.Root).Certificate()),
		Parties:  w.registry, Revocation: w.revocation, Replay: w.memory,
	}
	return w
}

// made is what certificates has made, by the day. Keys and signatures of the CA are most of what a world costs, and no
// test changes either of them.
var made = struct {
	sync.Mutex

	byDay map[time.Time]*world
}{byDay: map[time.Time]*world{}}

// certificates returns the CA and the client's seal of all worlds that begin on this day, which in a bubble of synctest
// is always the same.
func certificates(tb testing.TB) (*testca.CA, *testca.Identity) {
	tb.Helper()
	made.Lock()
	defer made.Unlock()
	day := time.Now().UTC().Truncate(24 * time.Hour)
	w := made.byDay[day]
	if w == nil {
		w = &world{ca: newCA(tb)}
		w.seal = w.newSeal(tb, testca.SealRequest{})
		made.byDay[day] = w
	}
	return w.ca, w.seal
}

func (w *world) newSeal(tb testing.TB, r testca.SealRequest) *testca.Identity {
	tb.Helper()
	r.Organization, r.Identifier = "Consumer", "NTRNL-10000001"
	seal, err := w.ca.Seal(r)
	if err != nil {
		tb.Fatal(err)
	}
	return seal
}

// register makes the client a participant in good standing with this seal.
func (w *world) register(seal *testca.Identity) {
	begin, end := time.Now().AddDate(-1, 0, 0), time.Now().AddDate(10, 0, 0)
	party := &ishare.Party{ID: client, Name: "Consumer", AlsoKnownAs: []ishare.PartyID{clientAlias}, Claims: []ishare.Claim{
		{Type: ishare.ClaimFrameworkCompliance, FrameworkID: ishare.FrameworkISHARE, Status: "active", Start: begin, End: end},
		{Type: ishare.ClaimX509Certificate, X5T: ishare.Thumbprint(seal.Certificate().Raw), Status: "active"},
		{Type: ishare.ClaimFrameworkRole, RoleID: "ServiceConsumer", Status: "active"},
		{Type: ishare.ClaimDataspaceMembership, DataspaceID: "did:ishare:EU.NL.NTRNL-20000000", Status: "active"},
	}}
	for _, id := range party.Identifiers() {
		w.registry.records[id] = party
	}
}

// claim is the client's first claim of a type, for a test to change.
func (w *world) claim(kind string) *ishare.Claim {
	claims := w.registry.records[client].Claims
	return &claims[slices.IndexFunc(claims, func(c ishare.Claim) bool { return c.Type == kind })]
}

func (*world) trusting(tb testing.TB, certificates ...*x509.Certificate) *trust.Validator {
	tb.Helper()
	v, err := trust.New(anchors(certificates...))
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func anchors(certificates ...*x509.Certificate) trust.Anchors {
	a := trust.Anchors{}
	for _, cert := range certificates {
		a[trust.FingerprintOf(cert)] = cert.Subject.String()
	}
	return a
}

func (w *world) verifier(tb testing.TB) *assertion.Verifier {
	tb.Helper()
	v, err := assertion.NewVerifier(w.config)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// asked is how often each of the three was asked.
type asked struct{ registry, revocation, memory int }

func (w *world) asked() asked {
	return asked{w.registry.asked(), w.revocation.asked(), w.memory.asked()}
}

// A counter is safe for concurrent use.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

func (c *counter) asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// registry knows what it was told.
type registry struct {
	counter

	records map[ishare.PartyID]*ishare.Party
	err     error         // in place of an answer
	empty   bool          // answers neither with a record nor with an error
	delay   time.Duration // before each answer
}

func (r *registry) Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	r.count()
	if r.delay > 0 {
		time.Sleep(r.delay)
	}
	party, ok := r.records[id]
	switch {
	case r.err != nil:
		return nil, r.err
	case r.empty:
		return nil, nil //nolint:nilnil // what a careless source does
	case !ok:
		return nil, errors.Join(errors.New("registry"), ishare.ErrUnknownParty)
	}
	return party, ctx.Err()
}

// remembering is a registry whose records may be old, and which can be asked for
// a fresh one.
type remembering struct {
	*registry

	fresh registry
}

func (r *remembering) FreshParty(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	return r.fresh.Party(ctx, id)
}

// revocation answers what it was told.
type revocationAnswers struct {
	counter

	err  error
	seen *trust.Chain
}

func (r *revocationAnswers) Check(_ context.Context, chain *trust.Chain) error {
	r.count()
	if r.err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = chain
	}
	return r.err
}

// memory is a real store, in front of which an error can be put.
type memory struct {
	counter

	store  *replay.Memory
	leeway time.Duration
	err    error
	last   replay.Pair
}

func (m *memory) Use(ctx context.Context, p replay.Pair) (bool, error) {
	m.count()
	if m.err != nil {
		return false, m.err
	}
	m.mu.Lock()
	m.last = p
	m.mu.Unlock()
	return m.store.Use(ctx, p)
}

func (m *memory) Leeway() time.Duration { return m.leeway }

// A draft is an assertion before it is signed, right unless a test changes it.
type draft struct {
	header, payload map[string]any
	seal            testca.SealRequest // of a seal of its own, registered for the client
	own             bool               // use seal
	unregistered    bool
	signer          crypto.Signer // in place of the seal's key
	hash            crypto.Hash

	editChain                            []func([]*x509.Certificate) []*x509.Certificate
	editHeader, editPayload, editCompact []func(string) string
}

func newDraft() *draft {
	now := time.Now().Unix()
	return &draft{
		header: map[string]any{"alg": "RS256", "typ": "JWT"},
		payload: map[string]any{
			"iss": client, "sub": client, "aud": server, "jti": rand.Text(), "iat": now, "exp": now + 30,
		},
		hash: crypto.SHA256,
	}
}

// onSeal adds a change to the template of the draft's own seal.
func (d *draft) onSeal(f func(*x509.Certificate)) {
	before := d.seal.Template
	d.own, d.seal.Template = true, func(c *x509.Certificate) {
		if before != nil {
			before(c)
		}
		f(c)
	}
}

// compact signs the draft.
func (d *draft) compact(tb testing.TB, w *world) string {
	tb.Helper()
	seal := w.seal
	if d.own {
		seal = w.newSeal(tb, d.seal)
		if !d.unregistered {
			w.claim(ishare.ClaimX509Certificate).X5T = ishare.Thumbprint(seal.Certificate().Raw)
		}
	}
	chain := seal.Chain
	for _, edit := range d.editChain {
		chain = edit(slices.Clone(chain))
	}
	if _, ok := d.header["x5c"]; !ok {
		d.header["x5c"] = encodeChain(chain)
	}
	signed := encode(edited(marshal(tb, d.header), d.editHeader)) + "." + encode(edited(marshal(tb, d.payload), d.editPayload))
	signer := seal.Key
	if d.signer != nil {
		signer = d.signer
	}
	h := d.hash.New()
	h.Write([]byte(signed))
	signature, err := signer.Sign(rand.Reader, h.Sum(nil), d.hash)
	if err != nil {
		tb.Fatal(err)
	}
	return edited(signed+"."+encode(string(signature)), d.editCompact)
}

func edited(s string, edits []func(string) string) string {
	for _, edit := range edits {
		s = edit(s)
	}
	return s
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func encodeChain(chain []*x509.Certificate) []string {
	entries := make([]string, len(chain))
	for i, cert := range chain {
		entries[i] = base64.StdEncoding.EncodeToString(cert.Raw)
	}
	return entries
}

func marshal(tb testing.TB, v any) string {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// checkAccepted asserts that an assertion is accepted, and returns the client.
func checkAccepted(t *testing.T, v *assertion.Verifier, compact string) *assertion.Client {
	t.Helper()
	c, _, err := v.Verify(t.Context(), client, compact)
	if err != nil {
		t.Errorf("refused: %v", err)
	} else if c == nil {
		t.Error("neither a client nor an error")
	}
	return c
}

// checkRefused asserts that an assertion is refused by a rule.
func checkRefused(t *testing.T, v *assertion.Verifier, compact string, reason *rule.Rule) {
	t.Helper()
	c, _, err := v.Verify(t.Context(), client, compact)
	if got := ruleOf(err); got != reason || c != nil {
		t.Errorf("client %v, %v, want %s", c, err, reason.ID)
	}
}

// ruleOf is the rule of a rejection or of an outage, or nil.
func ruleOf(err error) *rule.Rule {
	switch rejection, outage := rule.Classify(err); {
	case rejection != nil:
		return rejection.Rule
	case outage != nil:
		return outage.Rule
	}
	return nil
}

// checkOutage asserts that no decision was possible, and returns why.
func checkOutage(t *testing.T, err error, reason *rule.Rule) *rule.Outage {
	t.Helper()
	outage := (*rule.Outage)(nil)
	if !errors.As(err, &outage) || outage.Rule != reason || errors.As(err, new(*rule.Rejection)) {
		t.Errorf("%v, want an outage by %s", err, reason.ID)
		return &rule.Outage{}
	}
	return outage
}
