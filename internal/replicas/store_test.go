//go:build linux

package replicas

import (
	"testing"

	"github.com/waybill-token/waybill/internal/pgtest"
	"github.com/waybill-token/waybill/internal/redistest"
)

// A store is a real one, behind a link.
type store struct {
	*link

	server  server
	state   string        // the URL through the link
	address func() string // of the server
	restart func()        // after a kill, with the data that it has
	another func()        // after a kill: starts an empty one
}

// A server is a process, or several.
type server interface {
	Pause()
	Resume()
	Kill()
}

// stores are all kinds of them.
var stores = map[string]func(t *testing.T) *store{"redis": redis, "postgres": postgres}

// redis writes its data to the disk once a second.
func redis(t *testing.T) *store {
	t.Helper()
	begin := func() *redistest.Server { return redistest.Start(t, "--appendonly", "yes") }
	r := begin()
	s := &store{link: newLink(t, "tcp", r.Addr()), server: r}
	s.state = "redis://" + s.addr
	s.address = func() string { return r.Addr() }
	s.restart = func() { r.Restart() }
	s.another = func() {
		r = begin()
		s.server = r
	}
	return s
}

func postgres(t *testing.T) *store {
	t.Helper()
	p := pgtest.Start(t)
	s := &store{link: newLink(t, "unix", p.Socket()), server: p}
	s.state = "postgres://postgres@" + s.addr + "/postgres?sslmode=disable"
	s.address = func() string { return p.Socket() }
	s.restart = func() { p.Restart() }
	s.another = func() {
		p = pgtest.Start(t)
		s.server = p
	}
	return s
}
