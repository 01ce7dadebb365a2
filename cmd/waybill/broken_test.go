//go:build linux

package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"
	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/internal/smalldisk"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/internal/testservice"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
)

// The installations of these tests have CAs and parties of their own, which are made once.
type founders struct {
	ca, foreign        *isharetest.CA
	provider, consumer *isharetest.Party
	registry, impostor *isharetest.Party
	expiredCA          *testca.Identity
}

var founding = sync.OnceValue(func() *founders {
	f := &founders{ca: isharetest.NewCA(), foreign: isharetest.NewCA()}
	f.provider, f.consumer = f.ca.Party(providerID, "Some Provider"), f.ca.Party(consumerID, "Some Consumer")
	f.registry, f.impostor = f.ca.Party(isharetest.Registrar, "Test Registry"), f.ca.Party("did:ishare:EU.NL.NTRNL-10000008", "Impostor")
	key, err := testca.PooledKey(2048)
	if err != nil {
		panic(err)
	}
	old := *f.ca.Root()
	old.SerialNumber, old.PublicKey, old.NotBefore, old.NotAfter = nil, nil, time.Now().AddDate(-2, 0, 0), time.Now().AddDate(-1, 0, 0)
	if f.expiredCA, err = testca.SelfSign(&old, key); err != nil {
		panic(err)
	}
	return f
})

// An installation is a folder with all that a server needs, the environment that it is started with, and, unless the parties
// are in a file, a registry.
type installation struct {
	*founders

	t        *testing.T
	dir      string
	environ  []string
	registry *isharetest.Registry
	store    *redistest.Server
	bare     bool   // checked by somebody without the capabilities of root
	limit    int    // of open files; 0: as it is
	readOnly string // a folder that nobody can write
	full     string // a folder on a disk that is full
	grow     func() // makes room there
}

const installed = `party:
  id: did:ishare:EU.NL.NTRNL-10000000
  key: key.pem
  certificates: chain.pem
listen:
  public: 127.0.0.1:0
  internal: 127.0.0.1:0
  url: https://provider.example
participants:
  file: parties.json
trust:
  anchors: [root.pem]
  revocation: off
data: data
`

