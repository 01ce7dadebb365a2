package config

import (
	"fmt"
	"strings"
)

// A Position is where something is configured: a place in the file, or an
// environment variable.
type Position struct {
	File         string // or $NAME of the variable
	Line, Column int    // from 1; 0 for a variable or when there is no file
}

// String is file:line:column, as editors and terminals understand it.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// A Problem is something that is wrong with the configuration.
type Problem struct {
	Position

	Key     string // such as trust.anchors[0]; empty when no key is meant
	Message string // what is wrong, or what is wanted
	Hint    string // what to do about it; empty when Message says it
}

// String is the problem on one line.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Position.String())
	for _, part := range []string{p.Key, p.Message} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	if p.Hint != "" {
		return strings.TrimSuffix(b.String(), ".") + ". " + p.Hint // what others say may end with one
	}
	return b.String()
}

// Error is everything that is wrong with a configuration, in the order of the file.
type Error struct{ Problems []Problem }

// Error tells all problems, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// At is where a key such as party.key or trust.anchors[0] is configured. For a key
// that is absent, it is where the section stands that it would be in.
func (c *Config) At(key string) Position { return c.places.at(key) }

// places are where the keys of a file stand.
type places map[string]Position

func (p places) at(key string) Position {
	for {
		if at, ok := p[key]; ok {
			return at
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
		if key == "" {
			return p[""]
		}
	}
}

// Problem makes a problem of a key, at its place.
func (c *Config) Problem(key, message, hint string) Problem {
	return Problem{c.At(key), key, message, hint}
}
