package explain

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/waybill-token/waybill/isharetest"
)

// jwt is no assertion that anybody takes, and looks like one.
func jwt() string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"RS256","typ":"JWT","x5c":["AA=="]}`) + "." + part(`{"iss":"a?>","iat":1764487683}`) + "." + part("signature>>>")
}

func form() url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "scope": {"iSHARE"}, "client_id": {"did:ishare:EU.NL.NTRNL-10000001"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {jwt()},
	}
}

// littleEndian is how PowerShell writes a text to a file.
func littleEndian(s string) string {
	b := []byte("\xff\xfe")
	for _, unit := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return string(b)
}

// wrapped is the JWT in lines of a width, each behind an indent.
func wrapped(indent, end string) string {
	var lines []string
	for rest := jwt(); rest != ""; {
		n := min(60, len(rest))
		lines, rest = append(lines, rest[:n]), rest[n:]
	}
	return strings.Join(lines, end+indent)
}

func quotedInMail(mark string) string { return mark + wrapped(mark, "\n") }

// However people have the assertion at hand, it is found.
func TestRead(t *testing.T) {
	t.Parallel()
	body := form().Encode()
	folded := jwt()[:20] + "\r\n  " + jwt()[20:40] + "\n" + jwt()[40:]
	padded := strings.Replace(jwt(), ".", "==.", 1)
	for name, test := range map[string]struct {
		text, want string // empty: that of jwt
		request    bool
		note       string
	}{
		"alone":                     {text: jwt()},
		"with the end of its line":  {text: jwt() + "\n", note: "line feed"},
		"after a byte order mark":   {text: "\xef\xbb\xbf" + jwt()},
		"of PowerShell":             {text: littleEndian(jwt() + "\r\n"), note: "line feed"},
		"between quotes":            {text: `"` + jwt() + `"`},
		"between quotes and comma":  {text: `  '` + jwt() + `',`},
		"between curved quotes":     {text: "“" + jwt() + "”"},
		"on several lines":          {text: folded, want: folded},
		"with an empty line":        {text: jwt() + "\n\n", want: jwt() + "\n", note: "line feed"},
		"padded":                    {text: padded, want: padded},
		"Bearer":                    {text: "Bearer " + jwt(), note: "Authorization"},
		"Authorization":             {text: "Authorization: Bearer " + jwt(), note: "Authorization"},
		"a parameter":               {text: "client_assertion=" + jwt()},
		"a parameter, encoded":      {text: "client_assertion=" + url.QueryEscape(jwt())},
		"a parameter in quotes":     {text: `"client_assertion=` + jwt() + `"`},
		"a form":                    {text: body, request: true},
		"a form on lines":           {text: strings.ReplaceAll(body, "&", "\n&"), request: true},
		"a form in quotes":          {text: "'" + body + "'", request: true},
		"a URL":                     {text: "https://provider.example/connect/token?" + body, request: true, note: "URL"},
		"JSON":                      {text: `{"grant_type":"client_credentials","client_assertion":"` + jwt() + `"}`, note: "JSON"},
		"JSON, deeper":              {text: `{"body":[{"mode":"x"},{"key":"client_assertion","value":"` + jwt() + `"}]}`, note: "JSON"},
		"a JSON string":             {text: `["` + jwt() + `"]`, note: "JSON"},
		"nearly JSON":               {text: `{client_assertion: '` + jwt() + `'}`, note: "no JSON"},
		"curl":                      {text: "curl -X POST https://provider.example/connect/token -d '" + body + "'", request: true},
		"curl, line by line":        {text: "$ curl https://provider.example/connect/token \\\n  -H 'Content-Type: application/x-www-form-urlencoded' \\\n  --data \"" + body + `"`, request: true},
		"curl of Windows":           {text: "curl https://provider.example/connect/token ^\r\n  --data-raw \"" + body + `"`, request: true},
		"curl, parameters apart":    {text: "curl https://x --data-urlencode grant_type=client_credentials --data-urlencode 'client_assertion=" + jwt() + "'", request: true},
		"curl with JSON":            {text: `curl https://x --json '{"client_assertion":"` + jwt() + `"}'`, request: true},
		"curl with a query":         {text: "curl -G https://x -d client_assertion=" + jwt(), request: true},
		"curl with Bearer":          {text: "curl https://x/api -H 'Authorization: Bearer " + jwt() + "'", note: "Authorization"},
		"an HTTP request":           {text: "POST /connect/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n" + body + "\r\n", request: true},
		"of PowerShell, unmarked":   {text: littleEndian(jwt() + "\r\n")[2:], note: "line feed"},
		"of a mail":                 {text: quotedInMail("> "), note: "as in a mail"},
		"of a mail to a mail":       {text: quotedInMail("> > "), note: "as in a mail"},
		"in prose":                  {text: "Hello,\nthis is what we send: " + jwt() + ". Why is it refused?\nJan", note: "without the text around it"},
		"wrapped in prose":          {text: "Hello,\n\n" + wrapped("", "\n") + "\n\nJan", note: "without the text around it"},
		"quoted-printable":          {text: wrapped("", "=\n"), note: "without the text around it"},
		"in a program":              {text: `const token = "` + jwt() + `";`, note: "without the text around it"},
		"added up":                  {text: "String s =\n    \"" + wrapped("    \"", "\" +\n") + "\";", note: "without the text around it"},
		"one string behind another": {text: "token = (\n    '" + wrapped("    '", "'\n") + "'\n)", note: "without the text around it"},
		"folded in YAML":            {text: "client_assertion: >\n  " + wrapped("  ", "\n") + "\nscope: iSHARE", note: "without the text around it"},
		"a header field":            {text: "X-Assertion: " + jwt(), note: "without the text around it"},
		"XML":                       {text: "<a><client_assertion>" + jwt() + "</client_assertion></a>", note: "without the text around it"},
		"the address of a debugger": {text: "https://jwt.io/#debugger-io?token=" + jwt(), note: "without the text around it"},
		"Markdown":                  {text: "```text\n" + jwt() + "\n```"},
		"twice":                     {text: jwt() + "\n" + jwt(), note: "without the text around it"},
		"behind another":            {text: "id: eyJhbGciOiJub25lIn0.e30.AA\nassertion: " + jwt(), note: "several JWTs"},
		"Postman":                   {text: `{"item":[{"item":[{"item":[{"request":{"auth":{"bearer":[{"key":"token","value":"eyJhbGciOiJub25lIn0.e30.AA"}]},"body":{"urlencoded":[{"key":"client_assertion","value":"` + jwt() + `"}]}}}]}]}]}`, note: "JSON"},
		"HAR":                       {text: `{"log":{"entries":[{"request":{"postData":{"text":"` + body + `"}}}]}}`, request: true, note: "JSON"},
		"a log in JSON":             {text: `{"msg":"sent","body":"` + strings.NewReplacer("=", `\u003d`, "&", `\u0026`).Replace(body) + `"}`, request: true, note: "JSON"},
		"a log in text":             {text: "[2026-11-30 11:00] DEBUG body=" + body + " status=400", request: true, note: "as one that is posted"},
		"wget":                      {text: "wget --post-data='" + body + "' https://x", request: true, note: "as one that is posted"},
		"PowerShell":                {text: "Invoke-RestMethod `\r\n -Uri https://x `\r\n -Body \"" + body + `"`, request: true, note: "as one that is posted"},
		"HTTPie":                    {text: "http --form POST https://x grant_type=client_credentials client_assertion='" + jwt() + "'", note: "without the text around it"},
		"a file of an editor":       {text: "POST https://x/connect/token\nContent-Type: application/x-www-form-urlencoded\n\n" + strings.ReplaceAll(body, "&", "\n&") + "\n", request: true},
		"a request in chunks":       {text: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body), request: true},
		"multipart":                 {text: "POST / HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"client_assertion\"\r\n\r\n" + jwt() + "\r\n--b--\r\n", request: true},
		"curl behind a prompt":      {text: "me@host:~$ time curl -s https://x -d '" + body + "' | jq .", request: true},
		"curl with a path":          {text: `C:\Windows\System32\curl.exe https://x -d "` + body + `"`, request: true},
		"curl, options in one":      {text: "curl -sSd '" + body + "' https://x", request: true},
		"curl, ANSI-C quotes":       {text: "curl https://x -d $'" + strings.ReplaceAll(body, "=", `\u003d`) + "'", request: true},
		"curl of a browser":         {text: "curl ^\"https://x^\" ^\r\n  --data-raw ^\"" + strings.NewReplacer("&", "^&", "%", "^%").Replace(body) + `^"`, request: true},
		"curl, here":                {text: "curl https://x -d @- <<EOF\n" + body + "\nEOF", request: true, note: "as one that is posted"},
		"piped into curl":           {text: "echo '" + body + "' | curl https://x -d @-", request: true, note: "as one that is posted"},
		"what is none":              {text: "This is no JWT.", want: "This is no JWT."},
		"two parts":                 {text: "eyJhbGciOiJSUzI1NiJ9.e30", want: "eyJhbGciOiJSUzI1NiJ9.e30"},
	} {
		in, err := Read(test.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := test.want
		if want == "" {
			want = jwt()
		}
		if in.Assertion != want || (in.Request != nil) != test.request {
			t.Errorf("%s: %.300q, of a request: %t", name, in.Assertion, in.Request != nil)
		}
		if all := strings.Join(in.Notes, "; "); test.note == "" && all != "" || !strings.Contains(all, test.note) {
			t.Errorf("%s: notes %q, want %q", name, all, test.note)
		}
		if strings.Count(want, ".") == 2 && strings.HasPrefix(want, "eyJ") && in.Mended != jwt() {
			t.Errorf("%s: mended %q", name, in.Mended)
		}
	}
}

