package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/ishare"
)

func (c *command) request() *cli.Command {
	return &cli.Command{
		Name:      "request",
		Usage:     "get an access token and call a secured endpoint with it",
		ArgsUsage: "METHOD URL",
		Description: "Prints the body of the answer; its status goes to standard error. Exits with 1 when the status is\n" +
			"400 or above.",
		Flags: append(tokenFlags(),
			&cli.StringFlag{Name: "data", Usage: "body to send: text, or @`FILE`, or @- for standard input"},
			&cli.StringFlag{Name: "content-type", Usage: "media `TYPE` of the body", Value: "application/json"},
			&cli.StringSliceFlag{Name: "header", Usage: "`HEADER` to send, such as 'Accept: text/csv'; may be given several times"}),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			r, err := c.newRequest(ctx, cmd)
			if err != nil {
				return err
			}
			tokens, err := c.client(ctx, cmd)
			if err != nil {
				return err
			}
			defer tokens.close()
			if _, err := tokens.get(ctx); err != nil { // which is sent along then
				return err
			}
			done := c.waiting("an answer of " + printable(r.URL.Host))
			answer, err := tokens.HTTPClient().Do(r)
			done()
			if err != nil {
				return err
			}
			defer func() { _ = answer.Body.Close() }()
			c.say("%s %s", answer.Proto, printable(answer.Status))
			if _, err := io.Copy(c.out, answer.Body); err != nil {
				return err
			}
			if answer.StatusCode >= http.StatusBadRequest {
				return refusal(answer)
			}
			return nil
		},
	}
}

func (c *command) newRequest(ctx context.Context, cmd *cli.Command) (*http.Request, error) {
	if cmd.Args().Len() != 2 {
		return nil, usagef("request takes a method and a URL")
	}
	body, err := c.requestBody(cmd.String("data"))
	if err != nil {
		return nil, err
	}
	// Of a bytes.Reader, net/http can make a second request after an answer 401.
	r, err := http.NewRequestWithContext(ctx, strings.ToUpper(cmd.Args().Get(0)), cmd.Args().Get(1), bytes.NewReader(body))
	if err != nil {
		return nil, usageError{err}
	}
	if r.URL.Scheme != "https" && r.URL.Scheme != "http" || r.URL.Hostname() == "" {
		return nil, usagef("want an absolute URL such as https://provider.example/orders")
	}
	if cmd.IsSet("data") {
		r.Header.Set("Content-Type", cmd.String("content-type"))
	}
	return r, setHeaders(r, cmd.StringSlice("header"))
}

// requestBody is text, or the content of the file that is named behind an @.
func (c *command) requestBody(data string) ([]byte, error) {
	name, ok := strings.CutPrefix(data, "@")
	switch {
	case !ok:
		return []byte(data), nil
	case name == "-":
		return io.ReadAll(c.in)
	}
	return os.ReadFile(name)
}

func setHeaders(r *http.Request, headers []string) error {
	given := make(http.Header)
	for _, header := range headers {
		name, value, ok := strings.Cut(header, ":")
		name = http.CanonicalHeaderKey(strings.TrimSpace(name))
		switch {
		case !ok || name == "":
			return usagef("--header %q: want a name, a colon and a value", header)
		case name == "Authorization":
			return usagef("--header: Authorization holds the token")
		case name == "Host":
			r.Host = strings.TrimSpace(value)
		default:
			given.Add(name, strings.TrimSpace(value))
		}
	}
	maps.Copy(r.Header, given) // in place of what the flags made
	return nil
}

// refusal is the error of an answer of 400 and above. Whoever minds the token says
// why in a header (RFC 6750 section 3); anybody else does in the body.
func refusal(answer *http.Response) error {
	challenge := answer.Header.Get("WWW-Authenticate")
	code, description := parameter(challenge, "error"), parameter(challenge, "error_description")
	switch scope := parameter(challenge, "scope"); {
	case code == "insufficient_scope" && scope != "":
		if !slices.Contains(strings.Fields(scope), ishare.ScopeISHARE) { // which every token request has
			scope = ishare.ScopeISHARE + " " + scope
		}
		return hintedError{fmt.Errorf("the endpoint refuses the token: %s: %s", code, description), "Ask for one with --scope " + quote(scope) + "."}
	case code != "":
		return fmt.Errorf("the endpoint refuses the token: %s: %s", code, description)
	case answer.StatusCode == http.StatusUnauthorized:
		return hintedError{
			fmt.Errorf("the endpoint refuses the token, and does not say why (WWW-Authenticate: %q)", printable(challenge)),
			"Check that the endpoint belongs to the server that gave the token.",
		}
	}
	return errNo
}

// parameter takes one out of a challenge (RFC 9110 section 11.6.1). It is empty when
// there is none.
func parameter(challenge, name string) string {
	pattern := regexp.MustCompile(`(?i)[ ,]` + name + `="((?:[^"\\]|\\.)*)"`)
	found := pattern.FindStringSubmatch(challenge)
	if found == nil {
		return ""
	}
	return printable(found[1])
}
