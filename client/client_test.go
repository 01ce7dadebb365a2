package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
)

func TestConfigIsChecked(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	another, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*client.Config)
		want   string
	}{
		{"no server", func(c *client.Config) { c.Server = "" }, "neither Server nor TokenEndpoint"},
		{"no URL", func(c *client.Config) { c.Server = "provider.example" }, "not an absolute URL"},
		{"no host", func(c *client.Config) { c.Server = "https:///x" }, "not an absolute URL"},
		{"bad URL", func(c *client.Config) { c.Server = "https://geheim:%zz@provider.example" }, "not an absolute URL"},
		{"plain http", func(c *client.Config) { c.Server = "http://provider.example" }, "http://provider.example is not https"},
		{"plain http that looks local", func(c *client.Config) { c.Server = "http://127.0.0.1.example" }, "is not https"},
		{"another scheme", func(c *client.Config) { c.Server = "ftp://127.0.0.1" }, "is not https"},
		{"password", func(c *client.Config) { c.Server = "https://me:geheim@provider.example" }, "holds credentials"},
		{"query", func(c *client.Config) { c.TokenEndpoint = "https://provider.example/token?key=geheim" }, "a query"},
		{"fragment", func(c *client.Config) { c.TokenEndpoint = "https://provider.example/token#geheim" }, "a fragment"},
		{"the endpoint as Server", func(c *client.Config) { c.Server = "https://provider.example/connect/token/" }, "set TokenEndpoint"},
		{"endpoint over plain http", func(c *client.Config) { c.TokenEndpoint = "http://provider.example/token" }, "TokenEndpoint: http://"},
		{"no audience", func(c *client.Config) { c.Audience = "" }, "Audience"},
		{"URL as audience", func(c *client.Config) { c.Audience = "https://provider.example" }, "Audience"},
		{"no client", func(c *client.Config) { c.ClientID = "" }, "ClientID"},
		{"no key", func(c *client.Config) { c.Key = nil }, "Key is not set"},
		{"key of another kind", func(c *client.Config) { c.Key = ec }, "RSA"},
		{"somebody else's key", func(c *client.Config) { c.Key = another }, "does not belong"},
		{"no certificates", func(c *client.Config) { c.Certificates = nil }, "Certificates is empty"},
		{"too many certificates", func(c *client.Config) { c.Certificates = slices.Repeat(c.Certificates, 11) }, "more than 10"},
		{"algorithm", func(c *client.Config) { c.Algorithm = "PS256" }, "Algorithm"},
		{"scope", func(c *client.Config) { c.Scope = ishare.Scope{`a"b`} }, "Scope"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := config(nil)
			test.change(&c)
			_, err := client.New(c)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "client: ") {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "geheim") {
				t.Errorf("the error gives away a secret: %v", err)
			}
		})
	}
}

func TestEndpointAddress(t *testing.T) {
	tests := []struct{ server, endpoint, want string }{
		{"https://provider.example", "", "https://provider.example/connect/token"},
		{"https://provider.example/", "", "https://provider.example/connect/token"},
		{"https://provider.example/a/b/", "", "https://provider.example/a/b/connect/token"},
		{"HTTPS://provider.example:8443", "", "https://provider.example:8443/connect/token"},
		{"http://localhost:8080", "", "http://localhost:8080/connect/token"},
		{"http://127.0.0.2", "", "http://127.0.0.2/connect/token"},
		{"http://[::1]:8080", "", "http://[::1]:8080/connect/token"},
		{"", "https://auth.example/oauth/token", "https://auth.example/oauth/token"},
		{"https://provider.example", "https://auth.example/token", "https://auth.example/token"},
	}
	for _, test := range tests {
		var asked string
		look := roundTrip(func(r *http.Request) (*http.Response, error) {
			asked = r.URL.String()
			return (&inMemory{handler: newTokenServer(t)}).RoundTrip(r)
		})
		c := config(look)
		c.Server, c.TokenEndpoint = test.server, test.endpoint
		mustToken(t, newClient(t, c))
		if asked != test.want {
			t.Errorf("%q and %q: asked %s, want %s", test.server, test.endpoint, asked, test.want)
		}
	}
}

func TestAlgorithmAndScope(t *testing.T) {
	look := roundTrip(func(r *http.Request) (*http.Response, error) {
		if err := r.ParseForm(); err != nil {
			return nil, err
		}
		parts, err := jws.Split(r.PostForm.Get("client_assertion"))
		if err != nil {
			return nil, err
		}
		header, err := parts.Header()
		if err != nil {
			return nil, err
		}
		if alg, _ := header.Text("alg"); alg != "RS512" || r.PostForm.Get("scope") != "iSHARE orders" {
			t.Errorf("alg %s, scope %q", alg, r.PostForm.Get("scope"))
		}
		return (&inMemory{handler: token("t", 3600e9)}).RoundTrip(r)
	})
	c := config(look)
	c.Algorithm, c.Scope = jws.RS512, ishare.Scope{"iSHARE", "orders"}
	got, err := newClient(t, c).Token(t.Context())
	if err != nil || got.Extra("scope") != "iSHARE orders" {
		t.Errorf("%v, %v", got, err)
	}
}
