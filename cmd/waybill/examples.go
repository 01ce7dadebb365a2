package main

import (
	"strings"

	"github.com/urfave/cli/v3"
)

// examples are command lines for the help of each command, by its path.
func examples() map[string][]string {
	return map[string][]string{
		"init": {
			"waybill init --key my.p12 --key-password-file password --registry https://registry.example",
			"waybill init --key key.pem --certificates chain.pem --registry https://registry.example --non-interactive",
		},
		"serve": {
			"waybill serve --config waybill.yaml",
			"waybill serve --config waybill.yaml --protect http://127.0.0.1:3000",
		},
		"check":        {"waybill check --config waybill.yaml"},
		"health":       {"waybill health", "waybill health --config waybill.yaml", "waybill health --url http://127.0.0.1:9090 --live"},
		"keys":         {"waybill keys list --config waybill.yaml"},
		"keys list":    {"waybill keys list --config waybill.yaml"},
		"keys add":     {"waybill keys add --keys waybill-keys.json", "waybill keys add --config waybill.yaml --use sig --after 2h"},
		"keys retire":  {"waybill keys retire --config waybill.yaml 3kT5gYQ1"},
		"audit":        {"waybill audit verify audit.jsonl"},
		"audit verify": {"waybill audit verify audit.jsonl", "waybill audit verify audit.jsonl.2 audit.jsonl.1 audit.jsonl"},
		"sandbox":      {"waybill sandbox", "waybill sandbox --dir other --listen 127.0.0.1:9080 --framework 2"},
		"sandbox show": {
			"waybill sandbox show",
		},
		"sandbox set":   {"waybill sandbox set consumer.standing suspended"},
		"sandbox reset": {"waybill sandbox reset"},
		"token": {
			"waybill token --profile provider",
			"waybill token --profile provider --scope 'iSHARE orders' --output json",
			"waybill token --server https://provider.example --audience did:ishare:EU.NL.NTRNL-10000000 --client-id did:ishare:EU.NL.NTRNL-10000001 --key my.p12 --key-password-file password",
		},
		"request": {
			"waybill request GET https://provider.example/orders",
			"waybill request POST https://provider.example/orders --profile provider --data @order.json --header 'Accept: text/csv'",
		},
		"profile": {"waybill profile list"},
		"profile add": {
			"waybill profile add default --server https://provider.example --audience did:ishare:EU.NL.NTRNL-10000000 --client-id did:ishare:EU.NL.NTRNL-10000001 --key my.p12 --key-password-file password",
			"waybill profile add ./waybill-client.yaml --server https://provider.example --audience did:ishare:EU.NL.NTRNL-10000000",
		},
		"profile list": {"waybill profile list"},
		"profile show": {"waybill profile show default"},
		"assertion":    {"waybill assertion --profile provider", "waybill assertion --profile provider --break claim.aud"},
		"explain": {
			"waybill explain assertion.jwt",
			"waybill explain --config waybill.yaml assertion.jwt",
			"waybill explain --token --config waybill.yaml token.txt",
		},
		"probe": {
			"waybill probe --list",
			"waybill probe --profile provider --report probe.html --report probe.xml",
		},
		"bench": {
			"waybill bench --spawn --floor",
			"waybill bench --server http://127.0.0.1:8080 --audience did:ishare:EU.NL.NTRNL-10000000 --client-id did:ishare:EU.NL.NTRNL-10000001 --key key.pem --certificates chain.pem",
		},
		"completion":      {"waybill completion bash > ~/.local/share/bash-completion/completions/waybill"},
		"completion bash": {"source <(waybill completion bash)"},
		"completion zsh":  {"waybill completion zsh > ~/.zfunc/_waybill"},
		"completion fish": {"waybill completion fish > ~/.config/fish/completions/waybill.fish"},
		"man":             {"waybill man > waybill.1", "waybill man | man -l -"},
		"version":         {"waybill version"},
		"help":            {"waybill help token"},
	}
}

// refusals say of each command, by its path, when it ends with status 1. Commands that only have others below them are not among
// them: by themselves they are a wrong command line.
func refusals() map[string]string {
	const noSandbox = "no sandbox runs in the folder"
	return map[string]string{
		"init":            "the seal or the registry cannot be read or believed, you have said no, a file is there already, or the check in the end finds a problem",
		"serve":           "the configuration has a problem, something that is needed at the start cannot be had, or the server did not stop in order",
		"check":           "there is a problem",
		"audit verify":    "something was changed, taken out or put in, or a file cannot be read",
		"health":          "the server is not ready, or nobody answers",
		"keys list":       "the keys cannot be read",
		"keys add":        "the keys cannot be read or written",
		"keys retire":     "there is no such key, there may be tokens of it, or the keys cannot be read or written",
		"sandbox":         "the folder cannot be used, or an address cannot be had",
		"sandbox show":    noSandbox,
		"sandbox set":     noSandbox,
		"sandbox reset":   noSandbox,
		"token":           "there is no token: the seal cannot be used, nobody answers, or the server refuses",
		"request":         "there is no token, nobody answers, or the status of the answer is 400 or above",
		"profile add":     "the seal cannot be used, or there is a profile of this name",
		"profile list":    "the profiles cannot be read",
		"profile show":    "there is no such profile, or it cannot be read",
		"assertion":       "the seal cannot be used",
		"explain":         "a rule fails, nothing can be decided, or the input holds nothing that can be explained",
		"probe":           "something that the specification demands does not hold, or the run was interrupted",
		"bench":           "a request was answered with another status than 200, or not at all",
		"completion bash": "it cannot be written",
		"completion zsh":  "it cannot be written",
		"completion fish": "it cannot be written",
		"man":             "it cannot be written",
		"version":         "it cannot be written",
		"help":            "it cannot be written",
	}
}

// addExamples puts the examples of a command and of those below it behind their descriptions.
func addExamples(cmd *cli.Command, path string, all map[string][]string) {
	if lines := all[path]; len(lines) > 0 {
		cmd.Description = strings.TrimLeft(cmd.Description+"\n\nExamples:\n\n   "+strings.Join(lines, "\n   "), "\n")
	}
	for _, sub := range cmd.Commands {
		addExamples(sub, strings.TrimSpace(path+" "+sub.Name), all)
	}
}
