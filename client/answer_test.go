package client_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

var jsonHeader = http.Header{"Content-Type": {"application/json"}}

// refused reads an answer that came at once, for its error.
func refused(status int, header http.Header, body, compact string) error {
	_, err := client.Answer{Status: status, Header: header, Body: body, Sent: time.Now()}.Read(compact)
	return err
}

func TestTokenAnswers(t *testing.T) {
	sent := time.Now()
	life := func(d time.Duration) time.Time { return sent.Add(d).Round(0) }
	tests := []struct {
		name, body string
		expiry     time.Time
		scope      string
	}{
		{"the official example", `{"access_token":"aW2ys9NGE8RjHPZ4mytQivkWJO5HGQCYJ7VyMBGGDLIOw","expires_in":3600,"token_type":"Bearer"}`, life(time.Hour), "iSHARE"},
		{"lower-case type", `{"access_token":"t","expires_in":3600,"token_type":"bearer"}`, life(time.Hour), "iSHARE"},
		{"fraction", `{"access_token":"t","expires_in":1799.5,"token_type":"Bearer"}`, life(1799500 * time.Millisecond), "iSHARE"},
		{"other members", `{"access_token":"t","expires_in":60,"token_type":"Bearer","Expires_In":1,"issued":{"at":[1]}}`, life(time.Minute), "iSHARE"},
		{"scope granted", `{"access_token":"t","expires_in":60,"token_type":"Bearer","scope":"iSHARE orders"}`, life(time.Minute), "iSHARE orders"},
		{"scope of another kind", `{"access_token":"t","expires_in":60,"token_type":"Bearer","scope":["iSHARE"]}`, life(time.Minute), "iSHARE"},
		{"no life stated", `{"access_token":"t","token_type":"Bearer"}`, life(time.Minute), "iSHARE"},
		{"a life without end", `{"access_token":"t","expires_in":1e300,"token_type":"Bearer"}`, life(client.MaxLife), "iSHARE"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			token, err := client.Answer{Status: 200, Header: jsonHeader, Body: test.body, Sent: sent, Took: time.Second}.Read("")
			if err != nil {
				t.Fatal(err)
			}
			if !token.Expiry.Equal(test.expiry) || token.TokenType != "Bearer" {
				t.Errorf("%s token until %s, want %s", token.TokenType, token.Expiry, test.expiry)
			}
			if got := token.Extra("scope"); got != test.scope {
				t.Errorf("scope %v, want %s", got, test.scope)
			}
		})
	}
}

