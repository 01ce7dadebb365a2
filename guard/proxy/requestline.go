package proxy

import (
	"net/http"
	"strings"

	"github.com/waybill-token/waybill/internal/bearer"
	"github.com/waybill-token/waybill/rule"
)

// judgeLine refuses what must not stand in the request line of HTTP/1.1, in which the upstream gets
// it. Over HTTP/2, where the query needs no such line to come in, it may hold a blank, and with
// ?q HTTP/1.0 a client would end the upstream's line where it likes.
func judgeLine(r *http.Request) *bearer.Refusal {
	switch {
	case !isToken(r.Method):
		return bearer.BadRequest("the method is not a token of HTTP")
	case strings.ContainsFunc(r.URL.RawQuery, breaksLine):
		return bearer.BadRequest("the query holds a blank or a control character")
	}
	return nil
}

// isToken follows RFC 9110 section 5.6.2.
func isToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !isTokenCharacter(r) })
}

func isTokenCharacter(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func breaksLine(r rune) bool { return r <= ' ' || r == 0x7f }

// passedMethods is for Allow: the usual methods. The upstream knows what it allows.
const passedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"

// noTunnel answers CONNECT, by which a client asks for a way past everything here.
func noTunnel() *bearer.Refusal {
	return &bearer.Refusal{Status: http.StatusMethodNotAllowed, Code: rule.CodeInvalidRequest, Description: "this server makes no tunnels", Allow: passedMethods}
}

func uriTooLong() *bearer.Refusal {
	return &bearer.Refusal{Status: http.StatusRequestURITooLong, Code: rule.CodeInvalidRequest, Description: "the path is too long"}
}
