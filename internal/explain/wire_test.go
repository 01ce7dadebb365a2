package explain_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/explain"
	"github.com/waybill-token/waybill/isharetest"
)

// A message is a request before it goes over the line.
type message struct {
	method, target string
	fields, pairs  []string // of the header, and of the form
}

// insertions are what goes wrong within a parameter, fieldSets and fields what is wrong in a header.
var (
	insertions = []string{
		"+", "%20", "%0A", "%0D%0A", "%00", ";", ";a=b", "\n", "\r\n", " ", "=", "%", "%zz", "%C3", "\xff", "é", "#x", "?", `"`, "'", "\t", "%EF%BB%BF", "\xef\xbb\xbf", "{", "\x00",
	}
	parameters = []string{
		"", "resource=a&resource=b", "client_secret=x", "client_secret=", "x", "=", "=y", "&&", strings.Repeat("a&", 120), strings.Repeat("x", 70000), "a=" + strings.Repeat("b", 50000),
	}
	contentTypes = []string{
		"application/x-www-form-urlencoded; charset=utf-8", "APPLICATION/X-WWW-FORM-URLENCODED", "application/x-www-form-urlencoded;", "application/x-www-form-urlencoded, text/plain",
		"application/json", "", `"application/x-www-form-urlencoded"`, "application/x-www-form-urlencoded; a=b; a=c", "multipart/form-data; boundary=x",
	}
	otherFields = []string{
		"Content-Type: application/x-www-form-urlencoded", "content-type: text/plain", "Content-Encoding: gzip", "Content-Encoding: identity", "Content-Encoding:",
		"Authorization: Basic eDp5", "authorization: bearer abc", "Authorization:", "Authorization: x", "Proxy-Authorization: Basic eDp5", "Cookie: a=b",
	}
	targets = []string{"", "?", "?a=b", "?client_id=x", "?client_assertion=eyJhbGciOiJSUzI1NiJ9.e30.AA", "?%zz", "?a;b", "?grant_type=&scope="}
)

// claimNames and odd make claims that nobody expects.
var (
	claimNames = []string{"nbf", "iss", "sub", "aud", "jti", "iat", "exp", "ISS", "extra", "", "\u017fub"}
	odd        = []string{
		"null", "true", "[]", "{}", `""`, "0", "-0", "-1", "1e3", "1E400", "1.5", "99999999999999999999", `"1"`, `"\ud800"`, `"\u0000"`, "1796036408", "1796036408000", "NaN", "01", "1.", "\xff", "",
		`"did:ishare:EU.NL.NTRNL-10000000"`, `["did:ishare:EU.NL.NTRNL-10000000"]`, strings.Repeat("[", 20000), strings.Repeat("[", 200) + strings.Repeat("]", 200), `"` + strings.Repeat("x", 300) + `"`, `{"a":1,"a":2}`,
	}
)

func one(random *rand.Rand, of []string) string { return of[random.IntN(len(of))] }

// mutate changes something, anywhere in the message.
func (m *message) mutate(random *rand.Rand) {
	i := random.IntN(len(m.pairs))
	name, value, _ := strings.Cut(m.pairs[i], "=")
	switch random.IntN(14) {
	case 0:
		m.pairs = append(m.pairs, m.pairs[i])
	case 1:
		m.pairs = append([]string{name + "="}, m.pairs...)
	case 2:
		m.pairs = append(m.pairs, name+"=")
	case 3:
		m.pairs[i] += one(random, insertions)
	case 4:
		m.pairs[i] = name + "=" + one(random, insertions) + value
	case 5:
		m.pairs[i] = one(random, insertions) + m.pairs[i]
	case 6:
		m.pairs = append(m.pairs[:i:i], append([]string{one(random, parameters)}, m.pairs[i+1:]...)...)
	case 7:
		m.pairs = append(m.pairs, one(random, parameters))
	case 8:
		random.Shuffle(len(m.pairs), func(a, b int) { m.pairs[a], m.pairs[b] = m.pairs[b], m.pairs[a] })
	case 9:
		m.fields = []string{"Content-Type: " + one(random, contentTypes)}
	case 10:
		m.fields = append(m.fields, one(random, otherFields))
	case 11:
		m.method = one(random, []string{"GET", "PUT", "post", "OPTIONS", "POST"})
	case 12:
		m.target += one(random, targets)
	case 13:
		m.pairs = strings.Split(strings.Join(m.pairs, one(random, []string{";", "&amp;", "\n&", "%26", "&&"})), "&")
	}
}

// bytes is the message as it goes over the line, in one piece or in chunks.
func (m *message) bytes(chunked bool) string {
	body := strings.Join(m.pairs, "&")
	head := strings.Join(append([]string{m.method + " " + m.target + " HTTP/1.1", "Host: provider.example", "Connection: close"}, m.fields...), "\r\n")
	if !chunked {
		return fmt.Sprintf("%s\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}
	if body != "" {
		body = fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
	}
	return head + "\r\nTransfer-Encoding: chunked\r\n\r\n" + body + "0\r\n\r\n"
}

// answerTo is the rule by which a server refuses a message, or that it accepts it; nothing, where HTTP itself is at fault.
func answerTo(t *testing.T, server *httptest.Server, message string) string {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, message) }() // of which a server may read no more than it needs
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		return explain.Accepted
	}
	body, _ := io.ReadAll(answer.Body) // the rest may be lost with what was not read
	_, description, _ := strings.Cut(string(body), `"error_description":"`)
	id, _, _ := strings.Cut(description, ":")
	return id
}

// For any request as it goes over the line, whatever is wrong with its method, its header fields or its body, the endpoint and
// the explanation give the same verdict.
func TestSameVerdictOnTheLine(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	running := httptest.NewServer(p.endpoint)
	t.Cleanup(running.Close)
	client := p.attempts.Parties()[0]
	random := rand.New(rand.NewPCG(3, 4))
	seen := map[string]int{}
	for i := range 700 {
		request := client.Request(server)
		times := 1 + random.IntN(3)
		if i%2 == 0 { // the JWT, rightly signed
			times--
			request.Assertion.Payload.Set(one(random, claimNames), isharetest.Raw(one(random, odd)))
			if random.IntN(4) == 0 {
				request.Assertion.Payload.Add(one(random, claimNames), isharetest.Raw(one(random, odd)))
			}
			if random.IntN(4) == 0 {
				request.Assertion.Header.Add(one(random, []string{"alg", "typ", "x5c", "kid", "crit", "Alg", "\u017fub"}), isharetest.Raw(one(random, odd)))
			}
		}
		m := message{"POST", "/connect/token", []string{"Content-Type: application/x-www-form-urlencoded"}, strings.Split(request.Body(), "&")}
		for range times {
			m.mutate(random)
		}
		raw := m.bytes(i%10 == 0)
		want := answerTo(t, running, raw)
		if want == "" {
			continue
		}
		seen[want]++
		in, err := explain.Read(raw)
		if err != nil {
			t.Fatalf("%.300q: %v", raw, err)
		}
		o := p.options
		o.At = time.Now()
		view, err := explain.Explain(t.Context(), in, o)
		if err != nil {
			t.Fatal(err)
		}
		if got := view.Verdict; got != want && (got != explain.Rejected || view.Rule != want) {
			t.Errorf("the endpoint answers %s, and the explanation says %s, %s: %s\n%.400q", want, got, view.Rule, view.Sentence, raw)
		}
	}
	if len(seen) < 20 || seen[explain.Accepted] < 50 {
		t.Errorf("too little happened: %v", seen)
	}
}
