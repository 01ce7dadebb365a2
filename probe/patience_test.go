package probe_test

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/probe"
)

// inMemory carries requests to a handler, with no connection for which a bubble of synctest would wait.
type inMemory struct{ http.Handler }

func (h inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// today brings the clock of a bubble to the time at which the certificates of the players are valid.
func today(made time.Time) {
	<-time.After(time.Until(made))
}

// TestPutOff: a server that only ever asks for patience gets some, and the run ends, whatever it is about.
func TestPutOff(t *testing.T) {
	cast, now := players(), time.Now()
	for name, test := range map[string]struct {
		after          string // Retry-After
		requests, told int
	}{
		"for a while":  {"30", 12, 9},
		"for a day":    {"86400", 3, 0},
		"for whatever": {"", 12, 9},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				today(now)
				config := cast.everything("https://server.example", "https://server.example/secured")
				told := 0
				config.Waiting = func(because string, pause time.Duration) {
					told++
					if !strings.Contains(because, "429 slow_down") || pause < time.Second || pause > time.Minute {
						t.Errorf("%s, %s", because, pause)
					}
				}
				config.Transport = inMemory{answering(http.StatusTooManyRequests, map[string]string{"Retry-After": test.after}, `{"error":"slow_down"}`)}
				report := run(t, config)
				if right := report.Results[0]; right.Verdict != probe.Fail || !strings.HasPrefix(right.Came, "the server wants to be asked later (Retry-After: "+cmp.Or(test.after, "missing")+"): 429") {
					t.Errorf("%s, %s", right.Verdict, right.Came)
				}
				if report.Good() || report.Count(probe.Skipped) != len(probe.Cases())-1 || report.Requests != test.requests || told != test.told {
					t.Errorf("%s, told %d times", report.Summary(), told)
				}
			})
		})
	}
}

// TestPutOffForLong: a server that answers each request, but late, does not keep a run for ever.
func TestPutOffForLong(t *testing.T) {
	cast, now := players(), time.Now()
	synctest.Test(t, func(t *testing.T) {
		today(now)
		lenient := newLenient(cast, "nothing")
		lenient.url = "https://server.example"
		asked := 0
		config := cast.everything(lenient.url, lenient.url+"/secured")
		config.Transport = inMemory{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			if asked%2 == 1 {
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			lenient.ServeHTTP(w, r)
		})}
		began := time.Now()
		report := run(t, config)
		if took := time.Since(began); took > 31*time.Minute || asked > 62 || report.Count(probe.Fail) > 0 || report.Count(probe.Pass) < 25 {
			t.Errorf("after %s: %s", took, report.Summary())
		}
	})
}

// TestPutOffAtFirst: what rests on an answer to the right request is skipped where that was put off, also when others are not.
func TestPutOffAtFirst(t *testing.T) {
	lenient := startLenient(t, players(), "nothing")
	asked := 0
	config := players().everything(lenient.url, lenient.url+"/secured")
	config.Transport = inMemory{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if asked == 1 {
			w.Header().Set("Retry-After", "86400")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		lenient.ServeHTTP(w, r)
	})}
	report := run(t, config)
	for _, r := range report.Results {
		resting := slices.Contains([]string{"claim.aud", "secured", "jti.replayed"}, r.Group()) || r.Name == "answer/status"
		alone := slices.Contains([]string{"request.method/GET", "answer/error-code", "metadata/issuer"}, r.Name)
		if resting && r.Verdict != probe.Skipped || alone && r.Verdict != probe.Pass {
			t.Errorf("%s: %s, %s%s", r.Name, r.Verdict, r.Came, r.Reason)
		}
	}
	if report.Good() {
		t.Error(report.Summary())
	}
}

// TestLimitedCopies: when all copies but one are put off, nothing is known of the store.
func TestLimitedCopies(t *testing.T) {
	lenient := startLenient(t, players(), "nothing")
	var asked atomic.Int32
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 2 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		lenient.ServeHTTP(w, r)
	}))
	config := players().everything(server, "")
	config.Only = []string{"jti.replayed/at-once"}
	if r := result(t, run(t, config), "jti.replayed/at-once"); r.Verdict != probe.Skipped || !strings.HasPrefix(r.Reason, "1 copies got a token, 19 answers were 429") {
		t.Errorf("%s: %s%s", r.Verdict, r.Came, r.Reason)
	}
}

// TestSilence: a server that takes a request and says nothing is told of so.
func TestSilence(t *testing.T) {
	cast, now := players(), time.Now()
	synctest.Test(t, func(t *testing.T) {
		today(now)
		config := cast.everything("https://server.example", "")
		config.Only = []string{probe.RightCase}
		config.Transport = inMemory{http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })}
		if r := result(t, run(t, config), probe.RightCase); r.Outcome != probe.NoAnswer || r.Came != "no whole answer came within 20s" {
			t.Errorf("%s: %s", r.Outcome, r.Came)
		}
	})
}

