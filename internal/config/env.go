package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/spelling"
)

// Names of the environment variables that are not keys of the file.
const (
	envPrefix        = "WAYBILL_"
	envPassword      = "WAYBILL_PARTY_KEY_PASSWORD"
	envSecret        = "WAYBILL_LISTEN_INTERNAL_SECRET"
	envStatePassword = "WAYBILL_STATE_PASSWORD"
	fileSuffix       = "_FILE" // behind the name of each: the file that holds it
)

// envName is the variable of a key: party.id is WAYBILL_PARTY_ID. What is in a list has none: a list is
// set as a whole.
func envName(path string) string {
	if strings.Contains(path, "[") {
		return ""
	}
	return envPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// variableBelow names the first variable that sets a key of a section; empty when none does.
func (d *decoder) variableBelow(path string) string {
	for _, name := range slices.Sorted(maps.Keys(d.env)) {
		if strings.HasPrefix(name, envName(path)+"_") {
			return name
		}
	}
	return ""
}

// envNode makes a node of a variable's text: a list of plain values is separated by
// commas, a list or map of anything else is YAML, and the rest is the text itself.
func (d *decoder) envNode(path, text string, v reflect.Value) *yaml.Node {
	switch {
	case d.parser(v) != nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	case v.Kind() == reflect.Slice && d.parser(reflect.New(v.Type().Elem()).Elem()) != nil:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for item := range strings.SplitSeq(text, ",") {
			list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.TrimSpace(item)})
		}
		return list
	}
	var doc yaml.Node
	if err := yaml.Load([]byte(text), &doc); err != nil {
		d.report(path, nil, "want YAML on one line: "+syntax(err).Message, "")
		return nil
	}
	return doc.Content[0]
}

// secret takes a secret from a variable of the environment, or from the file that another variable
// names: never from the configuration file, which is passed around.
func (d *decoder) secret(name string) Secret {
	text, path := d.env[name], d.env[name+fileSuffix]
	if path == "" {
		return Secret{text: text}
	}
	path = string(Path(path).from(d.base))
	d.variable = name + fileSuffix
	defer func() { d.variable = "" }()
	if text != "" {
		d.report("", nil, name+" is set as well", "Unset one of them.")
	}
	text, problems := keyfile.ReadSecret(path)
	for _, p := range problems {
		d.report("", nil, p.Message, p.Hint)
	}
	return Secret{text, path}
}

// reportUnknownVariables finds variables that look like keys and are none. Not every unknown one does: in
// Kubernetes a service named waybill puts WAYBILL_PORT and a dozen others into every container.
func (d *decoder) reportUnknownVariables() {
	var known []string
	for _, name := range []string{envPassword, envSecret, envStatePassword} {
		known = append(known, name, name+fileSuffix)
	}
	sections := make(map[string]bool)
	for _, path := range keys("", reflect.TypeFor[Config]()) {
		known = append(known, envName(path))
		for i, r := range path {
			if r == '.' {
				sections[envName(path[:i])+"_"] = true
			}
		}
	}
	for name := range d.env {
		if slices.Contains(known, name) {
			continue
		}
		hint := suggest(name, known)
		if sections[name+"_"] {
			hint = "It is a section; set its keys one by one."
		}
		for section := range sections {
			if hint == "" && strings.HasPrefix(name, section) {
				hint = "Unset it, or correct its name."
			}
		}
		if hint != "" {
			d.variable = name
			d.report("", nil, "no key has this name", hint)
		}
	}
	d.variable = ""
}

// HasKey reports whether there is a key of this path, such as limits.in_work, that has a value of its own.
func HasKey(path string) bool { return slices.Contains(keys("", reflect.TypeFor[Config]()), path) }

// keys gives the path of every key that has a value of its own.
func keys(path string, t reflect.Type) (paths []string) {
	for f := range t.Fields() {
		name, inner := keyName(f), f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch isSection := inner.Kind() == reflect.Struct && new(decoder).parser(reflect.New(inner).Elem()) == nil; {
		case name == "":
		case isSection:
			paths = append(paths, keys(join(path, name), inner)...)
		default:
			paths = append(paths, join(path, name))
		}
	}
	return paths
}

// suggest asks whether a known name was meant.
func suggest(name string, candidates []string) string {
	if best := spelling.Nearest(name, candidates); best != "" {
		return "Did you mean " + best + "?"
	}
	return ""
}
