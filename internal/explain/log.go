package explain

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/rule"
)

// maxLine bounds a line of a log, in bytes.
const maxLine = 1 << 20

// ErrNotInLog says that a log has no event of a request. It has the first few refusals of each kind in ten seconds, and counts
// the others.
var ErrNotInLog = errors.New("the log has no event with this id")

// FromLog finds the event of a refused request in a log, JSON or text, by its correlation id, and shows what is known of it:
// the rules up to the one that refused it.
func FromLog(log io.Reader, id string) (*View, error) {
	lines := bufio.NewScanner(log)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		if !strings.Contains(lines.Text(), id) {
			continue
		}
		if event := eventOf(lines.Text(), id, 0); event != nil {
			return viewOfEvent(event)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	return nil, ErrNotInLog
}

// eventOf is the event of a request by its id in a line, or in a member of it: what collects logs wraps lines in JSON of its own.
func eventOf(line, id string, depth int) map[string]string {
	event := parseEvent(line)
	if event["correlation"] == id && event["rule"] != "" {
		return event
	}
	for _, value := range event {
		if depth < maxDepth && len(value) < len(line) && strings.Contains(value, id) {
			if inner := eventOf(value, id, depth+1); inner != nil {
				return inner
			}
		}
	}
	return nil
}

var attribute = regexp.MustCompile(`([^\s="]+)=("(?:[^"\\]|\\.)*"|\S*)`)

// parseEvent reads a line of JSON, whatever stands before it, or one of the form name=value.
func parseEvent(line string) map[string]string {
	event := map[string]string{}
	rest := line
	for range maxDepth { // braces may stand before it
		begin := strings.IndexByte(rest, '{')
		if begin < 0 {
			break
		}
		var members map[string]any
		if json.Unmarshal([]byte(rest[begin:]), &members) == nil {
			for name, value := range members {
				event[name] = fmt.Sprint(value)
			}
			return event
		}
		rest = rest[begin+1:]
	}
	for _, found := range attribute.FindAllStringSubmatch(line, -1) {
		value := found[2]
		if text, err := strconv.Unquote(value); err == nil {
			value = text
		}
		event[found[1]] = value
	}
	return event
}

// viewOfEvent is what an event tells. A request is judged by one rule after the other, and ends with the first that refuses it.
func viewOfEvent(event map[string]string) (*View, error) {
	id := event["rule"]
	reason, _ := rule.Described(id)
	if reason == nil {
		return nil, fmt.Errorf("the event names the rule %q, which is not known: another version may have written it", Printable(id))
	}
	at, _ := time.Parse(time.RFC3339Nano, event["time"]) // a line of a log may have lost it
	sentence := strings.TrimPrefix(event["cause"], id+": ")
	v := Unjudged()
	v.Decided(at, reason, sentence, event["hint"])
	for _, name := range []string{"client_id", "certificate", "jti_hash", "remote", "duration_ms", "duration"} { // the last of a log that an earlier version wrote, in nanoseconds
		if event[name] != "" {
			v.Claims = append(v.Claims, Field{Name: name, Value: cut(event[name])})
		}
	}
	return v, nil
}
