package registry

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// A life is what one run of a server knows of a registry, with what the runs before have kept.
type life struct {
	remote *Remote
	cache  *Cache
	list   *TrustedList
}

func begin(t *testing.T, f *fakeRegistry, n *network, dir string, change func(c *RemoteConfig)) *life {
	t.Helper()
	config := f.config(anywhere, n)
	config.Dir = dir
	if change != nil {
		change(&config)
	}
	r, err := NewRemote(config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCache(CacheConfig{Source: r, Fresh: testFresh, MaxStale: testStale})
	if err != nil {
		t.Fatal(err)
	}
	clients, err := trust.New(f.pki.anchors())
	if err != nil {
		t.Fatal(err)
	}
	list, err := NewTrustedList(TrustedListConfig{Source: r, Own: f.pki.anchors(), Clients: clients, Refresh: testFresh, MaxStale: testStale})
	if err != nil {
		t.Fatal(err)
	}
	return &life{r, c, list}
}

func (l *life) end() {
	l.cache.Close()
	l.remote.Close()
}

// What a restart in an outage leaves of a known client and of the trusted list.
func TestRestartInAnOutage(t *testing.T) {
	for name, c := range map[string]struct {
		ahead   time.Duration                          // of the registry's clock before the restart
		change  func(f *fakeRegistry)                  // and the record is asked for again before the restart
		outage  time.Duration                          // from the restart on
		config  func(f *fakeRegistry, c *RemoteConfig) // after the restart
		damage  bool
		refused bool // nothing is used
		unknown bool // there is no record
	}{
		"at once":          {},
		"within max_stale": {outage: testFresh + testStale - time.Minute},
		"beyond max_stale": {outage: testFresh + testStale, refused: true},
		"from the future":  {ahead: 45 * time.Second, refused: true},
		"a no is the last": {change: func(f *fakeRegistry) { f.put("", consumerID) }, unknown: true},
		"damaged files":    {damage: true, refused: true},
		"another seal":     {config: func(_ *fakeRegistry, c *RemoteConfig) { c.Seals = []string{"another"} }, refused: true},
		"the seal is revoked": {config: func(_ *fakeRegistry, c *RemoteConfig) {
			c.Revocation = checker{rule.CertificateRevoked.Reject()}
		}, refused: true},
		"revocation out of reach": {config: func(_ *fakeRegistry, c *RemoteConfig) {
			c.Revocation = checker{&rule.Outage{Rule: rule.UnavailableRevocation}}
		}, refused: true},
		"not addressed to us": {config: func(_ *fakeRegistry, c *RemoteConfig) { c.Party = []ishare.PartyID{strangerID} }, refused: true},
		"of another registry": {config: func(_ *fakeRegistry, c *RemoteConfig) { c.ID = strangerID }, refused: true},
		"other anchors":       {config: func(f *fakeRegistry, c *RemoteConfig) { c.Trust = newPKI(f.pki.t).validator() }, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				f, n, _ := inMemory(t)
				f.change(func(f *fakeRegistry) { f.answer.age = -c.ahead })
				first := begin(t, f, n, dir, func(config *RemoteConfig) { config.Leeway = time.Minute })
				mustParty(t, first.cache, consumerID)
				if err := first.list.Update(t.Context()); err != nil {
					t.Fatal(err)
				}
				if c.change != nil {
					c.change(f)
					time.Sleep(testFresh)
					first.cache.Party(t.Context(), consumerID)
				}
				first.end()
				n.down.Store(true)
				if c.damage {
					damageAll(t, dir)
				}
				time.Sleep(c.outage)
				second := begin(t, f, n, dir, func(config *RemoteConfig) {
					if c.config != nil {
						c.config(f, config)
					}
				})
				defer second.end()
				party, err := second.cache.Party(t.Context(), consumerID)
				if served := err == nil; served == (c.refused || c.unknown) || served && party.ID != consumerID {
					t.Errorf("Party = %v, %v", party, err)
				}
				second.list.Recall(t.Context())
				if second.list.InForce() == c.refused {
					t.Errorf("the trusted list is in force: %t", !c.refused)
				}
			})
		})
	}
}

func damageAll(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Now().Add(time.Hour), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
}

// A kept record that says other than the last answer is not used, whichever answer comes late.
func TestKeptAnswersInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n, _ := inMemory(t)
		dir := t.TempDir()
		r := begin(t, f, n, dir, nil)
		mustParty(t, r.remote, consumerID)
		f.put(f.consumer("suspended"), consumerID)
		mustParty(t, r.remote, consumerID)
		party, _ := r.remote.RecallParty(t.Context(), consumerID)
		if party == nil || party.Compliant(time.Now()) == nil {
			t.Errorf("kept: %+v", party)
		}
		name, earlier := keptParty(consumerID), time.Now()
		compact, _ := r.remote.kept.folder.Get(name)
		defer r.remote.kept.begin(name)()
		time.Sleep(time.Second)
		r.remote.kept.put(name, "", time.Now())
		r.remote.kept.put(name, string(compact), earlier)
		if party, _ := r.remote.RecallParty(t.Context(), consumerID); party != nil {
			t.Error("an answer to an earlier question undoes a no")
		}
		r.end()
	})
}

// The last answer about a party counts, however many others were asked about meanwhile.
func TestKeptAnswersOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n, _ := inMemory(t)
		r := begin(t, f, n, t.TempDir(), nil)
		defer r.end()
		mustParty(t, r.remote, consumerID)
		name, asked := keptParty(consumerID), time.Now()
		done := r.remote.kept.begin(name)
		time.Sleep(time.Second)
		for i := range 2000 {
			other := keptParty(nobody(i))
			answered := r.remote.kept.begin(other)
			r.remote.kept.put(other, "", time.Now())
			answered()
		}
		r.remote.kept.put(name, "", asked)
		done()
		if party, _ := r.remote.RecallParty(t.Context(), consumerID); party != nil {
			t.Error("a no was lost beside the answers about others")
		}
		if left := len(r.remote.kept.pending); left != 0 {
			t.Errorf("%d questions are still noted", left)
		}
	})
}

// Two remotes keep their answers in one folder while a reload hands over from one to the other.
func TestKeptAnswersOfTheRemoteBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n, _ := inMemory(t)
		dir := t.TempDir()
		before := begin(t, f, n, dir, nil)
		after := begin(t, f, n, dir, nil)
		mustParty(t, before.remote, consumerID)
		before.end()
		f.put("", consumerID)
		if _, err := after.remote.Party(t.Context(), consumerID); !rule.IsUnknownParty(err) {
			t.Fatal(err)
		}
		after.end()
		restarted := begin(t, f, n, dir, nil)
		defer restarted.end()
		if party, _ := restarted.remote.RecallParty(t.Context(), consumerID); party != nil {
			t.Error("what the remote before has kept outlives a no")
		}
	})
}