// install makes a complete installation that works.
func install(t *testing.T) *installation {
	t.Helper()
	i := &installation{founders: founding(), t: t, dir: t.TempDir()}
	for _, passed := range []string{i.dir, filepath.Dir(i.dir)} { // others must come to a file for its mode to count
		if err := os.Chmod(passed, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	i.write("waybill.yaml", installed)
	i.seal(i.provider)
	i.write("root.pem", string(i.ca.RootPEM()))
	i.know(i.provider, i.consumer)
	return i
}

// installAtRegistry makes one that asks a registry.
func installAtRegistry(t *testing.T) *installation {
	t.Helper()
	i := install(t)
	i.ask(isharetest.RegistryConfig{Parties: []*isharetest.Party{i.provider, i.consumer}})
	return i
}

// ask starts a registry, and names it in the configuration in the place of what was named before.
func (i *installation) ask(c isharetest.RegistryConfig) {
	i.t.Helper()
	if c.Self == nil {
		c.Self = i.founders.registry
	}
	c.CA, c.Impostor = i.ca, i.impostor
	c.TrustedList = []isharetest.TrustedCA{{Certificate: i.ca.Root()}}
	var err error
	if i.registry, err = isharetest.StartRegistry(c); err != nil {
		i.t.Fatal(err)
	}
	registry := i.registry
	i.t.Cleanup(func() { registry.Close() })
	i.name(i.registry.URL)
}

// name has the configuration name a registry at an address.
func (i *installation) name(address string) {
	i.t.Helper()
	text, err := os.ReadFile(i.path("waybill.yaml"))
	if err != nil {
		i.t.Fatal(err)
	}
	participants := regexp.MustCompile(`(?s)participants:\n.*?\ntrust:`)
	i.write("waybill.yaml", participants.ReplaceAllString(string(text),
		"participants:\n  registry:\n    id: "+isharetest.Registrar+"\n    url: "+address+"\ntrust:"))
}

func (i *installation) path(name string) string { return filepath.Join(i.dir, name) }

func (i *installation) write(name, content string) {
	i.t.Helper()
	write(i.t, i.path(name), content)
}

// edit replaces a text of the configuration file.
func (i *installation) edit(old, now string) {
	i.t.Helper()
	text, err := os.ReadFile(i.path("waybill.yaml"))
	if err != nil {
		i.t.Fatal(err)
	}
	if strings.Count(string(text), old) != 1 {
		i.t.Fatalf("the configuration does not hold %q once:\n%s", old, text)
	}
	i.write("waybill.yaml", strings.Replace(string(text), old, now, 1))
}

// lacks ends a test for which this machine is not made: it is skipped, or fails where nothing may be.
func (i *installation) lacks(what string) {
	i.t.Helper()
	testservice.Need(i.t, errors.New("there is no "+what))
}

// disk makes a small one that is full.
func (i *installation) disk() {
	i.t.Helper()
	i.full, i.grow = smalldisk.Mount(i.t)
	if err := os.WriteFile(filepath.Join(i.full, "filling"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		i.t.Fatal(err)
	}
}

func (i *installation) chmod(name string, mode os.FileMode) {
	i.t.Helper()
	if err := os.Chmod(i.path(name), mode); err != nil {
		i.t.Fatal(err)
	}
}

func (i *installation) rename(from, to string) {
	i.t.Helper()
	if err := os.Rename(i.path(from), i.path(to)); err != nil {
		i.t.Fatal(err)
	}
}

// seal puts the key and the chain of a party into their files.
func (i *installation) seal(p *isharetest.Party) {
	i.t.Helper()
	if err := (&testca.Identity{Key: p.Key, Chain: p.Certificates}).Save(i.path("key.pem"), i.path("chain.pem")); err != nil {
		i.t.Fatal(err)
	}
}

// chain puts certificates into the file of the chain.
func (i *installation) chain(certificates ...*x509.Certificate) {
	i.t.Helper()
	i.write("chain.pem", string(testca.EncodeCertificates(certificates...)))
}

// pkcs12 has the seal be in a file of PKCS#12 alone.
func (i *installation) pkcs12() {
	i.t.Helper()
	file, err := pkcs12.Modern.Encode(i.provider.Key, i.provider.Certificates[0], i.provider.Certificates[1:], password)
	if err != nil {
		i.t.Fatal(err)
	}
	i.write("seal.p12", string(file))
	i.edit("key: key.pem\n  certificates: chain.pem", "key: seal.p12")
}

// know puts the records of parties into their file.
func (i *installation) know(parties ...*isharetest.Party) {
	i.t.Helper()
	var records []*ishare.Party
	for _, p := range parties {
		records = append(records, p.Record)
	}
	text, err := json.Marshal(records)
	if err != nil {
		i.t.Fatal(err)
	}
	i.write("parties.json", string(text))
}

// secure has the public listener speak TLS with a certificate for the provider's name.
func (i *installation) secure(change func(*x509.Certificate)) {
	i.t.Helper()
	key, err := testca.PooledKey(2048)
	if err != nil {
		i.t.Fatal(err)
	}
	cert := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), DNSNames: []string{"provider.example"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert.Subject.CommonName = "Some Server"
	change(cert)
	id, err := testca.SelfSign(cert, key)
	if err != nil {
		i.t.Fatal(err)
	}
	if err := id.Save(i.path("tls-key.pem"), i.path("tls.pem")); err != nil {
		i.t.Fatal(err)
	}
	if text, _ := os.ReadFile(i.path("waybill.yaml")); !bytes.Contains(text, []byte("tls:")) {
		i.edit("  url: https", "  tls: {certificate: tls.pem, key: tls-key.pem}\n  url: https")
	}
}

// keys has the token keys be there, as after a first start.
func (i *installation) keys() {
	i.t.Helper()
	if _, err := accesstoken.OpenKeys(i.path("data/keys"), slog.New(slog.DiscardHandler)); err != nil {
		i.t.Fatal(err)
	}
}

// eachKey does something to the file of the one key of access tokens.
func (i *installation) eachKey(do func(path string) error) {
	i.t.Helper()
	found, err := filepath.Glob(i.path("data/keys/enc-000001.jwk"))
	if err != nil || len(found) == 0 {
		i.t.Fatal(found, err)
	}
	for _, path := range found {
		if err := do(path); err != nil {
			i.t.Fatal(err)
		}
	}
}

// run runs a command, which must succeed.
func (i *installation) run(args ...string) {
	i.t.Helper()
	var out, said bytes.Buffer
	if status := run(i.t.Context(), append([]string{"waybill"}, args...), func(string) string { return "" }, streams{strings.NewReader(""), &out, &said}); status != statusDone {
		i.t.Fatalf("waybill %s: status %d\n%s%s", args, status, &out, &said)
	}
}

// check runs waybill check, and gives its status and what it writes to standard output and standard error.
func (i *installation) check() (status int, out, said string) {
	i.t.Helper()
	if i.limit > 0 {
		script := fmt.Sprintf("ulimit -n %d; exec waybill check --config waybill.yaml", i.limit)
		cmd := exec.Command("sh", "-c", script)
		var stdout, stderr bytes.Buffer
		cmd.Dir, cmd.Stdout, cmd.Stderr = i.dir, &stdout, &stderr
		if err := cmd.Run(); cmd.ProcessState == nil {
			i.t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
	}
	var stdout, stderr bytes.Buffer
	c := &command{streams: streams{strings.NewReader(""), &stdout, &stderr}, getenv: func(string) string { return "" }}
	var err error
	var checked sync.WaitGroup
	checked.Go(func() {
		if i.bare {
			runtime.LockOSThread() // without an unlock, so that the thread ends with the goroutine
			if e := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &make([]unix.CapUserData, 2)[0]); e != nil {
				err = e
				return
			}
		}
		err = c.checkFile(i.path("waybill.yaml"), i.environ)
	})
	checked.Wait()
	switch {
	case err == nil:
		return statusDone, stdout.String(), stderr.String()
	case errors.Is(err, errNo):
		return statusNo, stdout.String(), stderr.String()
	}
	return statusUsage, stdout.String(), stderr.String() + err.Error()
}

// A breakage is one way in which an installation does not work.
type breakage struct {
	name    string
	install func(*testing.T) *installation // nil: install
	prepare func(*installation)            // so that it still works; may be nil
	do      func(*installation)
	at      string // where it is told: the key, behind the line of the file or the variable
	says    string // the mend, in words of the answer
	mend    func(*installation)
	warning bool // the server starts with it

	problems int // that this one cause has; 0: 1
}

// Whatever is wrong with an installation, check names the key and the mend; and who does what it says has one that works.
func TestBrokenInstallations(t *testing.T) {
	t.Parallel()
	all := slices.Concat(brokenSeals(), brokenTrust(), brokenParticipants(), brokenRegistries(), brokenFolders(), brokenListeners(), brokenStores(), brokenSettings())
	if len(all) < 50 {
		t.Errorf("there are %d", len(all))
	}
	for _, b := range all {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			if b.install == nil {
				b.install = install
			}
			i := b.install(t)
			if b.prepare != nil {
				b.prepare(i)
			}
			if status, out, said := i.check(); status != statusDone || out != "" {
				t.Fatalf("before: status %d\n%s%s", status, out, said)
			}
			b.do(i)
			status, out, said := i.check()
			want, told := statusNo, out
			if b.warning {
				want, told = statusDone, said
			}
			lines := regexp.MustCompile(`(?m)^(warning: )?\S*`+b.at+`.*$`).FindAllString(told, -1)
			if status != want || !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, b.says) }) {
				t.Errorf("status %d, want %d, and at %s the words %q:\n%s%s", status, want, b.at, b.says, out, said)
			}
			if n := strings.Count(out, "\n"); !b.warning && n != max(b.problems, 1) {
				t.Errorf("one cause has %d problems:\n%s", n, out)
			}
			b.mend(i)
			status, out, mended := i.check()
			if status != statusDone || out != "" || b.warning && strings.Contains(mended, b.says) {
				t.Errorf("mended: status %d\n%s%s", status, out, mended)
			}
			if t.Failed() || testing.Verbose() {
				t.Logf("it said:\n%s%s", out, told)
			}
		})
	}
}