func TestAnswersThatAreNoToken(t *testing.T) {
	const good = `{"access_token":"geheim-42","expires_in":3600,"token_type":"Bearer"}`
	replace := func(old, by string) string { return strings.Replace(good, old, by, 1) }
	html := http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	tests := []struct {
		name   string
		status int
		header http.Header
		body   string
		want   string // in the description
	}{
		{"no token", 200, jsonHeader, replace("access_token", "token"), "access_token"},
		{"name in capitals", 200, jsonHeader, replace("access_token", "Access_Token"), "access_token"},
		{"empty token", 200, jsonHeader, replace("geheim-42", ""), "access_token"},
		{"token of another kind", 200, jsonHeader, replace(`"geheim-42"`, "42"), "access_token"},
		{"token with a line break", 200, jsonHeader, replace("geheim-42", `geheim\r\nX-Admin: 1`), "access_token"},
		{"token with a blank", 200, jsonHeader, replace("geheim-42", "geheim 42"), "access_token"},
		{"another type", 200, jsonHeader, replace("Bearer", "mac"), "token_type is 'mac'"},
		{"no life", 200, jsonHeader, replace("3600", "0"), "expires_in"},
		{"negative life", 200, jsonHeader, replace("3600", "-1"), "expires_in is '-1'"},
		{"life beyond numbers", 200, jsonHeader, replace("3600", "1e999"), "expires_in"},
		{"two tokens", 200, jsonHeader, replace(`"expires_in"`, `"access_token":"x","expires_in"`), "each name once"},
		{"something behind", 200, jsonHeader, good + "{}", "one JSON object"},
		{"cut short", 200, jsonHeader, good[:30], "one JSON object"},
		{"not UTF-8", 200, jsonHeader, replace("geheim", "\xff"), "UTF-8"},
		{"null", 200, jsonHeader, "null", "one JSON object"},
		{"empty", 200, jsonHeader, "", "the answer is empty"},
		{"204 of JSON", 204, jsonHeader, "\n", "the answer is empty"},
		{"two marks", 200, jsonHeader, "\ufeff\ufeff" + good, "one JSON object"},
		{"HTML", 200, html, "<html>" + good, "text/html"},
		{"204", 204, nil, "", "no media type"},
		{"list of two", 200, jsonHeader, "[" + good + "," + good + "]", "one JSON object"},
		{"list of a list", 200, jsonHeader, "[[" + good + "]]", "one JSON object"},
		{"two tokens in a list", 200, jsonHeader, "[" + replace(`"expires_in"`, `"access_token":"x","expires_in"`) + "]", "one JSON object"},
		{"token in a text", 201, http.Header{"Content-Type": {"text/plain"}}, "geheim-42", "text/plain, not application/json"},
		{"token in another member", 200, jsonHeader, `{"token":"geheim-42","session":{"id":"geheim"}}`, "holds no token"},
		{"life in words", 200, jsonHeader, replace("3600", `"an hour"`), "expires_in is 'an hour'"},
		{"life of another kind", 200, jsonHeader, replace("3600", "[3600]"), "expires_in is '[3600]'"},
		{"life in the past", 200, jsonHeader, replace("3600", `"-5"`), "expires_in is '-5'"},
		{"no redirect", 302, http.Header{}, "", "a redirect nowhere"},
		{"redirect", 302, http.Header{"Location": {"https://me:geheim@login.example/sso?state=geheim"}}, "", "a redirect to https://login.example/sso, which is not followed"},
		{"too long", 200, jsonHeader, good + strings.Repeat(" ", client.MaxAnswer), "longer than 65536 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := refused(test.status, test.header, test.body, "")
			e, ok := errors.AsType[*client.Error](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if e.Status != test.status || e.Code != "" || e.RuleID != "" || !strings.Contains(e.Description, test.want) {
				t.Errorf("got %+v, want a description with %q", e, test.want)
			}
			if strings.Contains(fmt.Sprintf("%+v %v", *e, e), "geheim") {
				t.Errorf("the error quotes the answer: %+v", e)
			}
		})
	}
}

// What leaves no doubt is taken, and noted.
func TestTokensThatAreTakenWithANote(t *testing.T) {
	const good = `{"access_token":"t","expires_in":3600,"token_type":"Bearer"}`
	replace := func(old, by string) string { return strings.Replace(good, old, by, 1) }
	kind := func(mediaType string) http.Header { return http.Header{"Content-Type": {mediaType}} }
	for _, test := range []struct {
		name   string
		status int
		header http.Header
		body   string
		life   time.Duration
		notes  []string // what each says, in part
	}{
		{"as it should be", 200, jsonHeader, good, time.Hour, nil},
		{"201", 201, jsonHeader, good, time.Hour, []string{"answered 201, where RFC 6749 section 5.1 has 200"}},
		{"202", 202, jsonHeader, good, time.Hour, []string{"answered 202"}},
		{"type in small letters", 200, jsonHeader, replace("Bearer", "bearer"), time.Hour, nil},
		{"no type", 200, jsonHeader, replace("token_type", "type"), time.Hour, []string{"no token_type"}},
		{"null type", 200, jsonHeader, replace(`"Bearer"`, "null"), time.Hour, []string{"no token_type"}},
		{"life as text", 200, jsonHeader, replace("3600", `"3600"`), time.Hour, []string{"expires_in is a text"}},
		{"life null", 200, jsonHeader, replace("3600", "null"), time.Minute, []string{"expires_in is null; the token is kept for 1m0s"}},
		{"list", 200, jsonHeader, " [" + good + "]", time.Hour, []string{"an array around"}},
		{"byte order mark", 200, jsonHeader, "\ufeff" + good, time.Hour, []string{"a byte order mark"}},
		{"text/plain", 200, kind("text/plain; charset=utf-8"), good, time.Hour, []string{"is text/plain, not application/json"}},
		{"another JSON", 200, kind("application/vnd.api+json"), good, time.Hour, []string{"is application/vnd.api+json, not"}},
		{"no media type", 200, nil, good, time.Hour, []string{"is missing, not application/json"}},
		{"all at once", 201, nil, `[{"access_token":"t","expires_in":"60"}]`, time.Minute, []string{"an array", "missing", "201", "no token_type", "a text"}},
	} {
		sent := time.Now()
		token, err := client.Answer{Status: test.status, Header: test.header, Body: test.body, Sent: sent, Took: time.Second}.Read("")
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		notes, _ := token.Extra("notes").([]string)
		if token.AccessToken != "t" || token.TokenType != "Bearer" || !token.Expiry.Equal(sent.Add(test.life).Round(0)) || len(notes) != len(test.notes) {
			t.Errorf("%s: %+v, notes %q", test.name, token, notes)
			continue
		}
		for i, note := range test.notes {
			if !strings.Contains(notes[i], note) {
				t.Errorf("%s: %q, want %q", test.name, notes[i], note)
			}
		}
	}
}

