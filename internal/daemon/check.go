package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/audit"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/durable"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/keyforms"
	"github.com/waybill-token/waybill/internal/listen"
	"github.com/waybill-token/waybill/internal/permission"
	"github.com/waybill-token/waybill/internal/regular"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/state"
	"github.com/waybill-token/waybill/trust"
)

// A Preflight is the outcome of [Check]: what is wrong with anything that a server with the configuration would need.
type Preflight struct {
	Config   *config.Config
	Problems []config.Problem // the server would not start, or not work
	Warnings []config.Problem // it would, and an operator should know

	// Guarantee is what holds of assertions that are presented twice, in a sentence.
	Guarantee string

	pair *keyfile.Pair // our seal; nil when it cannot be used
	tls  *keyfile.Pair // of the public listener; nil when it has none, or it cannot be used
}

// Check checks everything at once, without starting a server or leaving anything behind. The configuration may be
// incomplete: keys that are absent are passed over.
func Check(cfg *config.Config) *Preflight {
	c := &Preflight{Config: cfg, Guarantee: guarantee(cfg), Problems: pathProblems(cfg)}
	for _, check := range []func(){
		c.keyFiles, c.names, c.anchors, c.participants, c.addresses, c.descriptors, c.exposure, c.data, c.state, c.clock, c.capabilities, c.secrets,
		func() { c.Warnings = append(c.Warnings, risks(cfg)...) },
		c.upstreams, c.revocation, c.others, c.audit, c.traces,
	} {
		check()
	}
	if c.pair != nil {
		c.add("party.key", c.pair.Close(), "") // which ends the session with a key in hardware
	}
	return c
}

// add makes a problem of each line of an error: of several that were joined.
func (c *Preflight) add(key string, err error, hint string) {
	if err == nil {
		return
	}
	for message := range strings.SplitSeq(err.Error(), "\n") {
		c.Problems = append(c.Problems, c.Config.Problem(key, message, hint))
	}
}

func (c *Preflight) warn(key, message, hint string) {
	c.Warnings = append(c.Warnings, c.Config.Problem(key, message, hint))
}

// addFiles sorts what is wrong with a key and its certificates, each at the key of the configuration
// that names the file. Without a key for the certificates, they are in the key's file.
func (c *Preflight) addFiles(key, certificates string, problems keyfile.Problems) {
	for _, p := range problems {
		key := key
		if p.Certificates {
			key = certificates
		}
		found := c.Config.Problem(key, p.File+": "+p.Message, p.Hint)
		if p.Warning {
			c.Warnings = append(c.Warnings, found)
		} else {
			c.Problems = append(c.Problems, found)
		}
	}
}

// keyFiles reads our seal, and the key of the public listener.
func (c *Preflight) keyFiles() {
	if c.Config.Party.Key != "" {
		var problems keyfile.Problems
		c.pair, problems = keyfile.ReadSeal(sealFiles(c.Config), time.Now())
		c.addFiles("party.key", "party.certificates", problems)
	}
	if c.Config.Listen.TLS != nil {
		var problems keyfile.Problems
		c.tls, problems = keyfile.ReadTLS(tlsFiles(c.Config), time.Now())
		c.addFiles("listen.tls.key", "listen.tls.certificate", problems)
	}
}

// names compares the names in certificates with those of the configuration. The registry decides whose a seal is, and a
// proxy may have the certificate that clients see: neither keeps a server from working.
func (c *Preflight) names() {
	if c.pair != nil && c.Config.Party.ID != "" {
		own := append([]ishare.PartyID{c.Config.Party.ID}, c.Config.Party.AlsoKnownAs...)
		named := ishare.CertificateIDs(c.pair.Certificates[0])
		if len(named) > 0 && !slices.ContainsFunc(named, func(id ishare.PartyID) bool { return slices.Contains(own, id) }) {
			c.warn("party.id", fmt.Sprintf("the seal names %s, and neither this nor party.also_known_as does", named[0]),
				"Give the seal of this party, or correct party.id; if both are names of one party, add the other one to party.also_known_as.")
		}
	}
	if u := c.Config.Listen.URL; c.tls != nil && u.Scheme == "https" {
		if err := c.tls.Certificates[0].VerifyHostname(u.Hostname()); err != nil {
			c.warn("listen.tls.certificate", fmt.Sprintf("clients that come to %s refuse it: %v", &u.URL, err),
				"Get a certificate for the name in listen.url, or correct listen.url. If a proxy with a certificate of its own stands before this server, all is well.")
		}
	}
}