func brokenSeals() []breakage {
	restore := func(i *installation) { i.seal(i.provider) }
	resealed := func(change func(*x509.Certificate)) func(*installation) {
		return func(i *installation) { i.seal(i.provider.Resealed(change)) }
	}
	return []breakage{
		{
			name: "the key is missing", at: `waybill\.yaml:3:3: party\.key: `, says: "no such file or directory. Check the path",
			do: func(i *installation) { i.rename("key.pem", "elsewhere.pem") }, mend: func(i *installation) { i.rename("elsewhere.pem", "key.pem") },
		},
		{
			name: "the key cannot be read", at: `waybill\.yaml:3:3: party\.key: `, says: "Let the account that Waybill runs under read the file",
			prepare: func(i *installation) { i.bare = true },
			do:      func(i *installation) { i.chmod("key.pem", 0) }, mend: func(i *installation) { i.chmod("key.pem", 0o400) },
		},
		{
			name: "everybody can change the key", at: `waybill\.yaml:3:3: party\.key: `, says: "run: chmod go-w '",
			do: func(i *installation) { i.chmod("key.pem", 0o602) }, mend: func(i *installation) { i.chmod("key.pem", 0o600) },
		},
		{
			name: "everybody can read the key", at: `waybill\.yaml:3:3: party\.key: `, says: "Run: chmod o= '", warning: true,
			do: func(i *installation) { i.chmod("key.pem", 0o644) }, mend: func(i *installation) { i.chmod("key.pem", 0o640) },
		},
		{
			name: "a group can read the key", at: `waybill\.yaml:3:3: party\.key: `, says: "run: chmod 600 '", warning: true,
			do: func(i *installation) {
				if err := errors.Join(os.Chown(i.path("key.pem"), 54321, 54000), os.Chmod(i.path("key.pem"), 0o640)); err != nil {
					i.lacks("the right to give files away: " + err.Error())
				}
			},
			mend: func(i *installation) { i.chmod("key.pem", 0o600) },
		},
		{
			name: "the key is another's", at: `waybill\.yaml:4:3: party\.certificates: `, says: "Give the key and the certificate that were made together",
			do: func(i *installation) { i.seal(i.consumer); i.chain(i.provider.Certificates...) }, mend: restore,
		},
		{
			name: "the seal has expired", at: `waybill\.yaml:4:3: party\.certificates: `, says: "renew the certificate that the sentence names; register a new seal",
			do: resealed(func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().AddDate(-2, 0, 0), time.Now().AddDate(-1, 0, 0)
			}),
			mend: resealed(nil),
		},
		{
			name: "the seal is not valid yet", at: `waybill\.yaml:4:3: party\.certificates: `, says: "Wait until then, or set the clock right",
			do: resealed(func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().AddDate(1, 0, 0), time.Now().AddDate(2, 0, 0)
			}),
			mend: restore,
		},
		{
			name: "the seal expires soon", at: `waybill\.yaml:4:3: party\.certificates: `, says: "Renew the certificate, and register the new one with the Participant Registry", warning: true,
			do:   resealed(func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, 7) }),
			mend: resealed(nil),
		},
		{
			name: "the chain is in the wrong order", at: `waybill\.yaml:4:3: party\.certificates: `, says: "Put them in this order, by their present numbers: 4 ",
			do: func(i *installation) {
				backwards := slices.Clone(i.provider.Certificates)
				slices.Reverse(backwards)
				i.chain(backwards...)
			},
			mend: restore,
		},
		{
			name: "the chain is the leaf alone", at: `waybill\.yaml:4:3: party\.certificates: `, says: "Add the certificates of the issuers below it, up to the root",
			do: func(i *installation) { i.chain(i.provider.Certificates[0]) }, mend: restore,
		},
		{
			name: "an issuer is missing", at: `waybill\.yaml:4:3: party\.certificates: `, says: "add what is missing between it and the chain", problems: 2,
			do:   func(i *installation) { i.chain(slices.Delete(slices.Clone(i.provider.Certificates), 1, 2)...) },
			mend: restore,
		},
		{
			name: "the password is missing", at: `waybill\.yaml:3:3: party\.key: `, says: "Set its password in WAYBILL_PARTY_KEY_PASSWORD",
			prepare: func(i *installation) { i.pkcs12(); i.environ = []string{"WAYBILL_PARTY_KEY_PASSWORD=" + password} },
			do:      func(i *installation) { i.environ = nil },
			mend:    func(i *installation) { i.environ = []string{"WAYBILL_PARTY_KEY_PASSWORD=" + password} },
		},
		{
			name: "the password is wrong", at: `waybill\.yaml:3:3: party\.key: `, says: "Set the right password in WAYBILL_PARTY_KEY_PASSWORD",
			prepare: func(i *installation) { i.pkcs12(); i.environ = []string{"WAYBILL_PARTY_KEY_PASSWORD=" + password} },
			do:      func(i *installation) { i.environ = []string{"WAYBILL_PARTY_KEY_PASSWORD=another"} },
			mend:    func(i *installation) { i.environ = []string{"WAYBILL_PARTY_KEY_PASSWORD=" + password} },
		},
		{
			name: "the seal names another party", at: `waybill\.yaml:2:3: party\.id: `, says: "Give the seal of this party, or correct party.id", warning: true,
			do: func(i *installation) { i.seal(i.consumer) }, mend: func(i *installation) { i.edit("10000000", "10000001") },
		},
	}
}

