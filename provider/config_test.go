package provider_test

import (
	"crypto"
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/provider"
)

// closing is a key that counts how often it was closed.
type closing struct {
	crypto.Signer

	closed int
}

func (c *closing) Close() error {
	c.closed++
	return nil
}

// What must be set and is not is told by name, all at once, and nothing is opened or left open.
func TestMissingFields(t *testing.T) {
	registry := func(c *provider.Config) {
		c.Parties, c.URL = nil, nil
		c.Registry = &provider.Registry{ID: isharetest.Registrar, URL: "https://registry.example"}
	}
	for name, test := range map[string]struct {
		edit func(*provider.Config)
		want []string
	}{
		"all":                     {func(c *provider.Config) { *c = provider.Config{} }, []string{"Anchors", "Data", "Parties", "Party"}},
		"party":                   {func(c *provider.Config) { c.Party = "" }, []string{"Party"}},
		"anchors":                 {func(c *provider.Config) { c.Anchors = nil }, []string{"Anchors"}},
		"data":                    {func(c *provider.Config) { c.Data = "" }, []string{"Data"}},
		"a source":                {func(c *provider.Config) { c.Parties = nil }, []string{"Parties"}},
		"one source of two":       {func(c *provider.Config) { c.PartiesFile = "parties.yaml" }, []string{"Parties"}},
		"certificates with a URL": {func(c *provider.Config) { c.Certificates = nil }, []string{"Certificates"}},
		"key with a registry":     {func(c *provider.Config) { registry(c); c.Key = nil }, []string{"Key"}},
		"of the registry":         {func(c *provider.Config) { registry(c); c.Registry = &provider.Registry{} }, []string{"Registry.ID", "Registry.URL"}},
		"URL for the issuer":      {func(c *provider.Config) { c.URL = nil; c.Tokens.IssuerIsURL = true }, []string{"URL"}},
	} {
		dir := t.TempDir()
		c := configuration(dir, true)
		key := &closing{Signer: c.Key}
		c.Key = key
		test.edit(&c)
		_, err := provider.New(c)
		problems, _ := errors.AsType[provider.FieldErrors](err)
		var got []string
		for _, p := range problems {
			got = append(got, p.Field)
		}
		slices.Sort(got)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
			t.Errorf("%s: %v was made", name, left)
		}
		if c.Key != nil && key.closed != 1 {
			t.Errorf("%s: the key was closed %d times", name, key.closed)
		}
	}
}

// A program that reads its configuration from a file has fields told by the names of that file.
func TestNamesOfFields(t *testing.T) {
	c := configuration(t.TempDir(), true)
	c.Party, c.URL = "", &url.URL{Scheme: "https", Host: "provider.example"}
	c.Name = func(field string) string { return "my " + field }
	_, err := provider.New(c)
	if problem, ok := errors.AsType[provider.FieldErrors](err); !ok || len(problem) != 1 || problem[0].Field != "my Party" {
		t.Errorf("%v", err)
	}
}