func (c *Preflight) anchors() {
	for i, item := range anchorItems(c.Config.Trust.Anchors) {
		if item == "" {
			continue
		}
		key := fmt.Sprintf("trust.anchors[%d]", i)
		_, err := trust.LoadAnchors([]string{item})
		hint := "Give the file of CA certificates, or the SHA-256 fingerprint of one."
		if hinted, ok := errors.AsType[interface {
			error
			Hint() string
		}](err); ok {
			hint = hinted.Hint()
		} else if errors.Is(err, fs.ErrPermission) {
			hint = "Let the account that Waybill runs under read the file."
		}
		c.add(key, err, hint)
		if err == nil {
			c.anchorDates(key, item)
		}
	}
}

// anchorDates finds anchors below which no chain is valid now. The file could be read before.
func (c *Preflight) anchorDates(key, item string) {
	data := []byte(item)
	if !keyfile.IsText(item) {
		file, err := regular.OpenAny(item)
		if err != nil {
			return // a fingerprint
		}
		defer file.Close() //nolint:errcheck // it was only read
		if data, err = io.ReadAll(io.LimitReader(file, keyforms.MaxSize)); err != nil {
			return
		}
	}
	now := time.Now()
	for _, cert := range keyforms.Read(data, keyforms.Source{}).Certificates {
		switch {
		case now.After(cert.NotAfter):
			c.add(key, fmt.Errorf("the CA %q expired on %s, so nobody below it is let in", cert.Subject, cert.NotAfter.UTC().Format(time.DateTime)),
				"Give its successor, which the CA publishes, and take this one out; or set the clock right, if it is wrong.")
		case now.Before(cert.NotBefore):
			c.add(key, fmt.Errorf("the CA %q is not valid before %s", cert.Subject, cert.NotBefore.UTC().Format(time.DateTime)),
				"Wait until then, or set this machine's clock right (NTP).")
		}
	}
}

func (c *Preflight) participants() {
	if c.Config.Participants.File == "" {
		return
	}
	path := string(c.Config.Participants.File)
	_, err := registry.OpenFile(path, slog.New(slog.DiscardHandler))
	c.add("participants.file", err, "It must be a list of iSHARE 3.0 party records, in JSON or YAML.")
	findings, _ := registry.Inspect(path, time.Now()) // whose error is the same
	for _, f := range findings {
		c.warn("participants.file", fmt.Sprintf("%s:%d: %s: %s", path, f.Line, f.Party, f.Message), f.Hint)
	}
}

// othersTimeout bounds all questions to others together.
const othersTimeout = 30 * time.Second

// collectorTimeout bounds the question to a collector of spans.
const collectorTimeout = 5 * time.Second

// others asks the registry and the status services about ourselves, as the server will ask
// about clients.
func (c *Preflight) others() {
	asking := providerConfig(c.Config, string(c.Config.Listen.Public), nil)
	asking.URL = nil // which wants a seal
	if c.pair != nil {
		asking.Key, asking.Certificates = c.pair.Signer(), c.pair.Certificates
	}
	var err error
	if asking.Anchors, err = loadAnchors(c.Config); err != nil {
		return // anchors reported it
	}
	ctx, cancel := context.WithTimeout(context.Background(), othersTimeout)
	defer cancel()
	problems, err := provider.Preflight(ctx, asking)
	if err != nil {
		return
	}
	for _, p := range problems {
		found := c.Config.Problem(p.Field, p.Err.Error(), p.Hint)
		switch isSameKey := func(w config.Problem) bool { return w.Key == p.Field }; {
		case !p.Warning:
			c.Problems = append(c.Problems, found)
		case !slices.ContainsFunc(c.Warnings, isSameKey):
			c.Warnings = append(c.Warnings, found)
		}
	}
}

// addresses takes each address for a moment. While a server is running with the data folder, one that is in use counts as
// that server's: what is checked is the configuration that it is to read next.
func (c *Preflight) addresses() {
	running := folder(c.Config).InUse()
	if running {
		c.warn("data", "a server is running with this folder, so that its addresses are in use is right; whether they are its own was not found out", "")
	}
	for key, address := range map[string]config.Address{
		"listen.public": c.Config.Listen.Public, "listen.internal": c.Config.Listen.Internal,
	} {
		var lc net.ListenConfig
		l, err := lc.Listen(context.Background(), "tcp", string(address))
		if err == nil {
			err = l.Close()
		}
		if !running || !isInUse(err) {
			c.add(key, err, addressHint(err))
		}
	}
}

// isInUse reports whether a program has the address.
func isInUse(err error) bool {
	const ofWindows = syscall.Errno(10048)
	return errors.Is(err, syscall.EADDRINUSE) || runtime.GOOS == "windows" && errors.Is(err, ofWindows)
}