func brokenTrust() []breakage {
	restore := func(i *installation) { i.write("root.pem", string(i.ca.RootPEM())) }
	return []breakage{
		{
			name: "an anchor is missing", at: `waybill\.yaml:12:13: trust\.anchors\[0\]: `, says: "Give the file of CA certificates",
			do: func(i *installation) { i.edit("[root.pem]", "[roots.pem]") }, mend: func(i *installation) { i.edit("[roots.pem]", "[root.pem]") },
		},
		{
			name: "an anchor is no CA", at: `waybill\.yaml:12:13: trust\.anchors\[0\]: `, says: "Give the certificate of the CA that issues seals",
			do: func(i *installation) {
				i.write("root.pem", string(testca.EncodeCertificates(i.consumer.Certificates[0])))
			}, mend: restore,
		},
		{
			name: "an anchor has expired", at: `waybill\.yaml:12:13: trust\.anchors\[0\]: `, says: "Give its successor, which the CA publishes",
			do: func(i *installation) {
				i.write("root.pem", string(testca.EncodeCertificates(i.expiredCA.Certificate())))
			}, mend: restore,
		},
		{
			name: "an anchor cannot be read", at: `waybill\.yaml:12:13: trust\.anchors\[0\]: `, says: "Let the account that Waybill runs under read the file",
			prepare: func(i *installation) { i.bare = true },
			do:      func(i *installation) { i.chmod("root.pem", 0) }, mend: func(i *installation) { i.chmod("root.pem", 0o444) },
		},
		{
			name: "a trusted list without a registry", at: `waybill\.yaml:14:3: trust\.trusted_list: `, says: "Give participants.registry, or remove this",
			do:   func(i *installation) { i.edit("revocation: off\n", "revocation: off\n  trusted_list: true\n") },
			mend: func(i *installation) { i.edit("  trusted_list: true\n", "") },
		},
		{
			name: "no CA of ours says who is revoked", at: `waybill\.yaml:13:3: trust\.revocation: `, says: "names an OCSP responder or a revocation list", warning: true,
			do: func(i *installation) { i.edit("revocation: off", "revocation: require") },
			mend: func(i *installation) { // a CA that is an anchor is not asked about, and no other way is left here
				i.edit("revocation: require", "revocation: off")
			},
		},
	}
}