// No iSHARE registry in use answers in the form of RFC 6749: what it says is told all the
// same.
func TestForeignErrorsAreTold(t *testing.T) {
	html := http.Header{"Content-Type": {"text/html"}}
	for _, test := range []struct {
		name              string
		status            int
		header            http.Header
		body              string
		code, words, said string // words are those of the description
	}{
		{"members of its own", 400, jsonHeader, `{"code":400,"description":"Unknown client_id in request","message":"Bad Request"}`, "", "lacks the member error", "Unknown client_id in request; Bad Request"},
		{"error as an object", 400, jsonHeader, `{"error":{"code":"E1","message":"party not found"}}`, "", "its member error is not a text", "party not found; E1"},
		{"text in JSON", 400, jsonHeader, `"Invalid client_assertion."`, "", "not one JSON object", "Invalid client_assertion."},
		{"plain", 400, http.Header{"Content-Type": {"text/plain"}}, "Certificate chain is not trusted.", "", "text/plain, not application/json", "Certificate chain is not trusted."},
		{"RFC 9457", 400, http.Header{"Content-Type": {"application/problem+json"}}, `{"title":"Bad Request","detail":"client_id is unknown"}`, "", "application/problem+json", "client_id is unknown; Bad Request"},
		{"a gateway", 401, jsonHeader, `{"statusCode":401,"message":"missing subscription key"}`, "", "lacks the member error", "missing subscription key"},
		{"a proxy", 502, html, "<html><title>502 Bad Gateway</title></html>", "", "text/html", "502 Bad Gateway"},
		{"nothing", 400, nil, "", "", "the answer is empty, and of no media type", ""},
		{"no, with 200", 200, jsonHeader, `{"status":false,"message":"client_assertion invalid"}`, "", "holds no token", "client_assertion invalid"},
		{"half of RFC 6749", 401, jsonHeader, `{"error":"Unauthorized","message":"no such party"}`, "Unauthorized", "no such party", ""},
		{"all of RFC 6749", 400, jsonHeader, `{"error":"invalid_client","error_description":"no","message":"other"}`, "invalid_client", "no", ""},
	} {
		err := refused(test.status, test.header, test.body, "")
		e, ok := errors.AsType[*client.Error](err)
		if !ok || e.Code != test.code || e.Said != test.said || !strings.Contains(e.Description, test.words) {
			t.Errorf("%s: %+v", test.name, e)
		}
		if test.said != "" && !strings.HasSuffix(err.Error(), "; it says: "+test.said) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestTypedErrors(t *testing.T) {
	for _, reason := range append(rule.All(), rule.Outages()...) {
		body := fmt.Sprintf(`{"error":%q,"error_description":%q}`, reason.Code, reason.Reject().Description())
		err := refused(reason.Status, jsonHeader, body, "")
		want := &client.Error{
			Status: reason.Status, Code: reason.Code, Description: reason.ID + ": " + reason.Sentence, RuleID: reason.ID, Hint: reason.Hint,
		}
		if diff := cmp.Diff(error(want), err); diff != "" {
			t.Errorf("%s: %s", reason.ID, diff)
		}
		text := fmt.Sprintf("client: the token endpoint answered %d %s: %s: %s", reason.Status, reason.Code, reason.ID, reason.Sentence)
		if err.Error() != text {
			t.Errorf("%q, want %q", err, text)
		}
	}
}

func TestDescriptionsOfOthers(t *testing.T) {
	tests := []struct{ body, description, rule string }{
		{`{"error":"invalid_client"}`, "", ""},
		{`{"error":"invalid_client","error_description":null}`, "", ""},
		{`{"error":"invalid_client","error_description":42}`, "", ""},
		{`{"error":"invalid_client","error_description":"claim.aud"}`, "claim.aud", ""},
		{`{"error":"invalid_client","error_description":"Error: no such client"}`, "Error: no such client", ""},
		{`{"error":"invalid_client","error_description":"error: no such client"}`, "error: no such client", ""},
		{`{"error":"invalid_client","error_description":"eu.ishare.jwt: bad"}`, "eu.ishare.jwt: bad", ""},
		{`{"error":"invalid_client","error_description":"claim.colour: a rule of tomorrow"}`, "claim.colour: a rule of tomorrow", "claim.colour"},
		{`{"error":"invalid_client","error_description":"limited: too many requests"}`, "limited: too many requests", "limited"},
		{`{"error":"invalid_client","error_description":"ungültig\u001b[31m\nso"}`, "ungültig?[31m?so", ""},
	}
	for _, test := range tests {
		err := refused(400, jsonHeader, test.body, "")
		e, ok := errors.AsType[*client.Error](err)
		if !ok || e.Code != "invalid_client" || e.Description != test.description || e.RuleID != test.rule {
			t.Errorf("%s: %+v", test.body, e)
		}
	}
}

func TestLongDescriptionIsCut(t *testing.T) {
	body := `{"error":"` + strings.Repeat("c", 9000) + `","error_description":"` + strings.Repeat("ä", 9000) + `"}`
	err := refused(400, jsonHeader, body, "")
	if e, ok := errors.AsType[*client.Error](err); !ok || len([]rune(e.Description)) != 501 || len([]rune(e.Code)) != 61 {
		t.Errorf("got %v", err)
	}
}

// makeAssertion makes one that nobody has used.
func makeAssertion(tb testing.TB) string {
	tb.Helper()
	s := newSeal()
	compact, err := (&assertion.Maker{ClientID: consumer, Key: s.key, Certificates: s.chain}).Make(provider)
	if err != nil {
		tb.Fatal(err)
	}
	return compact
}

// Servers that quote what they were sent, each in its own way.
func TestErrorNeverHoldsTheAssertion(t *testing.T) {
	compact := makeAssertion(t)
	wrapped := strings.Join(slices.Collect(chunks(compact, 64)), `\n`)
	header, payload, signature := parts(compact)
	quotes := map[string]string{
		"whole":     "not valid: " + compact,
		"twice":     compact + compact,
		"in lines":  wrapped,
		"header":    "bad header " + header,
		"payload":   "bad payload " + payload + "!",
		"signature": "bad signature '" + signature + "'",
		"form":      "client_id=x&client_assertion=" + compact + "&scope=iSHARE",
		"far on":    strings.Repeat("blah ", 60) + compact,
	}
	for name, quote := range quotes {
		for _, body := range []string{
			fmt.Sprintf(`{"error":"invalid_client","error_description":"%s"}`, quote),
			fmt.Sprintf(`{"error":"%s"}`, quote),
			"<html>" + quote,
			quote,
			fmt.Sprintf(`{"message":"%s"}`, quote),
			fmt.Sprintf(`"%s"`, quote),
		} {
			header := jsonHeader
			if body[0] == '<' {
				header = http.Header{"Content-Type": {"text/html" + compact}}
			}
			err := refused(400, header, body, compact)
			if err == nil {
				t.Fatal("no error")
			}
			if found := secretsIn(fmt.Sprintf("%v %+v", err, err), compact); found != nil {
				t.Errorf("%s: the error gives away %q: %v", name, found, err)
			}
		}
	}
}

func chunks(s string, n int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for s != "" {
			piece := s[:min(n, len(s))]
			s = s[len(piece):]
			if !yield(piece) {
				return
			}
		}
	}
}

func parts(compact string) (header, payload, signature string) {
	p := strings.Split(compact, ".")
	return p[0], p[1], p[2]
}

func TestHideKeepsHonestWords(t *testing.T) {
	compact := makeAssertion(t)
	for _, reason := range rule.All() {
		s := reason.Reject().Description() + " " + reason.Hint + " " + string(consumer) + " " + ishare.Thumbprint([]byte("x"))
		if got := client.Redact(s, compact); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}

func TestHideGoesByTwelveCharacters(t *testing.T) {
	for s, want := range map[string]string{
		"see abcdefghijk.": "see abcdefghijk.", "see abcdefghijkl.": "see [removed].",
		"abcdefghijklmnop": "[removed]", "": "",
	} {
		if got := client.Redact(s, "0123abcdefghijklmnop4567"); got != want {
			t.Errorf("%q became %q, want %q", s, got, want)
		}
	}
}

// A hint fits the answer: JSON of another media type is no reason to doubt the address, and who
// has to wait reads for how long.
func TestHintsOfForeignAnswers(t *testing.T) {
	kind := func(mediaType string) http.Header { return http.Header{"Content-Type": {mediaType}} }
	for name, test := range map[string]struct {
		status int
		header http.Header
		body   string
		want   string
	}{
		"HTML":     {400, kind("text/html"), "No", "Check the server's address: a token endpoint answers JSON, whatever it answers."},
		"a page":   {404, kind("text/html"), "Not found", "Check the server's address: who answers there has no token endpoint at it."},
		"a proxy":  {404, kind("application/json"), `{"message":"no Route matched"}`, "Check the server's address: who answers there has no token endpoint at it."},
		"a method": {405, http.Header{}, "", "Check the server's address: who answers there has no token endpoint at it."},
		"an error": {404, kind("application/json"), `{"error":"invalid_client"}`, ""},
		"RFC 9457": {400, kind("application/problem+json"), `{"title":"Bad Request"}`, ""},
		"too many": {429, http.Header{"Content-Type": {"application/json"}, "Retry-After": {"90"}}, `{"message":"slower"}`, "The server asks to wait for 1m30s."},
	} {
		e, ok := errors.AsType[*client.Error](refused(test.status, test.header, test.body, ""))
		if !ok || e.Hint != test.want {
			t.Errorf("%s: %+v, want the hint %q", name, e, test.want)
		}
	}
}

func TestRetryAfterValues(t *testing.T) {
	date := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":     0,
		"0":    0,
		"7":    7 * time.Second,
		"-7":   0,
		"1.5":  0,
		"soon": 0,
		date.Add(90 * time.Second).Format(http.TimeFormat):  90 * time.Second, // by the server's clock
		date.Add(-90 * time.Second).Format(http.TimeFormat): 0,
		date.AddDate(1, 0, 0).Format(http.TimeFormat):       client.MaxRetryAfter,
	} {
		header := http.Header{"Retry-After": {value}, "Date": {date.Format(http.TimeFormat)}}
		if e, ok := errors.AsType[*client.Error](refused(503, header, "", "")); !ok || e.RetryAfter != want {
			t.Errorf("%q: %+v, want %s", value, e, want)
		}
	}
}

func TestClockOffset(t *testing.T) {
	tests := []struct {
		ahead time.Duration // of the server
		hint  string
	}{
		{0, ""},
		{2 * time.Second, ""},
		{-2 * time.Second, ""},
		{42 * time.Second, "The clock of this machine is 42s behind the server's"},
		{-time.Hour, "The clock of this machine is 1h0m0s ahead of the server's"},
		{4 * time.Second, "4s behind"},
	}
	answers := map[string]http.HandlerFunc{
		"claim.iat": refusal(rule.ClaimIat),
		"claim.exp": refusal(rule.ClaimExp),
		"foreign":   jsonAnswer(400, `{"error":"invalid_client"}`),
		"a proxy":   jsonAnswer(403, `<html>`),
	}
	for _, test := range tests {
		for name, answer := range answers {
			t.Run(fmt.Sprintf("%s %s", test.ahead, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := newTokenServer(t, answer)
					server.ahead, server.delay = test.ahead, 300*time.Millisecond
					_, err := newClient(t, config(&inMemory{handler: server})).Token(t.Context())
					e, ok := errors.AsType[*client.Error](err)
					if !ok || !strings.Contains(e.Hint, test.hint) {
						t.Fatalf("got %+v, want the hint %q", e, test.hint)
					}
					if !e.ClockKnown {
						t.Error("the clock is not known")
					}
					if (test.hint == "") != (e.ClockOffset == 0) || (e.ClockOffset-test.ahead).Abs() > 2*time.Second {
						t.Errorf("offset %s, want %s", e.ClockOffset, test.ahead)
					}
					if e.RuleID != "" && !strings.Contains(e.Hint, "NTP") {
						t.Errorf("the rule's own hint is lost: %q", e.Hint)
					}
				})
			})
		}
	}
}

