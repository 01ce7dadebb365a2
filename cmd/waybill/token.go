package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/urfave/cli/v3"
	"golang.org/x/oauth2"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// tokenFlags say where a token comes from.
func tokenFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "server", Usage: "base `URL` of the server, which says where its token endpoint is; else it is at " + tokenendpoint.Path + " below it"},
		&cli.StringFlag{Name: "token-endpoint", Usage: "`URL` of the token endpoint; then the server is not asked where it is"},
		&cli.StringFlag{Name: "scope", Usage: "`SCOPE` to ask for: values separated by spaces", Value: ishare.ScopeISHARE},
	}, sealFlags()...)
}

// A tokenClient is a client that the flags describe. It has to be closed.
type tokenClient struct {
	*client.Client

	signatory *signatory
}

func (t *tokenClient) close() {
	_ = t.Close() // which never fails
	t.signatory.close()
}

// client reads the flags, and asks the server where its token endpoint is unless
// they say so.
func (c *command) client(ctx context.Context, cmd *cli.Command) (*tokenClient, error) {
	s, err := c.signatory(cmd)
	if err != nil {
		return nil, err
	}
	tokens, err := c.clientOf(ctx, cmd, s)
	if err != nil {
		s.close()
		return nil, err
	}
	return &tokenClient{tokens, s}, nil
}

func (c *command) clientOf(ctx context.Context, cmd *cli.Command, s *signatory) (*client.Client, error) {
	config := client.Config{
		Server: cmd.String("server"), TokenEndpoint: cmd.String("token-endpoint"), Audience: s.audience, ClientID: s.maker.ClientID,
		Key: s.maker.Key, Certificates: s.maker.Certificates, Algorithm: s.maker.Algorithm,
	}
	scope, err := ishare.ParseScope(cmd.String("scope"))
	if err != nil {
		return nil, usagef("--scope: %w", err)
	}
	config.Scope = scope
	switch {
	case config.Server == "" && config.TokenEndpoint == "":
		return nil, usagef("neither --server nor --token-endpoint is given")
	case config.TokenEndpoint == "" && strings.HasSuffix(strings.TrimRight(config.Server, "/"), tokenendpoint.Path):
		config.TokenEndpoint = config.Server // what it is called matters little
	}
	tokens, err := client.New(config)
	switch {
	case err != nil:
		return nil, usageError{err}
	case config.TokenEndpoint != "":
		return tokens, nil
	}
	config.TokenEndpoint = c.discover(ctx, config)
	return client.New(config)
}

// discover asks the server for its token endpoint; it is empty when the server does
// not say, or names one to which an assertion must not go. A person is told of the
// latter, and of an endpoint at another host: whoever answers there gets an assertion.
func (c *command) discover(ctx context.Context, config client.Config) string {
	endpoint, err := client.Discover(ctx, config)
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
			&cli.StringFlag{
				Name: "output", Usage: "`FORMAT`: token, json or curl", Value: "token",
				Validator: oneOf("token", "json", "curl"),
			},
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
	token, err := tokens.Token(ctx)
	if err != nil {
		return err
	}
	c.tellNotes(token)
	line := token.AccessToken
	switch cmd.String("output") {
	case "json":
		line, err = tokenJSON(token)
	case "curl":
		line = curlLine(token.AccessToken, target)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, line)
	return err
}

// tellNotes tells in what the answer was not that of RFC 6749.
func (c *command) tellNotes(token *oauth2.Token) {
	notes, _ := token.Extra("notes").([]string)
	for _, note := range notes {
		fmt.Fprintf(c.err, "note: %s\n", note)
	}
}

func tokenJSON(token *oauth2.Token) (string, error) {
	scope, _ := token.Extra("scope").(string)
	b, err := json.Marshal(struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int64  `json:"expires_in"`
		Scope       string `json:"scope"`
		Expires     string `json:"expires"`
	}{
		token.AccessToken, token.Type(), int64(time.Until(token.Expiry).Round(time.Second).Seconds()),
		scope, token.Expiry.UTC().Format(time.RFC3339),
	})
	return string(b), err
}

// oneOf is a validator of flags with few values.
func oneOf(values ...string) func(string) error {
	return func(s string) error {
		if slices.Contains(values, s) {
			return nil
		}
		return fmt.Errorf("%q is none of %s", s, strings.Join(values, ", "))
	}
}
