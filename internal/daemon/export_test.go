package daemon

import "net/http"

// Server is the server of each listener.
func (d *Daemon) Server(handler http.Handler) *http.Server { return d.server(handler) }

// OwnPaths are the paths at which a daemon answers itself.
func OwnPaths() []string { return ownPaths() }

// Soon waits for something, but not for ever.
func Soon(what func() error) error { return soon(what) }