// What the request is goes with it.
func TestReadRequest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, method, mediaType, authorization, query string }{
		"form":           {form().Encode(), "POST", "application/x-www-form-urlencoded", "", ""},
		"curl":           {"curl -d '" + form().Encode() + "' https://x?a=b", "POST", "application/x-www-form-urlencoded", "", "a=b"},
		"curl -XPUT":     {"curl -XPUT -u me:secret -d'" + form().Encode() + "' https://x", "PUT", "application/x-www-form-urlencoded", "Basic bWU6c2VjcmV0", ""},
		"curl, own type": {"curl -H 'Content-Type: text/plain' -d '" + form().Encode() + "' https://x", "POST", "text/plain", "", ""},
		"curl, JSON":     {`curl --json '{"client_assertion":"` + jwt() + `"}' https://x`, "POST", "application/json", "", ""},
		"curl -F":        {"curl -F client_assertion=" + jwt() + " https://x", "POST", "multipart/form-data", "", ""},
		"curl -G":        {"curl -G -d a=b -d client_assertion=" + jwt() + " https://x", "GET", "", "", "a=b&client_assertion=" + jwt()},
		"message": {
			"GET /connect/token?x=y HTTP/1.1\nAuthorization: Basic AA\nContent-Type: text/html\n\n" + form().Encode(), "GET", "text/html", "Basic AA", "x=y",
		},
	} {
		in, err := Read(test.text)
		if err != nil || in.Request == nil {
			t.Errorf("%s: %v, %+v", name, err, in)
			continue
		}
		r := in.Request
		if r.Method != test.method || r.Header.Get("Content-Type") != test.mediaType || r.Header.Get("Authorization") != test.authorization || r.URL.RawQuery != test.query {
			t.Errorf("%s: %s %s, %v", name, r.Method, r.URL, r.Header)
		}
	}
}

