package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/internal/regular"
)

// maxFileSize is the most that a configuration may hold, in bytes.
const maxFileSize = 1 << 20

// Load reads the configuration file at path; with an empty path there is none, and
// the environment must say everything. It is otherwise as [Parse].
func Load(path string, environ []string) (*Config, error) {
	c, problems, err := Inspect(path, environ)
	if err == nil && len(problems) > 0 {
		err = &Error{problems}
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Inspect reads the configuration as [Load] does, for whoever wants to look further
// when something is wrong: it returns what could be read beside the problems. With
// problems, the configuration must not be served.
func Inspect(path string, environ []string) (*Config, []Problem, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = read(path); err != nil {
			return nil, nil, fmt.Errorf("configuration: %w", err)
		}
	}
	c, problems := interpret(path, data, environ)
	return c, problems, nil
}

// read gives one byte more than is taken, at most.
func read(path string) ([]byte, error) {
	file, err := regular.OpenAny(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.LimitReader(file, maxFileSize+1))
}

// LoadInto reads a file that is no configuration of a server and is written by the same rules. Into points to a
// struct with the tags that are told above, of which each field is a value, a list, a map or a struct as in [Config].
// Nothing is taken from the environment, and relative paths are relative to the file.
//
// The error is an [*Error] with everything that is wrong, unless the file cannot be read.
func LoadInto(path string, into any) error {
	data, err := read(path)
	if err != nil {
		return err
	}
	return ParseInto(path, data, into)
}

// ParseInto is [LoadInto] for what the file holds.
func ParseInto(file string, data []byte, into any) error {
	d := &decoder{places: make(places), file: file, base: filepath.Dir(file)}
	root := d.document(data)
	d.places[""] = d.position(root)
	if len(d.problems) == 0 {
		d.section("", root, reflect.ValueOf(into).Elem())
	}
	if len(d.problems) > 0 {
		d.sort()
		return &Error{d.problems}
	}
	return nil
}

// sort puts the problems in the order of the file. Those of the environment have no line, and come first.
func (d *decoder) sort() {
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.File, b.File))
	})
}

// Parse reads a configuration of at most 1 MiB. File is its name in problems, and
// relative paths are relative to the folder of that name, those in the environment
// too. Environ is in the form of [os.Environ]: a variable such as WAYBILL_PARTY_ID
// wins over the file, unless it is empty. A list of plain values is separated by
// commas there, and other lists and maps are YAML.
//
// The error is an [*Error] with everything that is wrong.
func Parse(file string, data []byte, environ []string) (*Config, error) {
	c, problems := interpret(file, data, environ)
	if len(problems) > 0 {
		return nil, &Error{problems}
	}
	return c, nil
}

func interpret(file string, data []byte, environ []string) (*Config, []Problem) {
	c := &Config{places: make(places)}
	d := &decoder{places: c.places, file: file, base: filepath.Dir(file), env: make(map[string]string)}
	if file == "" {
		d.file, d.base = "environment", ""
	}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, envPrefix) {
			d.env[name] = value
		}
	}
	maps.DeleteFunc(d.env, func(_, value string) bool { return value == "" })
	root := d.document(data)
	c.places[""] = d.position(root)
	if len(d.problems) == 0 {
		d.section("", root, reflect.ValueOf(c).Elem())
		d.reportUnknownVariables()
		c.Party.Password, c.Listen.Secret = d.secret(envPassword), d.secret(envSecret)
		if password := d.secret(envStatePassword).Reveal(); password != "" && !c.State.Memory() {
			if err := c.State.setPassword(password); err != nil {
				d.problems = append(d.problems, c.Problem("state", "$"+envStatePassword+" is set, but "+err.Error(), "Unset it, or take the password out of the URL."))
			}
		}
		c.Tokens.Keys = cmp.Or(c.Tokens.Keys, Path(filepath.Join(string(c.Data), "keys")))
		d.problems = append(d.problems, c.check()...)
	}
	d.sort()
	return c, d.problems
}

// document gives the one YAML document in data; nil when there is none.
func (d *decoder) document(data []byte) *yaml.Node {
	if len(data) > maxFileSize {
		d.report("", nil, "the file is over 1 MiB, which no configuration is", "Check that this is the right file.")
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	var doc, more yaml.Node
	if err == nil {
		err = loader.Load(&doc)
	}
	if errors.Is(err, io.EOF) { // nothing but comments
		return nil
	}
	if err == nil {
		if err = loader.Load(&more); err == nil {
			d.report("", &more, "want one YAML document, got a second", "Remove it, or put it into a file of its own.")
			return nil
		}
	}
	if !errors.Is(err, io.EOF) {
		p := syntax(err)
		p.File, p.Hint = d.file, "Compare the indentation of this line and of those before it: keys of one section stand below each other."
		if line := lineOf(data, p.Line); strings.Contains(line[:len(line)-len(strings.TrimLeft(line, " \t"))], "\t") {
			p.Hint = "Indent this line with blanks: YAML takes no tabs there."
		}
		d.problems = append(d.problems, p)
		return nil
	}
	return doc.Content[0]
}

// lineOf is a line of a text, counted from 1; empty when it has none.
func lineOf(text []byte, number int) string {
	for line := range bytes.Lines(text) {
		number--
		if number == 0 {
			return string(line)
		}
	}
	return ""
}

// syntax turns an error of the YAML parser into a problem.
func syntax(err error) Problem {
	var at *yaml.LoadError
	if !errors.As(err, &at) {
		return Problem{Message: err.Error()}
	}
	message := strings.TrimSpace(at.Message)
	if at.ContextMsg != "" {
		message = at.ContextMsg + ": " + message
	}
	return Problem{Position: Position{Line: at.Mark.Line, Column: at.Mark.Column}, Message: message}
}
