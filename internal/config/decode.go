package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/internal/spelling"
	"github.com/waybill-token/waybill/ishare"
)

// A decoder walks the type of the configuration. It takes the value of each key from the environment, or
// else the file, or else the default. It goes on after a problem, so that all are found.
type decoder struct {
	places   places
	base     string            // folder from which relative paths count
	file     string            // as it is called in positions
	env      map[string]string // variables that begin with envPrefix and are not empty
	variable string            // the one whose text is being decoded; empty: the file's
	problems []Problem
}

// A member is a key of a mapping with its value; both are nil when it is absent.
type member struct{ key, value *yaml.Node }

// isNothing reports whether a node is absent, or is null.
func isNothing(n *yaml.Node) bool { return n == nil || n.ShortTag() == "!!null" }

// section decodes a mapping into a struct. Each key may be there once.
func (d *decoder) section(path string, n *yaml.Node, v reflect.Value) {
	var names []string
	for f := range v.Type().Fields() {
		if name := keyName(f); name != "" {
			names = append(names, name)
		}
	}
	members := make(map[string]member)
	for key, value := range d.pairs(path, n) {
		switch known := slices.Contains(names, key.Value); {
		case known && members[key.Value].key != nil:
			d.report(join(path, key.Value), key, fmt.Sprintf("given twice, first on line %d", members[key.Value].key.Line), "Remove one.")
		case known:
			members[key.Value] = member{key, value}
		default:
			d.report(join(path, key.Value), key, "unknown key", suggest(key.Value, names))
		}
	}
	for f, v := range v.Fields() {
		if name := keyName(f); name != "" {
			d.field(join(path, name), members[name], f.Tag, v)
		}
	}
}

// keyName is the name of a struct field in the file; empty when it has none there.
func keyName(f reflect.StructField) string {
	if name := f.Tag.Get("yaml"); name != "-" {
		return name
	}
	return ""
}

func join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// pairs gives the keys and values of a mapping; none of an absent one.
func (d *decoder) pairs(path string, n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		if isNothing(n) || !d.expect(path, n, yaml.MappingNode, "keys with values") {
			return
		}
		for i := 0; i < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if d.expect(path, key, yaml.ScalarNode, "the name of a key") && !yield(key, value) {
				return
			}
		}
	}
}

// field decodes one key of a section.
func (d *decoder) field(path string, m member, tag reflect.StructTag, v reflect.Value) {
	if !isNothing(m.value) {
		d.places[path] = d.position(m.key)
	}
	switch {
	case d.parser(v) != nil || v.Kind() == reflect.Slice || v.Kind() == reflect.Map:
		d.withValue(path, m, tag, v)
	case v.Kind() == reflect.Struct:
		d.section(path, m.value, v)
	case v.Kind() == reflect.Pointer: // an optional section
		if set := d.variableBelow(path); set != "" && isNothing(m.value) {
			d.places[path] = Position{File: "$" + set}
		} else if isNothing(m.value) {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.section(path, m.value, v.Elem())
	}
}

// withValue decodes a key that has a value of its own, and no section.
func (d *decoder) withValue(path string, m member, tag reflect.StructTag, v reflect.Value) {
	if text, ok := tag.Lookup("default"); ok {
		d.text(path, m.key, text, v)
	}
	variable := envName(path)
	if text := d.env[variable]; text != "" {
		d.variable = variable
		defer func() { d.variable = "" }()
		d.places[path] = d.position(nil)
		m.value = d.envNode(path, text, v)
	}
	required := tag.Get("required") == "true"
	switch absent := isNothing(m.value); {
	case absent && required:
		hint := ""
		if variable != "" && d.env != nil {
			hint = "Add it, or set " + variable + "."
		}
		d.problems = append(d.problems, Problem{d.places.at(path), path, "is required", hint})
	case absent:
		if m.key != nil && v.Kind() == reflect.Map { // it stands there: its last entry may have been taken out
			v.Set(reflect.MakeMap(v.Type()))
		}
	case required && m.value.Kind == yaml.SequenceNode && len(m.value.Content) == 0:
		d.report(path, m.value, "want at least one", "")
	default:
		before := len(d.problems)
		d.value(path, m.value, v)
		if len(d.problems) == before {
			d.checkBounds(path, m.value, tag, v)
		}
	}
}

// value decodes a scalar, a list, a map of names, or a section in a list.
func (d *decoder) value(path string, n *yaml.Node, v reflect.Value) {
	switch {
	case d.parser(v) != nil:
		if d.expect(path, n, yaml.ScalarNode, "one value") {
			d.text(path, n, n.Value, v)
		}
	case v.Kind() == reflect.Slice:
		if !d.expect(path, n, yaml.SequenceNode, "a list") {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			path := fmt.Sprintf("%s[%d]", path, i)
			d.places[path] = d.position(item)
			d.value(path, item, v.Index(i))
		}
	case v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for key, value := range d.pairs(path, n) {
			path := join(path, key.Value)
			name, content := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			if _, twice := d.places[path]; twice {
				d.report(path, key, "given twice", "Remove one.")
			}
			d.places[path] = d.position(key)
			d.text(path, key, key.Value, name)
			d.value(path, value, content)
			v.SetMapIndex(name, content)
		}
	case v.Kind() == reflect.Struct:
		d.section(path, n, v)
	}
}

// kinds are what the nodes of YAML are called in problems.
var kinds = map[yaml.Kind]string{yaml.SequenceNode: "a list", yaml.MappingNode: "keys with values", yaml.AliasNode: "an alias"}

// expect reports whether a node is of a kind, and makes a problem of it if it is not. Aliases and tags
// are refused: they give a value another meaning than the text at its place has.
func (d *decoder) expect(path string, n *yaml.Node, kind yaml.Kind, want string) bool {
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		d.report(path, n, "want "+want+" without a tag", "")
	case isNothing(n):
		d.report(path, n, "want "+want+", got nothing", "")
	case n.Kind != kind:
		d.report(path, n, "want "+want+", got "+cmp.Or(kinds[n.Kind], "one value"), "")
	default:
		return true
	}
	return false
}

