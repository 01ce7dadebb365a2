package daemon

import (
	"context"
	"io"
	"sync"
)

// parts are what services can share, each by a comparable key that tells all that it is made
// of. A part is closed when the last service that holds it is closed, so what has the same key in
// the next configuration keeps what it remembers.
type parts struct {
	keep bool // also over a restart, in the data folder: what a server does, and who only looks does not

	mu   sync.Mutex
	held map[any]*part
}

func newParts() *parts { return &parts{held: map[any]*part{}} }

// A part does what its value can: Run from when a service that holds it runs, and Close.
type part struct {
	key   any
	value any
	users int // guarded by parts.mu

	starting sync.Once
	stop     context.CancelFunc // nil: it does not run
	done     chan struct{}
}

// share gives sources the part with the key, and opens it if there is none. Two calls at
// once would open two.
func share[T any](s *sources, key any, open func() (T, error)) (T, error) {
	p := s.parts.take(key)
	if p == nil {
		value, err := open()
		if err != nil {
			return value, err
		}
		p = s.parts.add(key, value)
	}
	s.held = append(s.held, p)
	value, _ := p.value.(T) // a key is of a type of its own for each T
	return value, nil
}

func (ps *parts) take(key any) *part {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.held[key]
	if p != nil {
		p.users++
	}
	return p
}

func (ps *parts) add(key, value any) *part {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := &part{key: key, value: value, users: 1}
	ps.held[key] = p
	return p
}

// release gives a part up, and closes it when nobody else holds it.
func (ps *parts) release(p *part) error {
	ps.mu.Lock()
	p.users--
	last := p.users == 0
	if last {
		delete(ps.held, p.key)
	}
	ps.mu.Unlock()
	if !last {
		return nil
	}
	if p.stop != nil {
		p.stop()
		<-p.done
	}
	switch closer := p.value.(type) {
	case io.Closer:
		return closer.Close()
	case interface{ Close() }:
		closer.Close()
	}
	return nil
}

// start has the part run until it is closed, whichever service was the first to hold it.
func (p *part) start(ctx context.Context) {
	runner, ok := p.value.(interface {
		Run(ctx context.Context) error
	})
	if !ok {
		return
	}
	p.starting.Do(func() {
		running, stop := context.WithCancel(context.WithoutCancel(ctx))
		p.stop = stop
		p.done = make(chan struct{})
		go func() {
			defer close(p.done)
			_ = runner.Run(running) // nil: it was stopped
		}()
	})
}