func brokenParticipants() []breakage {
	restore := func(i *installation) { i.know(i.provider, i.consumer) }
	return []breakage{
		{
			name: "a file and a registry", at: `waybill\.yaml:11:3: participants\.registry: `, says: "participants.file is given as well. Remove one of them",
			do: func(i *installation) {
				i.edit("file: parties.json\n", "file: parties.json\n  registry: {id: "+isharetest.Registrar+", url: https://127.0.0.1:1}\n")
			},
			mend: func(i *installation) {
				i.edit("  registry: {id: "+isharetest.Registrar+", url: https://127.0.0.1:1}\n", "")
			},
		},
		{
			name: "neither a file nor a registry", at: `waybill\.yaml:\d+:\d+: participants: `, says: "Add participants.file, or participants.registry",
			do:   func(i *installation) { i.edit("participants:\n  file: parties.json\n", "") },
			mend: func(i *installation) { i.edit("trust:\n", "participants:\n  file: parties.json\ntrust:\n") },
		},
		{
			name: "the records are no JSON and no YAML", at: `waybill\.yaml:10:3: participants\.file: `, says: "It must be a list of iSHARE 3.0 party records",
			do: func(i *installation) { i.write("parties.json", `[{"id": `) }, mend: restore,
		},
		{
			name: "the file of the records is empty", at: `waybill\.yaml:10:3: participants\.file: `, says: "it is empty. It must be a list",
			do: func(i *installation) { i.write("parties.json", "") }, mend: restore,
		},
		{
			name: "the file of the records is missing", at: `waybill\.yaml:10:3: participants\.file: `, says: "no such file or directory",
			do: func(i *installation) { i.rename("parties.json", "elsewhere.json") }, mend: func(i *installation) { i.rename("elsewhere.json", "parties.json") },
		},
		{
			name: "two records have one identifier", at: `waybill\.yaml:10:3: participants\.file: `, says: consumerID,
			do: func(i *installation) { i.know(i.provider, i.consumer, i.consumer) }, mend: restore,
		},
		{
			name: "a certificate in a record is none", at: `waybill\.yaml:10:3: participants\.file: `, says: "nobody can be admitted by this record", warning: true,
			do: func(i *installation) {
				text, err := os.ReadFile(i.path("parties.json"))
				if err != nil {
					i.t.Fatal(err)
				}
				i.write("parties.json", strings.ReplaceAll(string(text), `"MII`, `"XXX`))
			},
			mend: restore,
		},
	}
}

func brokenRegistries() []breakage {
	back := func(i *installation) { i.name(i.registry.URL) }
	knows := func(standing ...isharetest.Standing) func(*installation) {
		return func(i *installation) { i.registry.Parties.Put(i.provider.With(standing...)) }
	}
	const registry = `waybill\.yaml:10:3: participants\.registry: `
	return []breakage{
		{
			name: "the registry is called without TLS", install: installAtRegistry, at: `waybill\.yaml:12:10: participants\.registry\.url: `, says: "want https",
			do: func(i *installation) { i.name("http://registry.example") }, mend: back,
		},
		{
			name: "the registry's path is wrong", install: installAtRegistry, at: `waybill\.yaml:12:5: participants\.registry\.url: `, says: "No token endpoint is there: correct participants.registry.url",
			do: func(i *installation) { i.name(i.registry.URL + "/satellite") }, mend: back,
		},
		{
			name: "nobody is at the registry's address", install: installAtRegistry, at: registry, says: "Nobody listens there: correct host and port in participants.registry.url",
			do: func(i *installation) { i.name("https://127.0.0.1:1") }, mend: back,
		},
		{
			name: "the registry's host has no address", install: installAtRegistry, at: registry, says: "Correct the host in participants.registry.url, or this machine's DNS",
			do: func(i *installation) { i.name("https://registry.invalid") }, mend: back,
		},
		{
			name: "the registry's certificate for TLS is from nobody known", install: installAtRegistry, at: registry, says: "SSL_CERT_FILE",
			do: func(i *installation) {
				server := httptest.NewUnstartedServer(i.registry)
				server.Config.ErrorLog = log.New(io.Discard, "", 0) // the handshake fails
				server.StartTLS()
				i.t.Cleanup(server.Close)
				i.name(server.URL)
			},
			mend: back,
		},
		{
			name: "nobody says whether the registry's seal is revoked", install: installAtRegistry, at: registry, says: "names an OCSP responder or a revocation list",
			do:   func(i *installation) { i.edit("revocation: off", "revocation: require") },
			mend: func(i *installation) { i.edit("revocation: require", "revocation: off") },
		},
		{
			name: "the registry is another party", install: installAtRegistry, at: `waybill\.yaml:11:5: participants\.registry\.id: `, says: "Another party answers there: correct participants.registry.id",
			do:   func(i *installation) { i.edit("id: "+isharetest.Registrar, "id: did:ishare:EU.NL.NTRNL-10000007") },
			mend: func(i *installation) { i.edit("id: did:ishare:EU.NL.NTRNL-10000007", "id: "+isharetest.Registrar) },
		},
		{
			name: "the registry's seal is below no anchor of ours", install: installAtRegistry, at: registry, says: "Add the root of the registry's seal to trust.anchors",
			do:   func(i *installation) { i.write("root.pem", string(i.foreign.RootPEM())) },
			mend: func(i *installation) { i.write("root.pem", string(append(i.foreign.RootPEM(), i.ca.RootPEM()...))) },
		},
		{
			name: "the registry does not know us", install: installAtRegistry, at: `waybill\.yaml:2:3: party\.id: `, says: "Ask your registrar to add your party, or correct the identifier",
			do: func(i *installation) { i.ask(isharetest.RegistryConfig{Parties: []*isharetest.Party{i.consumer}}) }, mend: knows(),
		},
		{
			name: "we are not active at the registry", install: installAtRegistry, at: `waybill\.yaml:2:3: party\.id: `, says: "Ask your registrar to put your compliance in the Participant Registry right",
			do: knows(isharetest.Inactive), mend: knows(),
		},
		{
			name: "the registry has another certificate of ours", install: installAtRegistry, at: `waybill\.yaml:4:3: party\.certificates: `, says: "Register the seal that you sign with at the Participant Registry",
			do: knows(isharetest.OtherCertificate), mend: knows(),
		},
		{
			name: "the clock differs from the registry's", install: installAtRegistry, at: registry, says: "Set the clock, and keep it right with NTP",
			do: func(i *installation) {
				target, err := url.Parse(i.registry.URL)
				if err != nil {
					i.t.Fatal(err)
				}
				proxy := httputil.NewSingleHostReverseProxy(target)
				proxy.ModifyResponse = func(r *http.Response) error {
					r.Header.Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
					return nil
				}
				server := httptest.NewServer(proxy)
				i.t.Cleanup(server.Close)
				i.name(server.URL)
			},
			mend: back,
		},
	}
}