// A door takes tokens that live for a while.
type door struct {
	*lenient

	life   time.Duration // zero: it has no end
	late   time.Duration // for which it takes a token after its end
	issued map[string]time.Time
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/secured" {
		answer := httptest.NewRecorder()
		d.lenient.ServeHTTP(answer, r)
		if r.URL.Path == ishare.TokenPath && answer.Code == http.StatusOK {
			_, rest, _ := strings.Cut(answer.Body.String(), `"access_token":"`)
			token, _, _ := strings.Cut(rest, `"`)
			d.issued[token] = time.Now()
		}
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		w.WriteHeader(answer.Code)
		w.Write(bytes.Replace(answer.Body.Bytes(), []byte(`"expires_in":3600`), fmt.Appendf(nil, `"expires_in":%d`, int(d.life.Seconds())), 1))
		return
	}
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if issued, ok := d.issued[token]; ok && d.life > 0 && time.Since(issued) > d.life+d.late {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	d.lenient.ServeHTTP(w, r)
}

// TestExpiry: an access token that is expired is refused or not, where there is time to see it.
func TestExpiry(t *testing.T) {
	cast, now := players(), time.Now()
	for name, test := range map[string]struct {
		life, late, wait time.Duration
		verdict          probe.Verdict
		outcome          probe.Outcome
		reason           string
	}{
		"refused":         {time.Hour, 0, 75 * time.Minute, probe.Pass, probe.Refused, ""},
		"refused late":    {time.Hour, 5 * time.Minute, 75 * time.Minute, probe.Pass, probe.Refused, ""},
		"taken":           {time.Hour, time.Hour, 75 * time.Minute, probe.Fail, probe.LetIn, ""},
		"no time":         {time.Hour, 0, 0, probe.Skipped, probe.NotJudged, "the token lives for 1h0m0s, and ten minutes later it must be refused: the run would have to wait for 1h"},
		"too little time": {time.Hour, 0, time.Hour, probe.Skipped, probe.NotJudged, "and may wait for 1h0m0s"},
		"no end":          {0, 0, time.Hour, probe.Skipped, probe.NotJudged, "the server does not say how long the token lives"},
		// and the other cases of the group take another token when this one is old
		"a short life": {16 * time.Second, 0, 15 * time.Minute, probe.Pass, probe.Refused, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				today(now)
				d := &door{newLenient(cast, "nothing"), test.life, test.late, map[string]time.Time{}}
				d.url = "https://server.example"
				config := cast.everything(d.url, d.url+"/secured")
				config.Pause, config.Wait, config.Transport = time.Second, test.wait, inMemory{d}
				config.Only = []string{"claim", "secured"}
				report := run(t, config)
				for _, r := range report.Results {
					switch {
					case r.Name != waits && r.Verdict != probe.Pass:
						t.Errorf("%s: %s, %s%s", r.Name, r.Verdict, r.Came, r.Reason)
					case r.Name == waits && (r.Verdict != test.verdict || r.Outcome != test.outcome || !strings.Contains(r.Reason, test.reason)):
						t.Errorf("%s, %s: %s%s", r.Verdict, r.Outcome, r.Came, r.Reason)
					}
				}
				if last := report.Results[len(report.Results)-1]; last.Name != waits {
					t.Errorf("%s comes last", last.Name)
				}
			})
		})
	}
}

// TestNoDoor: an endpoint that the right token does not open tells nothing of others, and does not fail a server that gave a
// token which is good elsewhere.
func TestNoDoor(t *testing.T) {
	for status, want := range map[int]probe.Verdict{200: probe.Pass, 204: probe.Pass, 400: probe.Pass, 302: probe.Skipped, 403: probe.Skipped, 404: probe.Skipped, 405: probe.Skipped, 401: probe.Fail, 500: probe.Skipped} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			lenient := startLenient(t, players(), "nothing")
			door := serve(t, answering(status, map[string]string{"Location": lenient.url}, ""))
			config := players().everything(lenient.url, door)
			config.Only = []string{"secured"}
			for _, r := range run(t, config).Results {
				switch {
				case r.Name == "secured/token" && r.Verdict != want:
					t.Errorf("%s: %s, want %s: %s%s", r.Name, r.Verdict, want, r.Came, r.Reason)
				case r.Group() == "secured" && r.Name != "secured/token" && want != probe.Pass && r.Verdict != probe.Skipped:
					t.Errorf("%s: %s: %s", r.Name, r.Verdict, r.Came)
				}
			}
		})
	}
}
