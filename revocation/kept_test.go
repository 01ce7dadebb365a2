package revocation

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/kept"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/trust"
)

// keeping is a Checker that keeps its answers in a folder, to be closed by the test.
func (p *pki) keeping(dir string, mode Mode) *Checker {
	p.t.Helper()
	r, err := New(Config{Mode: mode, AllowPrivate: true, Dir: dir, Log: slog.New(&p.log)})
	if err != nil {
		p.t.Fatal(err)
	}
	r.fetcher.Client.Transport = p
	return r
}

// restarted makes a check by a Checker that knows no more than what is in the folder.
func (p *pki) restarted(dir string, mode Mode, chain *trust.Chain) error {
	p.t.Helper()
	r := p.keeping(dir, mode)
	defer r.Close()
	return r.Check(p.t.Context(), chain)
}

// A source is a way in which a status can be found out.
type source struct {
	configure func(*testca.Config)
	prepare   func(*pki)
	byList    bool
}

func sources() map[string]source {
	nothing := func(*pki) {}
	return map[string]source{
		"OCSP":                 {withoutLists, nothing, false},
		"CRL":                  {withoutOCSP, nothing, true},
		"CRL in place of OCSP": {nil, func(p *pki) { p.without(http.MethodPost) }, true},
		"delegated responder": {withoutLists, func(p *pki) {
			template := p.ca.ResponderTemplate()
			template.ExtraExtensions = nil
			template.CRLDistributionPoints = []string{p.list}
			responder := p.signed(testca.Issuing, template)
			p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) { a.SignWith(responder) }})
		}, false},
	}
}

// A restart while nobody answers turns no known client away, and no answer is used for longer than
// without it.
func TestAnswersOutliveARestart(t *testing.T) {
	for name, source := range sources() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			inBubble(t, source.configure, func(t *testing.T, p *pki) {
				source.prepare(p)
				chain := p.chain()
				mustPass(t, p.restarted(dir, Require, chain))
				p.behind(hang)
				if err := p.restarted(dir, Require, p.chain()); source.byList {
					mustPass(t, err) // as the list speaks of those too who are not known
				} else {
					mustBeUnavailable(t, err, "")
				}
				start := time.Now()
				for range 5 {
					time.Sleep(answerLife / 6)
					before := time.Now()
					mustPass(t, p.restarted(dir, Require, chain))
					if took := time.Since(before); took != 0 {
						t.Errorf("it took %s", took)
					}
				}
				time.Sleep(answerLife - time.Since(start))
				mustBeUnavailable(t, p.restarted(dir, Require, chain), "")
				p.behind(nil)
				mustPass(t, p.restarted(dir, Require, chain))
			})
		})
	}
}

// The day for which an answer is used at most is counted from when it was obtained.
func TestRestartDoesNotLengthenTheDay(t *testing.T) {
	bySource(t, func(t *testing.T, p *pki, dir string) {
		p.service.Tamper(testca.Tampering{
			OCSP: func(a *testca.OCSPAnswer) { a.NextUpdate = a.ThisUpdate.AddDate(0, 0, 30) },
			List: func(l *testca.ListAnswer) { l.NextUpdate = l.ThisUpdate.AddDate(0, 0, 30) },
		})
		chain := p.chain()
		mustPass(t, p.restarted(dir, Require, chain))
		p.behind(hang)
		for range 3 {
			time.Sleep(maxLife/4 + time.Minute)
			mustPass(t, p.restarted(dir, Require, chain))
		}
		time.Sleep(maxLife / 4)
		mustBeUnavailable(t, p.restarted(dir, Require, chain), "")
	})
}

// A kept answer is asked for again as soon as it would have been without a restart.
func TestKeptAnswersAreRefreshed(t *testing.T) {
	bySource(t, func(t *testing.T, p *pki, dir string) {
		chain := p.chain()
		mustPass(t, p.restarted(dir, Require, chain))
		p.service.Revoke(chain.Leaf(), ocsp.KeyCompromise)
		time.Sleep(answerLife/2 + time.Minute)
		r := p.keeping(dir, Require)
		defer r.Close()
		for range 3 { // that of a list comes by way of the list
			_ = r.Check(t.Context(), chain)
			synctest.Wait()
			time.Sleep(2 * time.Second)
		}
		mustBeRevoked(t, r.Check(t.Context(), chain), "(keyCompromise)")
	})
}