func brokenFolders() []breakage {
	restore := func(name string) func(*installation) {
		return func(i *installation) { i.edit("data: "+name, "data: data") }
	}
	return []breakage{
		{
			name: "the data folder cannot be written", at: `waybill\.yaml:14:1: data: `, says: "Make the folder writable for the user that runs the server",
			prepare: func(i *installation) {
				i.bare = true
				if err := os.Mkdir(i.path("data"), 0o700); err != nil {
					i.t.Fatal(err)
				}
			},
			do: func(i *installation) { i.chmod("data", 0o500) }, mend: func(i *installation) { i.chmod("data", 0o700) },
		},
		{
			name: "the data folder is a file", at: `waybill\.yaml:14:1: data: `, says: "Name a folder",
			do: func(i *installation) { i.edit("data: data", "data: root.pem") }, mend: restore("root.pem"),
		},
		{
			name: "the folder of the audit trail is missing", at: `waybill\.yaml:15:9: audit\.file: `, says: "Make its folder",
			do: func(i *installation) { i.edit("data: data\n", "data: data\naudit: {file: evidence/audit.jsonl}\n") },
			mend: func(i *installation) {
				if err := os.Mkdir(i.path("evidence"), 0o700); err != nil {
					i.t.Fatal(err)
				}
			},
		},
		{
			name: "the last line of the audit trail was changed", at: `waybill\.yaml:15:9: audit\.file: `, says: "move it away",
			prepare: func(i *installation) { i.edit("data: data\n", "data: data\naudit: {file: audit.jsonl}\n") },
			do:      func(i *installation) { i.write("audit.jsonl", `{"number":1,"event":"opened"}`+"\n") },
			mend:    func(i *installation) { i.rename("audit.jsonl", "audit.jsonl.kept") },
		},
		{
			name: "the data folder is on a file system that is read-only", at: `waybill\.yaml:14:1: data: `, says: "not mounted read-only",
			prepare: func(i *installation) { i.readOnly = smalldisk.ReadOnly(i.t) },
			do:      func(i *installation) { i.edit("data: data", "data: "+i.readOnly) },
			mend:    func(i *installation) { restore(i.readOnly)(i) },
		},
		{
			name: "the disk of the data folder is full", at: `waybill\.yaml:14:1: data: `, says: "Make room on the disk",
			prepare: (*installation).disk,
			do:      func(i *installation) { i.edit("data: data", "data: "+i.full+"/data") }, mend: func(i *installation) { i.grow() },
		},
		{
			name: "the disk of the audit trail is full", at: `waybill\.yaml:15:9: audit\.file: `, says: "Make room on the disk",
			prepare: (*installation).disk,
			do: func(i *installation) {
				i.edit("data: data\n", "data: data\naudit: {file: "+i.full+"/audit.jsonl}\n")
				write(i.t, i.full+"/audit.jsonl", "")
			},
			mend: func(i *installation) { i.grow() },
		},
		{
			name: "the data folder is a link to nothing", at: `waybill\.yaml:14:1: data: `, says: "make it for the user that runs the server", warning: true,
			do: func(i *installation) {
				if err := os.Symlink("elsewhere", i.path("data")); err != nil {
					i.t.Fatal(err)
				}
			},
			mend: func(i *installation) {
				if err := os.Mkdir(i.path("elsewhere"), 0o700); err != nil {
					i.t.Fatal(err)
				}
			},
		},
		{
			name: "everybody can change the folder of the keys", at: `waybill\.yaml:1:1: tokens\.keys: `, says: "run: chmod go-w '",
			prepare: (*installation).keys,
			do:      func(i *installation) { i.chmod("data/keys", 0o702) }, mend: func(i *installation) { i.chmod("data/keys", 0o700) },
		},
		{
			name: "a group can read a key of access tokens", at: `waybill\.yaml:1:1: tokens\.keys: `, says: "chmod",
			prepare: (*installation).keys,
			do:      func(i *installation) { i.eachKey(func(path string) error { return os.Chmod(path, 0o640) }) },
			mend:    func(i *installation) { i.eachKey(func(path string) error { return os.Chmod(path, 0o600) }) },
		},
		{
			name: "a foreign file is among the keys", at: `waybill\.yaml:1:1: tokens\.keys: `, says: "Mend or remove the file that is named",
			prepare: (*installation).keys,
			do:      func(i *installation) { i.write("data/keys/notes.jwk", "what is this?") },
			mend: func(i *installation) {
				if err := os.Remove(i.path("data/keys/notes.jwk")); err != nil {
					i.t.Fatal(err)
				}
			},
		},
		{
			name: "the key set is damaged", at: `waybill\.yaml:16:3: tokens\.keys: `, says: "Put back the key set as it was, or make one with waybill keys add",
			prepare: func(i *installation) {
				i.run("keys", "add", "--keys", i.path("keys.json"))
				i.edit("data: data\n", "data: data\ntokens:\n  keys: keys.json\n")
			},
			do:   func(i *installation) { i.rename("keys.json", "keys.old"); i.write("keys.json", `{"keys": [`) },
			mend: func(i *installation) { i.rename("keys.old", "keys.json") },
		},
		{
			name: "a key of access tokens is damaged", at: `waybill\.yaml:1:1: tokens\.keys: `, says: "Mend or remove the file that is named",
			prepare: (*installation).keys,
			do: func(i *installation) {
				i.eachKey(func(path string) error { return os.WriteFile(path, []byte("{}"), 0o600) })
			},
			mend: func(i *installation) { i.eachKey(os.Remove) },
		},
	}
}