func addressHint(err error) string {
	switch {
	case isInUse(err):
		return "Choose another address, or stop the process that has this one."
	case errors.Is(err, fs.ErrPermission):
		return "Choose a port from 1024 on, or let the server have a lower one: AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit, or a socket of systemd."
	}
	return "Give an address of this machine, such as 127.0.0.1:8080, or :8080 for all of them."
}

// descriptors compares the limit on open files with the connections that are wanted. It is that of whoever runs check.
func (c *Preflight) descriptors() {
	share := listen.NewShare(listen.Descriptors(), c.Config.Limits.Connections, len(c.Config.Routes) > 0)
	if !share.Lowered {
		return
	}
	message := fmt.Sprintf("the limit on open files, %d here, allows for %d connections", listen.Descriptors(), share.Public)
	const hint = "Raise the limit: LimitNOFILE= in the unit of systemd, ulimit -n in a shell."
	if c.Config.Limits.Connections == 0 { // and these are too few
		c.add("limits.connections", errors.New(message), hint)
		return
	}
	c.warn("limits.connections", message, hint)
}

// makeRoom is what to do about a full disk.
const makeRoom = "Make room on the disk, or name another."

// data: the folder, or the nearest one above it that exists, can be written, and
// keys that are there can be used.
func (c *Preflight) data() {
	dir := string(c.Config.Data)
	if target, err := os.Readlink(filepath.Clean(dir)); err == nil {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) { // as the packages have it before the first start
			c.warn("data", fmt.Sprintf("%s is a link to %s, where nothing is", dir, target), "The service of the packages makes that folder at its start; without it, make it for the user that runs the server.")
		}
	}
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			c.add("data", fmt.Errorf("%s is not a folder", dir), "Name a folder.")
			return
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			break
		}
		dir = parent
	}
	err := durable.CheckWritable(dir)
	hint := "Make the folder writable for the user that runs the server."
	switch {
	case errors.Is(err, syscall.EROFS):
		hint = "Name a folder on a file system that is not mounted read-only: with ProtectSystem= in a unit of systemd, one below its StateDirectory=; in a container, a volume."
	case errors.Is(err, syscall.ENOSPC):
		hint = makeRoom
	}
	c.add("data", err, hint)
	if err == nil {
		c.add("data", durable.CheckLocks(dir), "Put the folder on a file system with locks, such as a disk of this machine.")
	}
	// A problem that is there already is that others may change the keys, which would be reported twice.
	if !slices.ContainsFunc(c.Problems, func(p config.Problem) bool { return p.Key == "tokens.keys" }) {
		c.tokenKeys(folder(c.Config).Keys())
	}
	if c.Config.State.Memory() {
		c.tokenRevocations()
	}
}

// audit finds out whether the audit trail could be written.
func (c *Preflight) audit() {
	if c.Config.Audit == nil || c.Config.Audit.File == config.AuditStdout || c.Config.Audit.File == "" {
		return
	}
	path := string(c.Config.Audit.File)
	err := audit.Check(path)
	hint := "Make the file and its folder writable for the user that runs the server, or name another file."
	switch {
	case errors.Is(err, audit.ErrDamaged):
		hint = "Keep the file as evidence, and move it away: the server begins another. waybill audit verify tells which line it is."
	case errors.Is(err, syscall.ENOSPC):
		hint = makeRoom
	case errors.Is(err, fs.ErrNotExist):
		hint = "Make its folder, for the user that runs the server: mkdir -m 700 " + permission.Quote(filepath.Dir(path)) + "."
	}
	c.add("audit.file", err, hint)
}

// state asks the shared store, if there is one, whether it can be used. With [Check] being called while servers run, it is left as it is.
func (c *Preflight) state() {
	if c.Config.State.Memory() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), othersTimeout)
	defer cancel()
	asking := state.Config{
		URL: c.Config.State.URL, Party: cmp.Or(c.Config.Party.ID, "unknown"), Leeway: c.Config.Policy.Leeway, WaitReplicas: c.Config.StateWaitReplicas,
	}
	if asking.URL.IsPostgres() {
		asking.WaitReplicas = 0 // another is a problem of the configuration, which tells it
	}
	err := state.Check(ctx, asking)
	hint := "No tokens are given until this is mended."
	if errors.Is(err, syscall.ECONNREFUSED) {
		hint = "Start the store, or correct host and port. " + hint
	}
	c.add("state", err, hint)
}

