package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/internal/outbound"
)

// identify asks a server whose answer at /capabilities this is.
func identify(t *testing.T, capabilities http.HandlerFunc) (*client.Identity, error) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /base/capabilities", capabilities)
	return client.Identify(t.Context(), "https://provider.example/base", &inMemory{handler: mux})
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	for _, member := range []string{"capabilitiesToken", "capabilities_token"} {
		for _, shape := range []string{shape3, shape2} {
			compact := capabilitiesOf(t, fmt.Sprintf(shape, provider, provider, ""))
			got, err := identify(t, jsonAnswer(200, fmt.Sprintf(`{%q:%q}`, member, compact)))
			if err != nil || got.ID != provider {
				t.Fatalf("%+v, %v", got, err)
			}
			chain := newSeal().chain
			if len(got.Certificates) != len(chain) || !got.Certificates[0].Equal(chain[0]) {
				t.Errorf("%d certificates", len(got.Certificates))
			}
		}
	}
}

func TestIdentifyRefuses(t *testing.T) {
	t.Parallel()
	compact := capabilitiesOf(t, fmt.Sprintf(shape3, provider, provider, ""))
	parts := strings.Split(compact, ".")
	other := strings.Split(capabilitiesOf(t, fmt.Sprintf(shape3, consumer, consumer, "")), ".")
	for name, test := range map[string]struct {
		status     int
		body, want string
	}{
		"another payload":  {200, parts[0] + "." + other[1] + "." + parts[2], "signature"},
		"no signature":     {200, parts[0] + "." + parts[1] + ".", "capabilities"},
		"a URL":            {200, capabilitiesOf(t, `{"iss":"https://provider.example"}`), "the issuer of the capabilities: "},
		"no issuer":        {200, capabilitiesOf(t, `{}`), "the issuer of the capabilities: "},
		"an issuer twice":  {200, capabilitiesOf(t, `{"iss":"a:b","iss":"a:c"}`), "each name once"},
		"no JWT":           {200, "no", "capabilitiesToken: "},
		"another status":   {404, compact, "the server answered 404"},
		"without a header": {200, "e30." + parts[1] + "." + parts[2], "the capabilities: "},
	} {
		got, err := identify(t, jsonAnswer(test.status, fmt.Sprintf(`{"capabilitiesToken":%q}`, test.body)))
		if got != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %+v, %v; want %q", name, got, err, test.want)
		}
	}
	if _, err := client.Identify(t.Context(), "http://provider.example", nil); err == nil || !strings.Contains(err.Error(), "is not https") {
		t.Errorf("plain http: %v", err)
	}
	if _, err := client.Identify(t.Context(), "https://127.0.0.1:1", nil); !errors.As(err, new(*outbound.UnreachableError)) {
		t.Errorf("nobody there: %v", err)
	}
}