func brokenListeners() []breakage {
	const certificate, key = `waybill\.yaml:8:9: listen\.tls\.certificate: `, `waybill\.yaml:8:31: listen\.tls\.key: `
	sound := func(*x509.Certificate) {}
	secured := func(i *installation) { i.secure(sound) }
	public := func(address string) (do, mend func(*installation)) {
		return func(i *installation) { i.edit("public: 127.0.0.1:0", "public: "+address) },
			func(i *installation) { i.edit("public: "+address, "public: 127.0.0.1:0") }
	}
	privileged, unprivileged := public("127.0.0.1:443")
	elsewhere, here := public("203.0.113.1:8080")
	noAddress, address := public("localhost")
	var taken sync.Map // by the installation: the listener of another program
	return []breakage{
		{
			name: "another program has the address", at: `waybill\.yaml:6:3: listen\.public: `, says: "stop the process that has this one",
			do: func(i *installation) {
				l, err := new(net.ListenConfig).Listen(i.t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					i.t.Fatal(err)
				}
				taken.Store(i, l)
				i.t.Cleanup(func() { l.Close() })
				i.edit("public: 127.0.0.1:0", "public: "+l.Addr().String())
			},
			mend: func(i *installation) {
				l, _ := taken.Load(i)
				if closer, ok := l.(io.Closer); ok {
					closer.Close()
				}
			},
		},
		{
			name: "the port is for root", at: `waybill\.yaml:6:3: listen\.public: `, says: "AmbientCapabilities=CAP_NET_BIND_SERVICE",
			prepare: func(i *installation) {
				i.bare = true
				if first, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || strings.TrimSpace(string(first)) != "1024" {
					i.lacks("low ports that are for root")
				}
			},
			do: privileged, mend: unprivileged,
		},
		{
			name: "the address is another machine's", at: `waybill\.yaml:6:3: listen\.public: `, says: "Give an address of this machine",
			do: elsewhere, mend: here,
		},
		{
			name: "the address is none", at: `waybill\.yaml:6:11: listen\.public: `, says: "want host:port, such as 127.0.0.1:8080",
			do: noAddress, mend: address,
		},
		{
			name: "the key for TLS is another's", at: certificate, says: "Give the key and the certificate that were made together",
			prepare: secured, do: func(i *installation) {
				i.rename("tls-key.pem", "old.pem")
				i.rename("key.pem", "tls-key.pem")
				i.seal(i.provider)
			},
			mend: func(i *installation) { i.rename("old.pem", "tls-key.pem") },
		},
		{
			name: "the key for TLS is missing", at: key, says: "Check the path",
			prepare: secured, do: func(i *installation) { i.rename("tls-key.pem", "old.pem") }, mend: func(i *installation) { i.rename("old.pem", "tls-key.pem") },
		},
		{
			name: "the certificate for TLS has expired", at: certificate, says: "Renew the certificate, and put the new one in its place",
			prepare: secured, do: func(i *installation) {
				i.secure(func(c *x509.Certificate) {
					c.NotBefore, c.NotAfter = time.Now().AddDate(0, -3, 0), time.Now().AddDate(0, 0, -1)
				})
			},
			mend: secured,
		},
		{
			name: "the certificate for TLS is for another name", at: certificate, says: "Get a certificate for the name in listen.url", warning: true,
			prepare: secured, do: func(i *installation) { i.secure(func(c *x509.Certificate) { c.DNSNames = []string{"other.example"} }) },
			mend: secured,
		},
		{
			name: "clients would come without TLS", at: `waybill\.yaml:8:8: listen\.url: `, says: "want https",
			do:   func(i *installation) { i.edit("https://provider.example", "http://provider.example") },
			mend: func(i *installation) { i.edit("http://provider.example", "https://provider.example") },
		},
		{
			name: "the secret of the internal listener is short", at: `\$WAYBILL_LISTEN_INTERNAL_SECRET: listen\.internal: `, says: "openssl rand -hex 32",
			do: func(i *installation) { i.environ = []string{"WAYBILL_LISTEN_INTERNAL_SECRET=secret"} },
			mend: func(i *installation) {
				i.environ = []string{"WAYBILL_LISTEN_INTERNAL_SECRET=9f86d081884c7d659a2feaa0c55ad015"}
			},
		},
		{
			name: "there are too few descriptors", at: `waybill\.yaml:1:1: limits\.connections: `, says: "Raise the limit: LimitNOFILE=",
			do: func(i *installation) { i.limit = 48 }, mend: func(i *installation) { i.limit = 1024 },
		},
	}
}

