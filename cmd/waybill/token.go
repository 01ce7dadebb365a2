package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
)

// tokenFlags say where a token comes from.
func tokenFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "server", Usage: "base `URL` of the server; its token endpoint is at /connect/token below it", Required: true},
		&cli.StringFlag{Name: "scope", Usage: "`SCOPE` to ask for: values separated by spaces", Value: ishare.ScopeISHARE},
	}, sealFlags()...)
}

// client makes the token client that the flags describe.
func (c *command) client(cmd *cli.Command) (*client.Client, error) {
	s, err := c.signatory(cmd)
	if err != nil {
		return nil, err
	}
	scope, err := ishare.ParseScope(cmd.String("scope"))
	if err != nil {
		return nil, usagef("--scope: %w", err)
	}
	tokens, err := client.New(client.Config{
		Server: cmd.String("server"), Audience: s.audience, ClientID: s.maker.ClientID,
		Key: s.maker.Key, Certificates: s.maker.Certificates, Algorithm: s.maker.Algorithm, Scope: scope,
	})
	if err != nil {
		return nil, usageError{err}
	}
	return tokens, nil
}

func (c *command) token() *cli.Command {
	return &cli.Command{
		Name:  "token",
		Usage: "get an access token from a server and print it",
		Flags: append(tokenFlags(), &cli.StringFlag{
			Name: "output", Usage: "`FORMAT`: token or json", Value: "token",
			Validator: oneOf("token", "json"),
		}),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			tokens, err := c.client(cmd)
			if err != nil {
				return err
			}
			defer func() { _ = tokens.Close() }()
			token, err := tokens.Token(ctx)
			if err != nil {
				return err
			}
			if cmd.String("output") == "token" {
				_, err = fmt.Fprintln(c.out, token.AccessToken)
				return err
			}
			b, err := json.Marshal(struct {
				AccessToken string `json:"access_token"`
				TokenType   string `json:"token_type"`
				ExpiresIn   int64  `json:"expires_in"`
				Expires     string `json:"expires"`
			}{token.AccessToken, token.Type(), int64(time.Until(token.Expiry).Round(time.Second).Seconds()), token.Expiry.UTC().Format(time.RFC3339)})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "%s\n", b)
			return err
		},
	}
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

func (c *command) request() *cli.Command {
	return &cli.Command{
		Name:      "request",
		Usage:     "get an access token and call a secured endpoint with it",
		ArgsUsage: "METHOD URL",
		Description: "Prints the body of the answer; its status goes to standard error. Exits with 1 when the status is\n" +
			"400 or above.",
		Flags: append(tokenFlags(),
			&cli.StringFlag{Name: "data", Usage: "body to send: text, or @`FILE`"},
			&cli.StringFlag{Name: "content-type", Usage: "media `TYPE` of the body", Value: "application/json"}),
		Action: c.runRequest,
	}
}

func (c *command) runRequest(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Len() != 2 {
		return usagef("request takes a method and a URL")
	}
	body, err := requestBody(cmd.String("data"))
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, strings.ToUpper(cmd.Args().Get(0)), cmd.Args().Get(1), body)
	if err != nil {
		return usageError{err}
	}
	if cmd.IsSet("data") {
		r.Header.Set("Content-Type", cmd.String("content-type"))
	}
	tokens, err := c.client(cmd)
	if err != nil {
		return err
	}
	defer func() { _ = tokens.Close() }()
	answer, err := tokens.HTTPClient().Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	fmt.Fprintln(c.err, answer.Proto, answer.Status)
	if _, err := io.Copy(c.out, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode >= http.StatusBadRequest {
		return errNo
	}
	return nil
}

// requestBody is text, or the content of the file that is named behind an @.
func requestBody(data string) (io.Reader, error) {
	name, ok := strings.CutPrefix(data, "@")
	if !ok {
		return strings.NewReader(data), nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return strings.NewReader(string(b)), nil
}
