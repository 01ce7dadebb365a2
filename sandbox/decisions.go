package sandbox

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// MaxDecisions is how many decisions are remembered.
const MaxDecisions = 100

// A Decision is what the provider made of a token request.
type Decision struct {
	Number   uint64        // counts the decisions of a start, from 1
	Time     time.Time     // when the request came
	Took     time.Duration // until it was answered
	Status   int           // of the answer
	Rule     *rule.Rule    // by which there is no token, one of those in rule.All or rule.Outages; nil: a token was given
	Sentence string        // why there is none, in the words of the answer

	request request
}

// A request is the part of a token request that is remembered: what rules are about. It may hold an assertion that is still
// good.
type request struct {
	method string
	query  string
	header http.Header
	body   []byte // at most a byte more than tokenendpoint.MaxBody of it
}

// judgedFields are the header fields that rules are about.
var judgedFields = []string{"Content-Type", "Content-Encoding", "Authorization"}

func newRequest(r *http.Request) request {
	made := request{method: r.Method, query: r.URL.RawQuery, header: http.Header{}}
	for _, name := range judgedFields {
		if values := r.Header.Values(name); len(values) > 0 {
			made.header[name] = slices.Clone(values)
		}
	}
	return made
}

// Request is the request as far as it is remembered, and its body. Whoever reads it may be able to use what is in it.
func (d *Decision) Request() (*http.Request, []byte) {
	r := &http.Request{
		Method: d.request.method, URL: &url.URL{Path: tokenendpoint.Path, RawQuery: d.request.query}, Header: d.request.header.Clone(),
		ContentLength: int64(len(d.request.body)), Body: http.NoBody,
	}
	return r, d.request.body
}

// ClientID is the client_id of the request, whatever it holds; empty: none that can be found.
func (d *Decision) ClientID() string {
	return tokenendpoint.Sent(d.request.header, d.request.body).Get("client_id")
}

// Decisions are those that are remembered from a number on, the oldest first.
func (s *Sandbox) Decisions(from uint64) []Decision { return s.decisions.from(from) }

// Changed is closed at the next decision and the next turn of a switch. Take it before looking at how things stand, so
// that nothing is missed in between.
func (s *Sandbox) Changed() <-chan struct{} { return s.decisions.next() }

// decisions are the last ones. They wait for nobody who reads them, and remember nobody either.
type decisions struct {
	mu      sync.Mutex
	last    []Decision // at most MaxDecisions, the oldest first
	number  uint64     // of the latest
	changed chan struct{}
}

func (d *decisions) add(made Decision) {
	d.mu.Lock()
	d.number++
	made.Number = d.number
	if len(d.last) == MaxDecisions {
		copy(d.last, d.last[1:])
		d.last[MaxDecisions-1] = made
	} else {
		d.last = append(d.last, made)
	}
	d.mu.Unlock()
	d.tell()
}

func (d *decisions) from(number uint64) []Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, _ := slices.BinarySearchFunc(d.last, number, func(made Decision, n uint64) int {
		if made.Number < n {
			return -1
		}
		return 1
	})
	return slices.Clone(d.last[i:])
}

// tell wakes up who waits for a change.
func (d *decisions) tell() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

func (d *decisions) next() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return d.changed
}

// observe looks on at token requests, and changes nothing about them or their answers.
func (d *decisions) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != tokenendpoint.Path {
			next.ServeHTTP(w, r)
			return
		}
		made := Decision{Time: time.Now(), request: newRequest(r)}
		sent := &copied{ReadCloser: r.Body, most: tokenendpoint.MaxBody + 1}
		r.Body = sent
		answer := &observed{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		// What is refused before its body is read is shown whole all the same, unless it is too slow.
		if r.Header.Get("Expect") == "" && http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyPatience)) == nil {
			_, _ = io.CopyN(io.Discard, sent, tokenendpoint.MaxBody+1)
		}
		made.Took, made.Status, made.request.body = time.Since(made.Time), answer.status, sent.kept
		made.Rule, made.Sentence = reasonIn(answer)
		d.add(made)
	})
}

// bodyPatience is how long an answer waits for a body that it does not depend on.
const bodyPatience = time.Second

// copied is a body of which the beginning is kept as it is read.
type copied struct {
	io.ReadCloser

	most int
	kept []byte
}

// Read keeps what it gives.
func (c *copied) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.kept = append(c.kept, p[:min(n, c.most-len(c.kept))]...)
	return n, err
}

// maxRefusal is the most that is kept of a refusal.
const maxRefusal = 4 << 10

// observed is an answer whose status is kept, and whose body unless it holds a token.
type observed struct {
	http.ResponseWriter

	status  int
	refusal []byte
}

// WriteHeader keeps the status.
func (o *observed) WriteHeader(status int) {
	o.status = status
	o.ResponseWriter.WriteHeader(status)
}

// Write keeps the body of a refusal.
func (o *observed) Write(p []byte) (int, error) {
	if o.status != http.StatusOK {
		o.refusal = append(o.refusal, p[:min(len(p), maxRefusal-len(o.refusal))]...)
	}
	return o.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// reasonIn finds the rule that a refusal names. One that names none is an error of our own.
func reasonIn(answer *observed) (*rule.Rule, string) {
	if answer.status == http.StatusOK {
		return nil, ""
	}
	var refusal struct {
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(answer.refusal, &refusal); err != nil {
		return rule.Internal, rule.Internal.Sentence
	}
	if reason, sentence := rule.Described(refusal.Description); reason != nil {
		return reason, sentence
	}
	return rule.Internal, refusal.Description
}