func brokenStores() []breakage {
	const password = "a-password-of-redis"
	stored := func(i *installation, state string) { i.write("waybill.yaml", installed+"state: "+state+"\n") }
	redis := func(options ...string) func(*testing.T) *installation {
		return func(t *testing.T) *installation {
			t.Helper()
			i := install(t)
			i.store = redistest.Start(t, options...)
			stored(i, i.store.URL())
			return i
		}
	}
	right := func(i *installation) { stored(i, i.store.URL()) }
	const state = `waybill\.yaml:15:1: state: `
	return []breakage{
		{
			name: "the store is away", install: redis(), at: state, says: "Start the store, or correct host and port",
			do: func(i *installation) { i.store.Kill() }, mend: func(i *installation) { i.store.Restart() },
		},
		{
			name: "the store wants a password", install: redis("--requirepass", password), at: state, says: "set WAYBILL_STATE_PASSWORD",
			prepare: func(i *installation) { i.environ = []string{"WAYBILL_STATE_PASSWORD=" + password} },
			do:      func(i *installation) { i.environ = nil },
			mend:    func(i *installation) { i.environ = []string{"WAYBILL_STATE_PASSWORD=" + password} },
		},
		{
			name: "the password of the store is wrong", install: redis("--requirepass", password), at: state, says: "WAYBILL_STATE_PASSWORD, or the password in the URL, is not that of the user",
			prepare: func(i *installation) { i.environ = []string{"WAYBILL_STATE_PASSWORD=" + password} },
			do:      func(i *installation) { i.environ = []string{"WAYBILL_STATE_PASSWORD=another"} },
			mend:    func(i *installation) { i.environ = []string{"WAYBILL_STATE_PASSWORD=" + password} },
		},
		{
			name: "the store has no such database", install: redis(), at: state, says: "the number behind the host is that of a database",
			do: func(i *installation) { stored(i, strings.TrimSuffix(i.store.URL(), "/0")+"/99") }, mend: right,
		},
		{
			name: "the store forgets when it is full", install: redis(), at: state, says: "set maxmemory-policy to noeviction",
			do: func(i *installation) {
				i.store.Do("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
			},
			mend: func(i *installation) { i.store.Do("CONFIG", "SET", "maxmemory-policy", "noeviction") },
		},
	}
}

func brokenSettings() []breakage {
	add := func(text string) (do, undo func(*installation)) {
		return func(i *installation) { i.write("waybill.yaml", installed+text) }, func(i *installation) { i.write("waybill.yaml", installed) }
	}
	two, one := add("routes:\n  - {path: /orders, upstream: 'http://127.0.0.1:1'}\n  - {path: /orders, upstream: 'http://127.0.0.1:2'}\n")
	unknown, known := add("policy: {leway: 5s}\n")
	duration, right := add("policy: {leeway: five}\n")
	tab, blanks := add("policy:\n\tleeway: 5s\n")
	scope, noScope := add("routes:\n  - {path: /orders, upstream: 'http://127.0.0.1:1', scope: orders}\n")
	return []breakage{
		{
			name: "two routes have one path", at: `waybill\.yaml:17:6: routes\[1\]\.path: `, says: "/orders",
			do: two, mend: one,
		},
		{
			name: "a route leads to this server", at: `waybill\.yaml:16:21: routes\[0\]\.upstream: `, says: "needs a port of its own",
			do: func(i *installation) {
				free := httptest.NewServer(http.NotFoundHandler())
				address := free.Listener.Addr().String()
				free.Close()
				i.edit("public: 127.0.0.1:0", "public: "+address)
				_, port, _ := net.SplitHostPort(address)
				text, _ := os.ReadFile(i.path("waybill.yaml"))
				i.write("waybill.yaml", string(text)+"routes:\n  - {path: /orders, upstream: 'http://localhost:"+port+"'}\n")
			},
			mend: func(i *installation) {
				i.edit("'http://localhost", "'http://198.51.100.1")
			},
		},
		{
			name: "a scope that nobody can get", at: `waybill\.yaml:16:53: routes\[0\]\.scope: `, says: "Add it to scopes",
			do: scope, mend: noScope,
		},
		{name: "an unknown key", at: `waybill\.yaml:15:10: policy\.leway: `, says: "Did you mean leeway?", do: unknown, mend: known},
		{name: "a value of another type", at: `waybill\.yaml:15:18: policy\.leeway: `, says: "want a duration such as 30s", do: duration, mend: right},
		{
			name: "a line that is indented less than its neighbours", at: `waybill\.yaml:13:3: `, says: "Compare the indentation of this line",
			do:   func(i *installation) { i.edit("  anchors:", " anchors:") },
			mend: func(i *installation) { i.edit(" anchors:", "  anchors:") },
		},
		{name: "a tab", at: `waybill\.yaml:16:\d+: `, says: "Indent this line with blanks", do: tab, mend: blanks},
		{
			name: "a variable is misspelt", at: `\$WAYBILL_PARTY_KYE: `, says: "Did you mean WAYBILL_PARTY_KEY?",
			do:   func(i *installation) { i.environ = []string{"WAYBILL_PARTY_KYE=key.pem"} },
			mend: func(i *installation) { i.environ = []string{"WAYBILL_PARTY_KEY=" + i.path("key.pem")} },
		},
	}
}
