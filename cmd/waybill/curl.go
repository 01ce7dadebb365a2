package main

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/internal/loopback"
)

// curlTarget is what a curl line calls; empty when none is asked for.
func curlTarget(cmd *cli.Command) (string, error) {
	switch {
	case cmd.String("output") != "curl" && cmd.String("url") != "":
		return "", usagef("--url goes with --output curl; waybill request makes a call")
	case cmd.String("output") != "curl":
		return "", nil
	}
	target := cmp.Or(cmd.String("url"), cmd.String("server"))
	u, err := url.Parse(target)
	switch {
	case target == "":
		return "", usagef("--url is not given, nor --server")
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