// A revocation that is final outlives the answer in which it stood, a restart, and a service that
// says otherwise afterwards. Nobody passes for want of an answer.
func TestRevocationOutlivesARestart(t *testing.T) {
	for name, source := range sources() {
		for _, mode := range []Mode{Require, Prefer} {
			t.Run(name+" "+mode.String(), func(t *testing.T) {
				dir := t.TempDir()
				inBubble(t, source.configure, func(t *testing.T, p *pki) {
					source.prepare(p)
					chain := p.chain()
					p.service.Revoke(chain.Leaf(), ocsp.KeyCompromise)
					mustBeRevoked(t, p.restarted(dir, mode, chain), "(keyCompromise)")
					p.service.Reinstate(chain.Leaf())
					for range 3 {
						time.Sleep(maxLife)
						p.behind(hang)
						mustBeRevoked(t, p.restarted(dir, mode, chain), "(keyCompromise)")
						p.behind(nil)
						mustBeRevoked(t, p.restarted(dir, mode, chain), "(keyCompromise)")
					}
				})
			})
		}
	}
}

func TestHoldOutlivesARestart(t *testing.T) {
	bySource(t, func(t *testing.T, p *pki, dir string) {
		chain := p.chain()
		p.service.Revoke(chain.Leaf(), ocsp.CertificateHold)
		mustBeRevoked(t, p.restarted(dir, Prefer, chain), "is on hold")
		p.service.Reinstate(chain.Leaf())
		p.behind(hang)
		time.Sleep(answerLife / 2)
		mustBeRevoked(t, p.restarted(dir, Prefer, chain), "is on hold")
		p.behind(nil)
		time.Sleep(answerLife / 2)
		mustPass(t, p.restarted(dir, Require, chain))
		p.behind(hang)
		mustPass(t, p.restarted(dir, Require, chain)) // the newer one is kept
	})
}

// Whoever stands between can wait for a restart with an old answer.
func TestOlderAnswerDoesNotReplaceAKeptOne(t *testing.T) {
	bySource(t, func(t *testing.T, p *pki, dir string) {
		chain := p.chain()
		p.service.Revoke(chain.Leaf(), ocsp.CertificateHold)
		mustBeRevoked(t, p.restarted(dir, Require, chain), "is on hold")
		p.service.Tamper(testca.Tampering{
			OCSP: func(a *testca.OCSPAnswer) {
				a.Status, a.ThisUpdate, a.NextUpdate = ocsp.Good, a.ThisUpdate.AddDate(0, 0, -1), a.ThisUpdate.AddDate(0, 0, 5)
			},
			List: func(l *testca.ListAnswer) {
				l.RevokedCertificateEntries, l.ThisUpdate = nil, l.ThisUpdate.AddDate(0, 0, -1)
			},
		})
		time.Sleep(answerLife/2 + time.Minute)
		for range 3 {
			r := p.keeping(dir, Require)
			for range 3 {
				mustBeRevoked(t, r.Check(t.Context(), chain), "is on hold")
				synctest.Wait()
				time.Sleep(2 * time.Second)
			}
			r.Close()
		}
	})
}

// What stands in the folder is verified like what comes from the network.
func TestKeptAnswersThatDoNotCount(t *testing.T) {
	type forge func(p *pki, chain *trust.Chain, rec record) record
	for _, test := range []struct {
		name  string
		forge forge
	}{
		{"of another certificate", func(p *pki, _ *trust.Chain, rec record) record {
			elsewhere, other := p.t.TempDir(), p.chain()
			mustPass(p.t, p.restarted(elsewhere, Require, other))
			rec.signed = p.keptRecord(elsewhere, other).signed
			return rec
		}},
		{"a bit is another", func(_ *pki, _ *trust.Chain, rec record) record {
			rec.signed = bytes.Clone(rec.signed)
			rec.signed[len(rec.signed)-1] ^= 1
			return rec
		}},
		{"cut short", func(_ *pki, _ *trust.Chain, rec record) record {
			rec.signed = rec.signed[:len(rec.signed)/2]
			return rec
		}},
		{"a list that was never kept", func(_ *pki, chain *trust.Chain, rec record) record {
			rec.signed, rec.address = nil, chain.Leaf().OCSPServer[0]
			return rec
		}},
		{"obtained in the future", func(_ *pki, _ *trust.Chain, rec record) record {
			rec.obtained = time.Now().Add(maxSkew + time.Second)
			return rec
		}},
		{"obtained before it was made", func(_ *pki, _ *trust.Chain, rec record) record {
			rec.obtained = rec.obtained.Add(-2 * time.Hour)
			return rec
		}},
		{"obtained more than a day ago", func(_ *pki, _ *trust.Chain, rec record) record {
			time.Sleep(maxLife)
			return rec
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			inBubble(t, withoutLists, func(t *testing.T, p *pki) {
				p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) {
					a.ThisUpdate, a.NextUpdate = time.Now(), time.Now().AddDate(0, 0, 3)
				}})
				chain := p.chain()
				mustPass(t, p.restarted(dir, Require, chain))
				rec := p.keptRecord(dir, chain)
				p.putRecord(dir, chain, rec)
				before := p.front
				p.behind(hang)
				mustPass(t, p.restarted(dir, Require, chain)) // as it is
				p.behind(before)
				forged := test.forge(p, chain, rec)
				p.putRecord(dir, chain, forged)
				p.behind(hang)
				mustBeUnavailable(t, p.restarted(dir, Require, chain), "")
			})
		})
	}
}