// guarantee is what a configuration promises about assertions that are presented twice.
func guarantee(cfg *config.Config) string {
	switch {
	case cfg.State.Memory():
		return "used assertions are known to this process alone: run one, or set state"
	case cfg.State.URL.IsPostgres():
		return "an assertion is good once at all servers with this state; through a fail-over of PostgreSQL, too, when its standby is synchronous"
	case cfg.StateWaitReplicas > 0:
		return fmt.Sprintf("an assertion is good once at all servers with this state. Before it gets a token, so many replicas have it: %d", cfg.StateWaitReplicas)
	}
	return "an assertion is good once at all servers with this state, unless a primary of Redis that was cut off goes on answering after a replica has taken its place"
}

func (c *Preflight) tokenKeys(source string) {
	problem, err := accesstoken.CheckKeys(source)
	hint := "Mend or remove the file that is named; removing a key withdraws the tokens made with it."
	if accesstoken.IsKeySet(source) {
		hint = "Put back the key set as it was, or make one with waybill keys add."
	}
	c.add("tokens.keys", err, hint)
	if problem != nil {
		c.warn("tokens.keys", problem.Error(), "")
	}
}

// tokenRevocations reads their journal as a start would, unless a server is writing it.
func (c *Preflight) tokenRevocations() {
	served, err := folder(c.Config).HasServed()
	if err != nil || folder(c.Config).InUse() {
		return // the error was reported at tokens.keys
	}
	loss, err := accesstoken.CheckTokenRevocations(accesstoken.TokenRevocationConfig{Dir: folder(c.Config).Revocations(), NoHistory: !served})
	c.add("data", err, "Have the folder be readable by the user that runs the server.")
	if loss != nil {
		c.warn("data", fmt.Sprintf("a start would refuse all access tokens that were issued before it, as they may have been revoked: %v", loss),
			"Put the files of revocations/ back as they were when the server stopped, or start: clients then ask for new tokens.")
	}
}

// clockSlack is how far the clocks of this machine and of its disks may differ.
const clockSlack = time.Minute

// clock: a file from the future means that the clock is behind, and then every
// assertion seems to come from the future too. Without asking anybody, no more
// can be known.
func (c *Preflight) clock() {
	for key, path := range map[string]config.Path{
		"participants.file": c.Config.Participants.File, "party.key": c.Config.Party.Key, "party.certificates": c.Config.Party.Certificates,
	} {
		info, err := os.Stat(string(path))
		if err != nil {
			continue // reported elsewhere
		}
		if ahead := time.Until(info.ModTime()); ahead > clockSlack {
			c.add(key, fmt.Errorf("%s was written %s in the future: this machine's clock is behind", path, ahead.Round(time.Second)), "Set the clock, and keep it right with NTP.")
		}
	}
}

// capabilities signs them to find out whether it can be done.
func (c *Preflight) capabilities() {
	if c.Config.Listen.URL.Host == "" {
		c.warn("listen.url", fmt.Sprintf("is absent, so our capabilities and metadata tell clients to come to %s", ownURL(c.Config, string(c.Config.Listen.Public))),
			"Set it to the address by which clients reach this server.")
	}
	if c.pair == nil || c.Config.Party.ID == "" {
		return // reported elsewhere
	}
	tried := providerConfig(c.Config, string(c.Config.Listen.Public), nil)
	tried.Key, tried.Certificates = c.pair.Signer(), c.pair.Certificates
	c.add("capabilities", tried.CapabilitiesProblem(), "")
}

// secrets warns of weak ones of the internal listener.
func (c *Preflight) secrets() {
	if text := c.Config.Listen.Secret.Reveal(); text != "" && config.IsWeakSecret(text) {
		c.Warnings = append(c.Warnings, c.Config.SecretProblem(config.SecretWeak))
	}
	secrets, problems := callers(c.Config)
	c.Problems = append(c.Problems, problems...)
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if text := secrets[name]; config.IsSecret(text) && config.IsWeakSecret(text) {
			c.warn(callerKey(name), config.SecretWeak, config.SecretHint)
		}
	}
}

// revocation: clients often have their seals from the CA that ours is from.
func (c *Preflight) revocation() {
	anchors, err := loadAnchors(c.Config)
	if c.pair == nil || err != nil || c.Config.Trust.Revocation != revocation.Require {
		return
	}
	for _, certificate := range c.pair.Certificates {
		if _, anchored := anchors[trust.FingerprintOf(certificate)]; anchored {
			return
		}
		if err := revocation.CheckSources(certificate); err != nil {
			c.warn("trust.revocation", fmt.Sprintf("the certificate of %q, which our own chain holds, is one of which nobody can say whether it is revoked, and a client whose chain holds it gets no token: %v", certificate.Subject, err),
				cmp.Or(RevocationHint(err), "Ask its CA for an OCSP responder."))
		}
	}
}
