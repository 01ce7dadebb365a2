package listen

import (
	"context"
	"log/slog"
	"time"
)

// calm is how long nothing must happen for a trouble to be over.
const calm = 10 * time.Second

// A trouble is told of when it begins and when it is over, however often it shows between.
type trouble struct {
	err  error
	last time.Time
}

func (t *trouble) over() bool { return t.err == nil || time.Since(t.last) > calm }

// begin notes a trouble.
func (l *Listener) begin(t *trouble, err error) {
	l.mu.Lock()
	first := t.over()
	t.err, t.last = err, time.Now()
	l.mu.Unlock()
	if first {
		l.config.Log.WarnContext(context.Background(), "connections are in trouble", slog.String("listener", l.config.Name), slog.Any("error", err))
	}
}

// end notes that there is none at present.
func (l *Listener) end(t *trouble) {
	l.mu.Lock()
	over := t.err != nil && t.over()
	if over {
		t.err = nil
	}
	l.mu.Unlock()
	if over {
		l.config.Log.InfoContext(context.Background(), "connections are taken as always again", slog.String("listener", l.config.Name))
	}
}

// Problems are what an operator should see to: connections that cannot be taken, or are at
// their limit. They end some seconds after the last of it.
func (l *Listener) Problems() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var problems []string
	for _, t := range []*trouble{&l.failing, &l.packed} {
		if !t.over() {
			problems = append(problems, l.config.Name+": "+t.err.Error())
		}
	}
	return problems
}