// An answer that was long on its way says little about the time.
func TestClockOffsetOfSlowAnswer(t *testing.T) {
	sent := time.Now()
	header := maps.Clone(jsonHeader)
	header.Set("Date", sent.Add(8*time.Second).UTC().Format(http.TimeFormat))
	_, err := client.Answer{Status: 400, Header: header, Body: `{"error":"invalid_client"}`, Sent: sent, Took: 9 * time.Second}.Read("")
	if e, ok := errors.AsType[*client.Error](err); !ok || e.ClockOffset != 0 {
		t.Errorf("got %+v", e)
	}
}

// Without a Date, nothing is known of the server's clock.
func TestClockUnknown(t *testing.T) {
	if e, ok := errors.AsType[*client.Error](refused(400, jsonHeader, `{"error":"invalid_client"}`, "")); !ok || e.ClockKnown || e.ClockOffset != 0 {
		t.Errorf("got %+v", e)
	}
}

// pretendedAssertion looks like one and is the same in every process, so that what the fuzzer
// found in one is found in another.
func pretendedAssertion() string {
	part := func(label string, length int) string {
		var b []byte
		for i := 0; len(b) < length; i++ {
			sum := sha256.Sum256(fmt.Append(nil, label, i))
			b = append(b, sum[:]...)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	return part("header", 900) + "." + part("payload", 150) + "." + part("signature", 256)
}

// FuzzAnswer shows that whatever answers, there is either a token that can stand in a
// header, or an *Error that is fit for a log and holds nothing of the assertion.
func FuzzAnswer(f *testing.F) {
	compact := pretendedAssertion()
	const good = `{"access_token":"t","expires_in":3600,"token_type":"Bearer","scope":"iSHARE"}`
	refused := `{"error":"invalid_client","error_description":"claim.exp: exp is in the past"}`
	date := time.Now().UTC().Format(http.TimeFormat)
	f.Add(200, "application/json", date, "", []byte(good))
	f.Add(200, "application/json; charset=utf-8", "", "", []byte(`{"access_token":"t","expires_in":1e400,"token_type":"Bearer"}`))
	f.Add(400, "application/json", date, "", []byte(refused))
	f.Add(400, "application/json", "Fri, 31 Dec 9999 23:59:59 GMT", "", []byte(refused))
	f.Add(503, "application/json", date, "10", []byte(`{"error":"temporarily_unavailable"}`))
	f.Add(503, "text/html", "", "Fri, 31 Dec 9999 23:59:59 GMT", []byte("<html>"))
	f.Add(307, "", "", "-1", []byte(nil))
	f.Add(201, "text/plain", "", "", []byte(`[{"access_token":"t","expires_in":"3600"}]`))
	f.Add(400, "text/html", "", "", []byte(`<html><script>x</script><p>no`))
	f.Add(400, "application/json", "", "", []byte(`{"error":{"message":"`+compact+`"}}`))
	f.Add(400, "application/json", date, "", []byte(`{"error":"e","error_description":"`+compact+`"}`))
	f.Add(400, compact+"/"+compact, compact, compact, []byte(compact))
	f.Fuzz(func(t *testing.T, status int, mediaType, date, retryAfter string, body []byte) {
		header := http.Header{"Content-Type": {mediaType}, "Date": {date}, "Retry-After": {retryAfter}}
		now := time.Now()
		token, err := client.Answer{Status: status, Header: header, Body: string(body), Sent: now, Took: time.Second}.Read(compact)
		if err == nil {
			if status < 200 || status > 299 || token.AccessToken == "" || strings.ContainsFunc(token.AccessToken, unicode.IsSpace) {
				t.Errorf("status %d, token %q", status, token.AccessToken)
			}
			if life := token.Expiry.Sub(now); life < time.Second/2 || life > client.MaxLife {
				t.Errorf("a life of %s", life)
			}
			return
		}
		e, ok := errors.AsType[*client.Error](err)
		if !ok || token != nil || e.Status != status {
			t.Fatalf("got %v, %v", token, err)
		}
		if found := secretsIn(fmt.Sprintf("%+v %v", *e, e), compact); found != nil {
			t.Errorf("the error gives away %q", found)
		}
		if e.RetryAfter < 0 || e.RetryAfter > client.MaxRetryAfter || len(e.Description) > 2100 {
			t.Errorf("got %+v", e)
		}
		if i := strings.IndexFunc(e.Error(), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("not printable: %q", e.Error())
		}
	})
}
