package revocation

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/internal/testservice"
)

// An opensslCA answers for the issuing CA of a PKI with OpenSSL's own responder and
// lists.
type opensslCA struct {
	p         *pki
	dir       string
	responder []string // more arguments of openssl ocsp
}

func newOpenSSL(t *testing.T, p *pki, responder ...string) *opensslCA {
	t.Helper()
	testservice.Program(t, "openssl")
	o := &opensslCA{p: p, dir: t.TempDir(), responder: responder}
	o.identity("ca", p.ca.Authority(testca.Issuing))
	o.identity("responder", p.signed(testca.Issuing, p.ca.ResponderTemplate()))
	o.write("openssl.cnf", `
[ca]
default_ca = test
[test]
database = index.txt
certificate = ca.pem
private_key = ca-key.pem
crlnumber = number
default_md = sha256
default_crl_days = 1
crl_extensions = crl
[crl]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical, @point
[point]
fullname = URI:`+p.list+`
onlyuser = TRUE
`)
	o.write("number", "01\n")
	o.write("index.txt.attr", "unique_subject = no\n")
	return o
}

func (o *opensslCA) identity(name string, id *testca.Identity) {
	o.p.t.Helper()
	if err := id.Save(o.file(name+"-key.pem"), o.file(name+".pem")); err != nil {
		o.p.t.Fatal(err)
	}
}

func (o *opensslCA) file(name string) string { return filepath.Join(o.dir, name) }

func (o *opensslCA) write(name, text string) {
	o.p.t.Helper()
	if err := os.WriteFile(o.file(name), []byte(text), 0o600); err != nil {
		o.p.t.Fatal(err)
	}
}

func (o *opensslCA) edit(name string, oldnew ...string) {
	o.p.t.Helper()
	text, err := os.ReadFile(o.file(name))
	if err != nil {
		o.p.t.Fatal(err)
	}
	o.write(name, strings.NewReplacer(oldnew...).Replace(string(text)))
}

// knows tells OpenSSL of a good certificate and of a revoked one.
func (o *opensslCA) knows(good, revoked *x509.Certificate) {
	const stamp = "060102150405Z"
	end := time.Now().AddDate(1, 0, 0).UTC().Format(stamp)
	since := time.Now().Add(-time.Hour).UTC().Format(stamp)
	o.write("index.txt", fmt.Sprintf("V\t%s\t\t%X\tunknown\t/CN=good\nR\t%s\t%s,keyCompromise\t%X\tunknown\t/CN=revoked\n",
		end, good.SerialNumber.Bytes(), end, since, revoked.SerialNumber.Bytes()))
}

func (o *opensslCA) run(ctx context.Context, arguments ...string) error {
	command := exec.CommandContext(ctx, "openssl", arguments...)
	command.Dir = o.dir
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("openssl %v: %w\n%s", arguments, err, out)
	}
	return nil
}

func (o *opensslCA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := o.answer(r)
	if err != nil {
		o.p.t.Error(err)
	}
	w.Write(answer)
}

func (o *opensslCA) answer(r *http.Request) ([]byte, error) {
	if r.Method == http.MethodGet {
		if err := o.run(r.Context(), "ca", "-config", "openssl.cnf", "-gencrl", "-out", "list.pem"); err != nil {
			return nil, err
		}
		if err := o.run(r.Context(), "crl", "-in", "list.pem", "-outform", "DER", "-out", "list.der"); err != nil {
			return nil, err
		}
		return os.ReadFile(o.file("list.der"))
	}
	question, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	o.write("question.der", string(question))
	err = o.run(r.Context(), append([]string{
		"ocsp", "-index", "index.txt", "-CA", "ca.pem", "-reqin", "question.der", "-respout", "answer.der",
	}, o.responder...)...)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(o.file("answer.der"))
}

func TestOpenSSLResponder(t *testing.T) {
	for _, test := range []struct {
		name      string
		arguments []string
	}{
		{"the CA itself, its certificate enclosed", []string{"-rsigner", "ca.pem", "-rkey", "ca-key.pem", "-nmin", "60"}},
		{"the CA itself, by its key and alone", []string{"-rsigner", "ca.pem", "-rkey", "ca-key.pem", "-nmin", "60", "-resp_no_certs", "-resp_key_id"}},
		{"the CA itself with its chain", []string{"-rsigner", "ca.pem", "-rkey", "ca-key.pem", "-nmin", "60", "-rother", "ca.pem"}},
		{"a responder", []string{"-rsigner", "responder.pem", "-rkey", "responder-key.pem", "-nmin", "60", "-rmd", "sha384"}},
		{"a responder, by its key, without an end", []string{"-rsigner", "responder.pem", "-rkey", "responder-key.pem", "-resp_key_id"}},
		{"a responder that signs with PSS", []string{
			"-rsigner", "responder.pem", "-rkey", "responder-key.pem",
			"-rsigopt", "rsa_padding_mode:pss", "-rsigopt", "rsa_pss_saltlen:digest",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := servedPKI(t, withoutLists).pinned()
			o := newOpenSSL(t, p, test.arguments...)
			good, revoked, unknown := p.chain(), p.chain(), p.chain()
			o.knows(good.Leaf(), revoked.Leaf())
			p.behind(func(http.Handler) http.Handler { return o })
			r := p.revocation(Require)
			mustPass(t, r.Check(t.Context(), good))
			mustBeRevoked(t, r.Check(t.Context(), revoked), "(keyCompromise), says OCSP")
			mustBeUnavailable(t, r.Check(t.Context(), unknown), "does not know the certificate")
		})
	}
}

func TestOpenSSLList(t *testing.T) {
	p := servedPKI(t, withoutOCSP).pinned()
	o := newOpenSSL(t, p)
	good, revoked := p.chain(), p.chain()
	o.knows(good.Leaf(), revoked.Leaf())
	p.behind(func(http.Handler) http.Handler { return o })
	r := p.revocation(Require)
	mustPass(t, r.Check(t.Context(), good))
	mustBeRevoked(t, r.Check(t.Context(), revoked), "(keyCompromise), says CRL")
}

// Without crl_extensions, a number and reasons, OpenSSL writes X.509 v1.
func TestOpenSSLListOfVersionOne(t *testing.T) {
	p := servedPKI(t, withoutOCSP).pinned()
	o := newOpenSSL(t, p)
	good, revoked := p.chain(), p.chain()
	o.knows(good.Leaf(), revoked.Leaf())
	o.edit("openssl.cnf", "crl_extensions = crl\n", "", "crlnumber = number\n", "")
	o.edit("index.txt", ",keyCompromise", "")
	p.behind(func(http.Handler) http.Handler { return o })
	r := p.revocation(Require)
	mustPass(t, r.Check(t.Context(), good))
	mustBeRevoked(t, r.Check(t.Context(), revoked), "(unspecified), says CRL")
}
