package guardtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
)

// ExampleIssuer makes an issuer for an example, which has no test to end. It panics where a program would report an error,
// as the others here do.
func ExampleIssuer(revoked accesstoken.TokenRevocationChecker) *accesstoken.Issuer {
	dir := must(os.MkdirTemp("", "keys"))
	defer func() { _ = os.RemoveAll(dir) }()
	keys := must(accesstoken.OpenKeys(dir, slog.New(slog.DiscardHandler)))
	return must(accesstoken.New(accesstoken.Config{Party: Provider, Lifetime: time.Hour, Keys: keys, Revoked: revoked}))
}

// ExampleToken issues a token to the consumer.
func ExampleToken(issuer *accesstoken.Issuer) string {
	token, _, err := issuer.Issue(context.Background(), accesstoken.Claims{
		Party: Consumer, Client: Consumer, Scope: []string{"iSHARE"}, Thumbprint: Certificate,
	})
	return must(token, err)
}

// Ask sends a GET request, with the token if it is not empty, and sums the answer up.
func Ask(address, token string) string {
	r := must(http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	body := must(io.ReadAll(answer.Body))
	if answer.StatusCode == http.StatusOK {
		return "200 " + string(body)
	}
	return strings.TrimSpace(fmt.Sprint(answer.StatusCode, " ", answer.Header.Get("WWW-Authenticate")))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
