package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/urfave/cli/v3"
	"golang.org/x/oauth2"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/internal/loopback"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// client makes what the settings describe. It comes with the function that closes it.
func (c *command) client(ctx context.Context, cmd *cli.Command) (*tokenClient, error) {
	set, err := c.settings(cmd, tokenSettings())
	if err != nil {
		return nil, err
	}
	transport, err := c.transport(set.get("ca"), cmd.Bool("verbose"))
	if err != nil {
		return nil, err
	}
	config, s, err := c.clientConfig(ctx, set, transport)
	if err != nil {
		return nil, err
	}
	tokens, err := client.New(config)
	if err != nil {
		_ = s.seal.Close()
		return nil, err
	}
	return &tokenClient{Client: tokens, command: c, config: config, signatory: s, transport: transport}, nil
}

// A tokenClient gets tokens for a person, who is told what is waited for, and why there is none.
type tokenClient struct {
	*client.Client
	*signatory

	command   *command
	config    client.Config
	transport *transport
}

func (t *tokenClient) close() {
	t.Close()
	t.transport.base.CloseIdleConnections()
	_ = t.seal.Close()
}

// get is a token. In what it is odd, a person is told.
func (t *tokenClient) get(ctx context.Context) (*oauth2.Token, error) {
	done := t.command.waiting("a token of " + hostOf(cmp.Or(t.config.TokenEndpoint, t.config.Server)))
	token, err := t.Token(ctx)
	done()
	if err != nil {
		return nil, t.explained(ctx, err)
	}
	t.command.printNotes(token)
	return token, nil
}

// clientConfig is what the settings describe, with the token endpoint that the server names unless they say where it is.
// The seal of the signatory is to be closed.
func (c *command) clientConfig(ctx context.Context, set *settings, transport http.RoundTripper) (client.Config, *signatory, error) {
	if err := set.missingForToken(); err != nil {
		return client.Config{}, nil, err
	}
	s, err := c.sealOf(set)
	if err != nil {
		return client.Config{}, nil, err
	}
	config := client.Config{
		Server: set.get("server"), TokenEndpoint: set.get("token-endpoint"), Audience: s.audience, ClientID: s.maker.ClientID,
		Key: s.maker.Key, Certificates: s.maker.Certificates, Algorithm: s.maker.Algorithm, Transport: transport, OnPause: c.sayPause,
	}
	if config.TokenEndpoint == "" && strings.HasSuffix(strings.TrimRight(config.Server, "/"), tokenendpoint.Path) {
		config.TokenEndpoint = config.Server // what it is called matters little
	}
	config.Scope, err = ishare.ParseScope(set.get("scope"))
	if err != nil {
		err = set.wrong("scope", err)
	} else if _, err = client.New(config); err != nil { // before the server is asked
		err = usageError{err}
	}
	if err != nil {
		_ = s.seal.Close()
		return client.Config{}, nil, err
	}
	if config.TokenEndpoint == "" {
		config.TokenEndpoint = c.discover(ctx, config)
	}
	return config, s, nil
}

// discover asks the server for its token endpoint; it is empty when the server does
// not say, or names one to which an assertion must not go. A person is told of the
// latter, and of an endpoint at another host: whoever answers there gets an assertion.
func (c *command) discover(ctx context.Context, config client.Config) string {
	done := c.waiting(hostOf(config.Server) + " to say where its token endpoint is")
	endpoint, err := client.Discover(ctx, config)
	done()
	c.undiscovered = err
	switch {
	case errors.Is(err, client.ErrNoEndpoint):
		return ""
	case err != nil:
		fmt.Fprintf(c.err, "note: %v; %s below --server is asked instead, and --token-endpoint can name another\n", err, tokenendpoint.Path)
		return ""
	case hostOf(endpoint) != hostOf(config.Server):
		fmt.Fprintf(c.err, "note: the server says that its token endpoint is %s, at another host\n", endpoint)
	}
	return endpoint
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

func (c *command) token() *cli.Command {
	return &cli.Command{
		Name:  "token",
		Usage: "get an access token from a server and print it",
		Description: "The output curl is one line for a POSIX shell, which calls the URL with the token; options of curl can\n" +
			"be put behind it. printf, which is part of the shell, hands the token to curl: on curl's own command line,\n" +
			"every account of the machine could read it in the list of processes. The history of the shell keeps it, though.\n" +
			"The line fails when the status is 400 or above. It needs curl 7.76 or later.",
		Flags: append(tokenFlags(),
			oneOf(&cli.StringFlag{Name: "output", Usage: "`FORMAT`: token, json or curl", Value: "token"}, "token", "json", "curl"),
			&cli.StringFlag{Name: "url", Usage: "`URL` for curl to call (default: that of --server)"}),
		Action: c.runToken,
	}
}

func (c *command) runToken(ctx context.Context, cmd *cli.Command) error {
	target, err := curlTarget(cmd)
	if err != nil {
		return err
	}
	tokens, err := c.client(ctx, cmd)
	if err != nil {
		return err
	}
	defer tokens.close()
	if target == "" {
		target = tokens.config.Server
	}
	if target == "" && cmd.String("output") == "curl" {
		return usagef("--url is not given, nor a server")
	}
	token, err := tokens.get(ctx)
	if err != nil {
		return err
	}
	line := token.AccessToken
	switch cmd.String("output") {
	case "json":
		scope, _ := token.Extra("scope").(string)
		var b []byte
		b, err = json.Marshal(struct {
			AccessToken string `json:"access_token"`
			TokenType   string `json:"token_type"`
			ExpiresIn   int64  `json:"expires_in"`
			Scope       string `json:"scope"`
			Expires     string `json:"expires"`
		}{
			token.AccessToken, token.Type(), int64(time.Until(token.Expiry).Round(time.Second).Seconds()),
			scope, token.Expiry.UTC().Format(time.RFC3339),
		})
		line = string(b)
	case "curl":
		line = curlLine(token.AccessToken, target)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, line)
	return err
}

// printNotes says in what the answer was not that of RFC 6749.
func (c *command) printNotes(token *oauth2.Token) {
	notes, _ := token.Extra("notes").([]string)
	for _, note := range notes {
		fmt.Fprintf(c.err, "note: %s\n", note)
	}
}

// curlTarget is what a curl line calls; empty when none is asked for.
func curlTarget(cmd *cli.Command) (string, error) {
	switch {
	case cmd.String("output") != "curl" && cmd.String("url") != "":
		return "", usagef("--url goes with --output curl; waybill request makes a call")
	case cmd.String("output") != "curl":
		return "", nil
	}
	target := cmd.String("url")
	u, err := url.Parse(target)
	switch {
	case target == "": // that of the server
		return "", nil
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return "", usagef("--url is not a URL such as https://provider.example/orders")
	case u.User != nil:
		return "", usagef("--url holds credentials; the token is the only one that is sent")
	case u.Scheme == "http" && !loopback.Is(u.Hostname()):
		return "", usagef("--url is not https, and who listens in has the token; plain http is accepted to a loopback address only")
	}
	return target, nil
}

// curlLine is a command that calls the target with the token, which does not appear
// in the list of processes. It fails when the call does, and shows why.
func curlLine(token, target string) string {
	var globbing string
	if strings.ContainsAny(target, "[]{}") { // of which curl would make several URLs
		globbing = "--globoff "
	}
	return `printf 'Authorization: Bearer %s\n' ` + quote(token) + " | curl --silent --show-error --fail-with-body --header @- " + globbing + quote(target)
}
