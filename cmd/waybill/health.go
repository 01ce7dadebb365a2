package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/provider"
)

func (c *command) health() *cli.Command {
	return &cli.Command{
		Name:  "health",
		Usage: "ask a server that runs whether it is ready",
		Description: "Asks /readyz of the internal listener. Prints ready, or the problems that it names on standard error. It is meant for\n" +
			"images in which there is nothing else to ask with.\n\n" +
			"The address is that of --url, or of the configuration with --config, or of WAYBILL_LISTEN_INTERNAL, or else\n" +
			"http://127.0.0.1:9090. A listener on all addresses is asked on this machine.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "url", Usage: "base `URL` of the internal listener"},
			&cli.StringFlag{Name: "config", Usage: "configuration `FILE` of the server, which says where its internal listener is"},
			&cli.BoolFlag{Name: "live", Usage: "ask /livez: only whether the process answers"},
			&cli.DurationFlag{Name: "timeout", Usage: "how long to wait for the answer", Value: defaultHealthTimeout},
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			base, err := internalURL(cmd)
			if err != nil {
				return err
			}
			path, fine := provider.ReadyPath, "ready"
			if cmd.Bool("live") {
				path, fine = provider.LivePath, "alive"
			}
			ctx, cancel := context.WithTimeout(ctx, cmd.Duration("timeout"))
			defer cancel()
			problems, err := askHealth(ctx, base+path)
			for _, p := range problems {
				c.say("problem: %s", printable(p))
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, fine)
			return err
		},
	}
}

// defaultHealthTimeout is less than what those who ask for the health of a container wait for.
const defaultHealthTimeout = 5 * time.Second

// internalURL says where the internal listener is, without a slash at its end.
func internalURL(cmd *cli.Command) (string, error) {
	if cmd.IsSet("url") {
		base := cmd.String("url")
		if u, err := url.Parse(base); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return "", usagef("--url: want a URL such as http://127.0.0.1:9090")
		}
		return strings.TrimSuffix(base, "/"), nil
	}
	address := config.Address(os.Getenv("WAYBILL_LISTEN_INTERNAL"))
	if cmd.IsSet("config") {
		cfg, _, err := config.Inspect(cmd.String("config"), os.Environ()) // what else is wrong with it is not asked for
		if err != nil {
			return "", err
		}
		address = cfg.Listen.Internal
	}
	if address == "" {
		return "http://127.0.0.1:9090", nil
	}
	return listenerURL(string(address))
}

// listenerURL is where to ask a listener of this machine.
func listenerURL(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", usagef("the internal listener: %w", err)
	}
	switch ip := net.ParseIP(host); { // not by the name localhost: an image from scratch has no file that says what that is
	case host == "" || ip != nil && ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// mostHealth bounds what is read of an answer, in bytes.
const mostHealth = 64 << 10

// errNotReady says that a server answers that it is not.
var errNotReady = errors.New("the server is not ready")

// askHealth asks a server how it is, and returns the problems that it names. The error is nil when its status is 200.
func askHealth(ctx context.Context, address string) (problems []string, err error) {
	transport := &http.Transport{DisableKeepAlives: true} // and without a proxy: the server is near
	defer transport.CloseIdleConnections()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	answer, err := transport.RoundTrip(ask)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, mostHealth))
	if err != nil {
		return nil, err
	}
	var said struct {
		Problems []string `json:"problems"`
	}
	switch unread := json.Unmarshal(body, &said); {
	case unread != nil || answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusServiceUnavailable:
		return nil, fmt.Errorf("the server at %s answers %s, and not as the internal listener does", address, printable(answer.Status))
	case answer.StatusCode != http.StatusOK:
		return said.Problems, errNotReady
	}
	return said.Problems, nil
}
