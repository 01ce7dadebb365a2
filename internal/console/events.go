package console

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Pace of the events. A page learns of a decision within a quarter of a second, and of many at once; whoever does not take
// what is sent for a while is cut off. That costs nothing but a new connection, which begins behind the last decision that
// was seen.
const (
	eventPace     = 250 * time.Millisecond
	eventPatience = 5 * time.Second
	eventIdle     = 15 * time.Second // after which something is sent to see whether anybody is there
)

// serveEvents tells decisions and the state as they change, as server-sent events: "space" holds the part of the page that
// shows who is there, and "decision" a line, with its number as the id. "restart" says that the sandbox counts anew, because
// it was started again: the page is of the past.
func (c *console) serveEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many pages look on", http.StatusServiceUnavailable)
		return
	}
	last, err := strconv.ParseUint(cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("after")), 10, 64)
	s := stream{console: c, w: w, control: http.NewResponseController(w)}
	if err == nil {
		s.next, s.restarted = last+1, last > 0 && len(c.Sandbox.Decisions(last)) == 0
	}
	if start := r.URL.Query().Get("start"); start != "" && start != c.start {
		s.restarted = true
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	s.run(r.Context())
}

// A stream is a page that looks on.
type stream struct {
	console *console
	w       http.ResponseWriter
	control *http.ResponseController
	next    uint64 // the number of the next decision
	space   []byte // as the page shows it

	restarted bool // the last decision that the page shows is not one of this start
}

// run sends until the page is gone, or takes nothing.
func (s *stream) run(ctx context.Context) {
	idle := time.NewTicker(eventIdle)
	defer idle.Stop()
	for {
		changed := s.console.Sandbox.Changed()
		if err := s.send(s.news()); err != nil {
			return // whoever looked on is gone, or too slow
		}
		select {
		case <-changed:
		case <-idle.C:
		case <-ctx.Done():
			return
		}
		pace := time.NewTimer(eventPace)
		select {
		case <-pace.C:
		case <-ctx.Done():
			pace.Stop()
			return
		}
	}
}

// news are the events since the last ones; a comment when there are none.
func (s *stream) news() []byte {
	var b bytes.Buffer
	if s.restarted {
		event(&b, "restart", "0", nil)
		return b.Bytes()
	}
	page := s.console.pages["space"]
	for _, d := range s.console.Sandbox.Decisions(s.next) {
		var line bytes.Buffer
		if err := page.ExecuteTemplate(&line, "decision-line", s.console.line(&d)); err != nil {
			continue // which a test holds for impossible
		}
		event(&b, "decision", strconv.FormatUint(d.Number, 10), line.Bytes())
		s.next = d.Number + 1
	}
	var space bytes.Buffer
	if err := page.ExecuteTemplate(&space, "who", s.console.spaceNow()); err == nil && !bytes.Equal(space.Bytes(), s.space) {
		s.space = space.Bytes()
		event(&b, "space", "", s.space)
	}
	if b.Len() == 0 {
		return []byte(": nothing new\n\n")
	}
	return b.Bytes()
}

// event writes one. Each line of its data is a field, and a carriage return would end a line too.
func event(b *bytes.Buffer, name, id string, data []byte) {
	data = bytes.ReplaceAll(data, []byte("\r"), []byte(" "))
	fmt.Fprintf(b, "event: %s\n", name)
	if id != "" {
		fmt.Fprintf(b, "id: %s\n", id)
	}
	if len(data) == 0 {
		data = []byte(" ")
	}
	for line := range bytes.Lines(data) {
		fmt.Fprintf(b, "data: %s\n", bytes.TrimSuffix(line, []byte("\n")))
	}
	b.WriteByte('\n')
}

// send writes within a time: somebody who does not read is not waited for.
func (s *stream) send(b []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(eventPatience)); err != nil {
		return err
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.control.Flush()
}
