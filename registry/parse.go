package registry

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/ishare"
)

// parse reads a list of party records in JSON or YAML. There is one strict parser of
// records, and it reads both.
func parse(data []byte) (*List, error) {
	text, _, err := asJSON(data)
	if err != nil {
		return nil, err
	}
	parties, err := ishare.ParseParties(text)
	if err != nil {
		return nil, err
	}
	return NewList(parties)
}

// asJSON gives text that begins with [ as it is, and rewrites anything else, which is YAML, as
// JSON. Then it also gives the line at which each record begins.
func asJSON(data []byte) (text []byte, lines []int, err error) {
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("[")) {
		return data, nil, nil
	}
	if text, lines, err = jsonOfYAML(data); err != nil {
		return nil, nil, fmt.Errorf("party records in YAML: %w", err)
	}
	return text, lines, nil
}

// jsonOfYAML rewrites a YAML document that holds a list. It accepts what JSON
// can say and no more: aliases (a few lines of which can stand for gigabytes),
// merge keys, explicit tags and keys that are not text are refused, and so is a
// key that a mapping holds twice. Timestamps stay the text that they are.
func jsonOfYAML(data []byte) (text []byte, lines []int, err error) {
	if !slices.ContainsFunc(bytes.Split(data, []byte("\n")), func(line []byte) bool {
		line = bytes.TrimSpace(line)
		return len(line) > 0 && line[0] != '#'
	}) {
		return nil, nil, errors.New("it is empty")
	}
	var doc yaml.Node
	if err := yaml.Load(data, &doc); err != nil {
		return nil, nil, err
	}
	list := doc.Content[0]
	if list.Kind != yaml.SequenceNode {
		return nil, nil, fmt.Errorf("line %d: want a list of party records, each beginning with a dash", list.Line)
	}
	var out bytes.Buffer
	if err := writeNode(jsontext.NewEncoder(&out), list); err != nil {
		return nil, nil, err
	}
	for _, record := range list.Content {
		lines = append(lines, record.Line)
	}
	return out.Bytes(), lines, nil
}

func writeNode(enc *jsontext.Encoder, n *yaml.Node) error {
	switch {
	case n.Kind == yaml.AliasNode:
		return refuse(n, "an alias is not accepted; write the value out")
	case n.Style&yaml.TaggedStyle != 0:
		return refuse(n, "an explicit tag is not accepted")
	case n.Kind == yaml.MappingNode:
		return writeMapping(enc, n)
	case n.Kind == yaml.SequenceNode:
		return writeSequence(enc, n)
	default:
		return write(enc, n, scalarToken(n))
	}
}

// writeMapping leaves it to the encoder to refuse a member that occurs twice.
func writeMapping(enc *jsontext.Encoder, n *yaml.Node) error {
	if err := write(enc, n, jsontext.BeginObject); err != nil {
		return err
	}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" || key.Style&yaml.TaggedStyle != 0 {
			return refuse(key, "a key must be plain text")
		}
		if err := write(enc, key, jsontext.String(key.Value)); err != nil {
			return err
		}
		if err := writeNode(enc, n.Content[i+1]); err != nil {
			return err
		}
	}
	return write(enc, n, jsontext.EndObject)
}

func writeSequence(enc *jsontext.Encoder, n *yaml.Node) error {
	if err := write(enc, n, jsontext.BeginArray); err != nil {
		return err
	}
	for _, item := range n.Content {
		if err := writeNode(enc, item); err != nil {
			return err
		}
	}
	return write(enc, n, jsontext.EndArray)
}

// scalarToken gives a scalar as JSON. Numbers become text: no field of a party
// record that means anything here is a number, and text keeps every digit.
func scalarToken(n *yaml.Node) jsontext.Token {
	switch n.ShortTag() {
	case "!!null":
		return jsontext.Null
	case "!!bool":
		return jsontext.Bool(strings.EqualFold(n.Value, "true"))
	default:
		return jsontext.String(n.Value)
	}
}

// write adds the line to the encoder's own errors.
func write(enc *jsontext.Encoder, n *yaml.Node, token jsontext.Token) error {
	if err := enc.WriteToken(token); err != nil {
		return fmt.Errorf("line %d, column %d: %w", n.Line, n.Column, err)
	}
	return nil
}

func refuse(n *yaml.Node, why string) error {
	return fmt.Errorf("line %d, column %d: %w", n.Line, n.Column, errors.New(why))
}