// What is something else is told by name.
func TestReadOther(t *testing.T) {
	t.Parallel()
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	party := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	der := base64.StdEncoding.EncodeToString(party.Certificates[0].Raw)
	pkcs12, err := asn1.Marshal(struct {
		Version int
		Content []byte
	}{3, make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----": "a PEM file (CERTIFICATE)",
		"-----BEGIN RSA PRIVATE KEY-----":                              "a private key",
		der:                                                            "a certificate, of CN=Some Consumer",
		part(`{"alg":"dir","enc":"A256GCM"}`) + "..AA.AA.AA":                                          "an encrypted JWT",
		part(`{"alg":"ES256","typ":"at+jwt"}`) + "." + part(`{"iss":"a"}`) + ".AA":                    "an access token",
		`{"access_token":"abc","token_type":"Bearer"}`:                                                "the answer of a token endpoint",
		`{"error":"invalid_client"}`:                                                                  "it does not say by which rule",
		`{"error":"invalid_client","error_description":"jwt.typ: typ is missing"}`:                    "by the rule jwt.typ: typ is missing",
		`{"capabilities_token":"` + jwt() + `"}`:                                                      "an answer of GET /capabilities",
		string(party.Certificates[0].Raw):                                                             "a certificate, of CN=Some Consumer",
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: party.Certificates[0].Raw})): "a certificate, of CN=Some Consumer",
		string(x509.MarshalPKCS1PrivateKey(party.Key)):                                                "a private key",
		"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----":   "a private key",
		"-----BEGIN PUBLIC KEY-----":                                                                  "a PEM file (PUBLIC KEY)",
		string(pkcs12):                                                                                "a PKCS#12 file",
		base64.StdEncoding.EncodeToString(pkcs12):                                                     "a PKCS#12 file",
		`{"kty":"RSA","n":"AA","e":"AQAB"}`:                                                           "keys (JWK",
		`{"kty":"RSA","n":"AA","d":"AA"}`:                                                             "a private key (JWK)",
		"Basic dXNlcjpwYXNz":                                                                          "a password for Basic",
		"claim.aud: aud is missing":                                                                   "by the rule claim.aud: aud is missing",
		"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n" + `{"error":"invalid_client"}`:                "it does not say by which rule",
		jwt()[:40] + "..." + jwt()[60:]:                                                               "not all of a JWT",
		"<samlp:Response/>":                                                                           "XML",
		"curl https://x -d \"client_assertion=`cat a`\"":                                              "takes `cat a` from",
		"curl https://x -d 'client_assertion={{a}}'":                                                  "takes {{a}} from",
		`{"a":1}`:                                            "there is no JWT in it",
		"did:ishare:EU.NL.NTRNL-10000001":                    "a party identifier",
		"https://provider.example/connect/token":             "a URL",
		"curl https://x -d @body.txt":                        "takes @body.txt from a file or a variable",
		`curl https://x -d "client_assertion=$ASSERTION"`:    "takes $ASSERTION from a file or a variable",
		"curl https://x --data-urlencode client_assertion@a": "takes client_assertion@a from a file",
	} {
		_, err := Read(text)
		other, ok := errors.AsType[*OtherError](err)
		if !ok || !strings.Contains(other.What, want) || other.Do == "" {
			t.Errorf("%.80s: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"", " \n", "\xef\xbb\xbf"} {
		if _, err := Read(text); !errors.Is(err, ErrEmpty) {
			t.Errorf("%q: %v", text, err)
		}
	}
	in, err := Read(part(`{"alg":"RS256","x5c":[]}`) + "." + part(`{"capabilities_info":{}}`) + ".AA")
	if err != nil || len(in.Notes) != 1 || !strings.Contains(in.Notes[0], "an answer of GET /capabilities") {
		t.Errorf("capabilities: %v, %+v", err, in)
	}
}

func TestJudgedAt(t *testing.T) {
	t.Parallel()
	made := time.Unix(1764487683, 0)
	for _, test := range []struct {
		claims string
		given  time.Time
		now    time.Time
		at     time.Time
		why    string
	}{
		{`{"iat":1764487683}`, time.Time{}, made.Add(3 * time.Minute), made, "the moment it was made, 3 minutes ago; now it is expired"},
		{`{"iat":1764487683}`, time.Time{}, made.Add(time.Second), made, "the moment it was made, 1 second ago"},
		{`{"iat":1764487683}`, time.Time{}, made.Add(-time.Hour), made.Add(-time.Hour), "this moment; it says that it was made 60 minutes from now"},
		{`{"exp":1764487713}`, time.Time{}, made.Add(50 * time.Hour), made, "2 days ago"},
		{`{"iat":1764487683000}`, time.Time{}, made.Add(time.Hour), made, "60 minutes ago"},
		{`{"iat":"1764487683"}`, time.Time{}, made.Add(time.Hour), made, "60 minutes ago"},
		{`{"iat":"1764487683000.4"}`, time.Time{}, made.Add(time.Hour), made, "60 minutes ago"},
		{`{"iat":"yesterday","exp":1764487713}`, time.Time{}, made.Add(time.Hour), made, "60 minutes ago"},
		{`{"iat":-1}`, time.Time{}, made, made, "does not say when it was made"},
		{`{"iat":"NaN"}`, time.Time{}, made, made, "does not say when it was made"},
		{`{"iat":1e300}`, time.Time{}, made, made, "does not say when it was made"},
		{`{"iat":[1764487683]}`, time.Time{}, made, made, "does not say when it was made"},
		{`{"iat":1764487683}`, made.Add(time.Hour), made, made.Add(time.Hour), "as of 2025-11-30 08:28:03 UTC"},
	} {
		in := &Input{Mended: "e30." + base64.RawURLEncoding.EncodeToString([]byte(test.claims)) + ".AA"}
		if at, why := judgedAt(in, test.given, test.now); !at.Equal(test.at) || !strings.Contains(why, test.why) {
			t.Errorf("%s: %v, %s", test.claims, at, why)
		}
	}
}

// FuzzRead: whatever somebody pastes, it is read, and what is shown of it steers no terminal.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		jwt(), form().Encode(), "curl -X POST -d 'client_assertion=" + jwt() + "' https://x", `{"client_assertion":"` + jwt() + `"}`, "Bearer " + jwt(),
		"POST / HTTP/1.1\n\na=b", "curl ", "'", `"`, "{", "[", "-----BEGIN A-----", "\xff\xfea\x00", "?client_assertion=", "client_assertion=%", "curl -d", "a.b.c",
		`{"payload":"e30","protected":"e30","signature":"AA"}`, `{"payload":"e30","signatures":[{"protected":"e30","signature":"AA"}]}`, "\x1b[2J", "“",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		in, err := Read(text)
		if err != nil {
			if s := Printable(err.Error()); !utf8.ValidString(s) && utf8.ValidString(text) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%q", s)
			}
			return
		}
		if in.Request != nil {
			_ = in.Request.Clone(t.Context())
			if in.Request.Method == http.MethodPost && in.Request.URL == nil {
				t.Error("a request without a URL")
			}
		}
		if len(in.Assertion) > 2*len(text)+2 || len(in.Mended) > 2*len(text)+2 {
			t.Errorf("%d bytes of %d", len(in.Assertion), len(text))
		}
	})
}