// text decodes a scalar.
func (d *decoder) text(path string, n *yaml.Node, text string, v reflect.Value) {
	if err := d.parser(v)(text); err != nil {
		d.report(path, n, err.Error(), "")
	}
}

// parser gives the function that reads a scalar into v; nil when v is no scalar.
func (d *decoder) parser(v reflect.Value) func(string) error {
	switch p := v.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		return func(text string) error { return p.UnmarshalText([]byte(text)) }
	case *string:
		return into(p, parseText)
	case *bool:
		return into(p, parseBool)
	case *int:
		return into(p, wanting("a whole number", strconv.Atoi))
	case *time.Duration:
		return into(p, wanting("a duration such as 30s, 5m or 1h30m", time.ParseDuration))
	case *TokenIssuer:
		return into(p, oneOf[TokenIssuer]("party", "url"))
	case *ExtraHeaders:
		return into(p, oneOf[ExtraHeaders]("refuse", "allow"))
	case *LogFormat:
		return into(p, oneOf[LogFormat]("auto", "text", "json"))
	case *ishare.PartyID:
		return into(p, ishare.ParsePartyID)
	case *ishare.Scope:
		return into(p, ishare.ParseScope)
	case *Path:
		return into(p, func(text string) (Path, error) {
			if _, err := parseText(text); err != nil {
				return "", err
			}
			if d.variable == "" && (strings.Contains(text, "PRIVATE KEY-----") || strings.HasPrefix(strings.TrimSpace(text), "{")) {
				return "", errKeyInFile
			}
			return Path(text).from(d.base), nil
		})
	case *State:
		return into(p, func(text string) (State, error) { return parseState(text, d.base) })
	case *Anchor:
		return into(p, func(text string) (Anchor, error) { return parseAnchor(text, d.base) })
	}
	return nil
}

var errKeyInFile = errors.New("a private key stands in the configuration, which more people read than may sign; " +
	"name its file, or give the text in the variable of this key")

// into makes a function that sets p, unless the text cannot be parsed.
func into[T any](p *T, parse func(string) (T, error)) func(string) error {
	return func(text string) error {
		value, err := parse(text)
		if err == nil {
			*p = value
		}
		return err
	}
}

func parseText(text string) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", errors.New("want text, got nothing")
	}
	return text, nil
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("want true or false, got %q", text)
}

// wanting makes the errors of a parser say what is wanted.
func wanting[T any](what string, parse func(string) (T, error)) func(string) (T, error) {
	return func(text string) (T, error) {
		value, err := parse(text)
		if err != nil {
			return value, fmt.Errorf("want %s, got %q", what, text)
		}
		return value, nil
	}
}

// oneOf parses the words of an enumeration, in the order of its constants.
func oneOf[E ~uint8](words ...string) func(string) (E, error) {
	return func(text string) (E, error) {
		i, err := spelling.Choose([]byte(text), words...)
		return E(i), err
	}
}

// checkBounds checks a duration or a number against its tags.
func (d *decoder) checkBounds(path string, n *yaml.Node, tag reflect.StructTag, v reflect.Value) {
	minimum, maximum := tag.Get("min"), tag.Get("max")
	switch value := v.Interface().(type) {
	case time.Duration:
		low, _ := time.ParseDuration(minimum)
		high, _ := time.ParseDuration(maximum)
		if value < low || value > high {
			d.report(path, n, fmt.Sprintf("want a duration from %s to %s, got %s", minimum, maximum, value), "")
		}
	case int:
		low, _ := strconv.Atoi(minimum)
		high, _ := strconv.Atoi(maximum)
		if value < low || value > high {
			d.report(path, n, fmt.Sprintf("want a number from %s to %s, got %d", minimum, maximum, value), "")
		}
	}
}

// position is where a node stands.
func (d *decoder) position(n *yaml.Node) Position {
	switch {
	case d.variable != "":
		return Position{File: "$" + d.variable}
	case n == nil:
		return Position{File: d.file}
	}
	return Position{File: d.file, Line: n.Line, Column: n.Column}
}

func (d *decoder) report(path string, n *yaml.Node, message, hint string) {
	d.problems = append(d.problems, Problem{d.position(n), path, message, hint})
}
