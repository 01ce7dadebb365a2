package guard_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/waybill-token/waybill/accesstoken"
)

func exampleToken(issuer *accesstoken.Issuer) string {
	token, _, err := issuer.Issue(context.Background(), accesstoken.Claims{
		Party: consumer, Client: consumer, Scope: []string{"iSHARE"}, Thumbprint: certificate,
	})
	if err != nil {
		panic(err)
	}
	return token
}

func exampleURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}

// ask gets a page, and sums the answer up.
func ask(address, token string) string {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		panic(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		panic(err)
	}
	if answer.StatusCode == http.StatusOK {
		return "200 " + string(body)
	}
	return strings.TrimSpace(fmt.Sprint(answer.StatusCode, " ", answer.Header.Get("WWW-Authenticate")))
}