// A list of the same issuer may be of another part of its certificates.
func TestKeptListThatTheCertificateDoesNotName(t *testing.T) {
	dir := t.TempDir()
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		chain := p.chain()
		mustPass(t, p.restarted(dir, Require, chain))
		listed := p.chainOf(p.seal(func(c *x509.Certificate) { c.OCSPServer, c.CRLDistributionPoints = nil, []string{p.list} }))
		mustPass(t, p.restarted(dir, Require, listed))
		rec := p.keptRecord(dir, chain)
		rec.signed, rec.address = nil, p.list
		p.putRecord(dir, chain, rec)
		p.behind(hang)
		mustPass(t, p.restarted(dir, Require, listed))
		mustBeUnavailable(t, p.restarted(dir, Require, chain), "")
	})
}

func (p *pki) inFolder(dir string, do func(*kept.Folder)) {
	p.t.Helper()
	folder, err := kept.Open(dir, kept.Limits{Files: maxKeptFiles, Bytes: maxKeptBytes}, slog.New(&p.log))
	if err != nil {
		p.t.Fatal(err)
	}
	do(folder)
	if err := folder.Close(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pki) keptRecord(dir string, chain *trust.Chain) (rec record) {
	p.t.Helper()
	p.inFolder(dir, func(folder *kept.Folder) {
		data, ok := folder.Get(statusKey{chain.Fingerprint(0), chain.Fingerprint(1)}.name())
		if ok {
			rec, ok = readRecord(data, time.Now())
		}
		if !ok {
			p.t.Fatal("nothing is kept")
		}
	})
	return rec
}

func (p *pki) putRecord(dir string, chain *trust.Chain, rec record) {
	p.t.Helper()
	p.inFolder(dir, func(folder *kept.Folder) {
		data, err := rec.marshal()
		if err != nil {
			p.t.Fatal(err)
		}
		folder.Put(statusKey{chain.Fingerprint(0), chain.Fingerprint(1)}.name(), data, time.Now().AddDate(1, 0, 0))
	})
}

// An address that is longer than any real one would take room in memory and in the folder.
func TestAnswersOfLongAddressesAreNotKept(t *testing.T) {
	for name, test := range map[string]struct {
		more int // characters than may be kept
		kept bool
	}{"as long as may be": {0, true}, "longer": {1, false}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			inBubble(t, withoutLists, func(t *testing.T, p *pki) {
				chain := p.chainOf(p.seal(func(c *x509.Certificate) {
					c.OCSPServer[0] += "?"
					c.OCSPServer[0] += strings.Repeat("1", maxAddress+test.more-len(c.OCSPServer[0]))
				}))
				mustPass(t, p.restarted(dir, Require, chain))
				p.behind(hang)
				if err := p.restarted(dir, Require, chain); (err == nil) != test.kept {
					t.Errorf("Check = %v", err)
				}
			})
		})
	}
}

// The folder is a cache: with garbage in the place of every file, or without a folder, the
// server works as at its first start.
func TestFolderIsOnlyACache(t *testing.T) {
	dir := t.TempDir()
	inBubble(t, nil, func(t *testing.T, p *pki) {
		chain := p.chain()
		mustPass(t, p.restarted(dir, Require, chain))
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Fatalf("%d files are kept, %v", len(entries), err)
		}
		for _, e := range entries {
			if err := os.WriteFile(filepath.Join(dir, e.Name()), []byte("garbage"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		mustPass(t, p.restarted(dir, Require, chain))
		file := filepath.Join(dir, entries[0].Name())
		mustPass(t, p.restarted(file, Require, chain)) // which is no folder
		if p.log.count("WARN revocation answers cannot be kept") != 1 {
			t.Errorf("the log says %q", p.log.messages)
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, rec := range []record{{}, {time.UnixMilli(1e12), "http://status.test/ocsp", []byte{0x30, 0}}, {time.UnixMilli(1), "http://status.test/list.crl", nil}} {
		data, err := rec.marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	now := time.UnixMilli(2e12)
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, ok := readRecord(data, now)
		if !ok {
			return
		}
		again, err := rec.marshal()
		if err != nil || !bytes.Equal(again, data) || rec.obtained.After(now.Add(maxSkew)) {
			t.Errorf("%x is read as %+v and written as %x, %v", data, rec, again, err)
		}
	})
}
