package daemon

import "net/http"

// Server is the server of each listener.
func (d *Daemon) Server(handler http.Handler) *http.Server { return d.server(handler) }

// OwnPaths are the paths at which a daemon answers itself.
func OwnPaths() []string { return ownPaths() }
