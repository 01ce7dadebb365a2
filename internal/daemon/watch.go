package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/internal/config"
)

const (
	// lookInterval is how often the files are looked at. Looking is used instead of notifications because it works
	// everywhere: on network file systems, and through the symbolic links by which Kubernetes exchanges all files of a
	// volume at once.
	lookInterval = 2 * time.Second

	// retryInterval is after how long changed files that could not be used are tried again although they are as they
	// were: the cause can lie elsewhere, such as in a registry that is out of reach.
	retryInterval = time.Minute
)

// A fileSet is what is known of files without reading them, by their paths. The value is nil for a file that is not
// there, and for what is no regular file: a pipe cannot be read twice.
type fileSet map[string]os.FileInfo

// watchedFiles are those that the configuration names and that are read once: at the start and at a reload. The file of
// party records and the keys of access tokens are looked at by those who use them.
func watchedFiles(cfg *config.Config) map[string]string {
	keys := make(map[string]string)
	for _, r := range reliances(cfg) {
		switch r.key {
		case "", "data", "tokens.keys", "participants.file", "audit.file":
		default:
			keys[r.path] = r.key
		}
	}
	return keys
}

// statFiles looks at the files where symbolic links lead to.
func statFiles[V any](paths map[string]V) fileSet {
	found := make(fileSet, len(paths))
	for path := range paths {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			info = nil
		}
		found[path] = info
	}
	return found
}

// changed are the paths at which there is something else than in another set of the same paths.
func (s fileSet) changed(other fileSet) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s)), func(path string) bool {
		a, b := s[path], other[path]
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		return os.SameFile(a, b) && a.Size() == b.Size() && a.Mode() == b.Mode() && a.ModTime().Equal(b.ModTime())
	})
}

// A fileWatch finds out when files have changed and come to rest.
type fileWatch struct {
	seen  fileSet   // at the last look
	tried fileSet   // as the last attempt found them that failed; nil: none did
	again time.Time // when to try the same once more

	problem atomic.Pointer[string] // why changed files are not in use; nil: those in use are as they are
}

// due looks at the files, and reports those that have changed since they came into use when it is time to read them: when
// they are as they were at the look before, and were not tried like this already.
func (w *fileWatch) due(inUse fileSet) []string {
	now, before := statFiles(inUse), w.seen
	w.seen = now
	changed := now.changed(inUse)
	if len(changed) == 0 {
		w.tried = nil
		w.problem.Store(nil)
		return nil
	}
	moving := before == nil || len(now.changed(before)) > 0
	tried := w.tried != nil && len(now.changed(w.tried)) == 0 && time.Now().Before(w.again)
	if moving || tried {
		return nil
	}
	return changed
}

// failed takes why the files cannot be used, and reports whether that is new.
func (w *fileWatch) failed(err error) bool {
	text, before := strings.ReplaceAll(err.Error(), "\n", "; "), w.problem.Load()
	w.tried, w.again = w.seen, time.Now().Add(retryInterval)
	w.problem.Store(&text)
	return before == nil || *before != text
}

// A Change says that files have changed which the configuration in use names. Whoever receives it loads the configuration
// and reports by Done what came of it.
type Change struct {
	daemon *Daemon
	done   chan error
}

// Load gives the configuration in use, with the secrets as their files hold them now. The configuration's own file is not read.
func (c *Change) Load() (*config.Config, error) { return c.daemon.current.Load().config.Reread() }

// Done reports that the configuration is in use, or why it is not. It must be called once.
func (c *Change) Done(err error) { c.done <- err }

// Changes tells of changed files, from when [Daemon.Run] runs. What came of it is logged, a failure once for each cause, and
// tried again when the files change again, and every minute.
func (d *Daemon) Changes() <-chan *Change { return d.changes }

// watchFiles looks at the files until ctx is done.
func (d *Daemon) watchFiles(ctx context.Context) {
	tick := time.NewTicker(cmp.Or(d.lookEvery, lookInterval))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.look(ctx)
		}
	}
}

// look has changed files be read, and waits for the outcome.
func (d *Daemon) look(ctx context.Context) {
	used := d.current.Load()
	changed := d.files.due(used.files)
	if changed == nil {
		return
	}
	keys := watchedFiles(used.config)
	for i, path := range changed {
		changed[i] = fmt.Sprintf("%s (%s)", keys[path], path)
	}
	change := &Change{daemon: d, done: make(chan error, 1)}
	select {
	case <-ctx.Done():
		return
	case d.changes <- change:
	}
	switch err := <-change.done; {
	case ctx.Err() != nil: // the server is stopping
	case err == nil:
		d.options.Log.InfoContext(ctx, "reloaded", slog.Any("changed", changed))
	case d.files.failed(err):
		d.options.Log.ErrorContext(ctx, "changed files cannot be used; those of before stay in use", slog.Any("changed", changed), slog.Any("error", err))
	}
}

// fileProblems are why changed files are not in use.
func (d *Daemon) fileProblems() []string {
	if problem := d.files.problem.Load(); problem != nil {
		return []string{"files: they have changed, and those of before stay in use: " + *problem}
	}
	return nil
}
