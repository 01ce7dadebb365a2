package registry

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

const (
	// MaxFileSize is the most that a file of party records may hold, in bytes.
	// A record with a certificate is about 10 KiB.
	MaxFileSize = 64 << 20

	// pollInterval is how often [File.Run] looks at the file. Looking is used
	// instead of notifications because it works everywhere: on network file
	// systems, through the symbolic links of a mounted ConfigMap, and for a
	// file that is away for a moment.
	pollInterval = time.Second

	// settleLooks is at how many looks after a change the content is read again.
	// Two writes within one tick of the file system's clock leave the same time
	// and possibly the same size behind: only the content tells them apart.
	settleLooks = 3
)

// A File is a [Source] of the party records in a file: a list of iSHARE 3.0
// records in JSON or YAML, at most [MaxFileSize]. It answers from memory, and
// answering waits for nothing.
type File struct {
	path    string
	log     *slog.Logger
	current atomic.Pointer[snapshot]

	mu   sync.Mutex        // one reader of the file at a time
	seen [sha256.Size]byte // of the content that was last judged; zero when it could not be read
}

type snapshot struct {
	list   *List
	status Status
}

// Status tells how a [File] is doing.
type Status struct {
	Parties int       // records in use
	Loaded  time.Time // when they were read
	Err     error     // why the file as it is now is not in use; nil when it is
	Since   time.Time // when Err first occurred; zero when Err is nil
}

// OpenFile reads the records in the file at path. It is an error when the file
// cannot be read, when it is not a list of records, and when two records claim
// one identifier. The file is not looked at again before [File.Run] or
// [File.Reload]; what they do is told to log.
func OpenFile(path string, log *slog.Logger) (*File, error) {
	f := &File{path: path, log: log}
	data, err := readFile(path, MaxFileSize)
	if err != nil {
		return nil, err
	}
	list, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.seen = sha256.Sum256(data)
	f.take(list)
	return f, nil
}

// Party returns the record of the party that goes by id, or [ErrUnknown]. The
// record is shared and must not be changed.
func (f *File) Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	return f.current.Load().list.Party(ctx, id)
}

// Status tells which records are in use, and why the file is not if it is broken.
func (f *File) Status() Status { return f.current.Load().status }

// Run looks at the file once a second until ctx is done, and then returns nil. A
// file that has changed is read when it has stayed the same for a second, so
// that a slow writer is not overtaken. A file that is broken or gone leaves the
// old records in use, and the log and [File.Status] say so.
func (f *File) Run(ctx context.Context) error {
	var w watch
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if w.due(f.path) {
				_ = f.Reload() // which logs it and keeps it in the status
			}
		}
	}
}

// Reload reads the file at once. On an error, which is logged too, the old records
// stay in use. Content that was judged before is not judged again.
func (f *File) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, err := readFile(f.path, MaxFileSize)
	if err != nil {
		return f.keep(err, [sha256.Size]byte{})
	}
	seen := sha256.Sum256(data)
	if seen == f.seen {
		return f.Status().Err
	}
	list, err := parse(data)
	if err != nil {
		return f.keep(fmt.Errorf("%s: %w", f.path, err), seen)
	}
	f.seen = seen
	f.take(list)
	f.log.Info("party records read", "file", f.path, "parties", list.Len())
	return nil
}

func (f *File) take(list *List) {
	f.current.Store(&snapshot{list: list, status: Status{Parties: list.Len(), Loaded: time.Now()}})
}

// keep leaves the old records in use. Trouble that lasts is logged once.
func (f *File) keep(err error, seen [sha256.Size]byte) error {
	next := *f.current.Load()
	if next.status.Err == nil {
		next.status.Since = time.Now()
	}
	next.status.Err = err
	f.current.Store(&next)
	if seen != f.seen {
		f.log.Error("party records not read, the old ones stay in use",
			"file", f.path, "error", err, "parties", next.status.Parties, "loaded", next.status.Loaded)
	}
	f.seen = seen
	return err
}

// readFile reads a file of at most limit bytes. It counts what it reads, because
// not everything that can be opened tells its size.
func readFile(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("party records: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fmt.Errorf("party records: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: longer than %d bytes", path, limit)
	}
	return data, nil
}

// A watch decides when a file is worth reading.
type watch struct {
	last  os.FileInfo // nil when the file cannot be opened
	quiet int         // looks since last changed
}

// due looks at the file and reports whether to read it: at the first few looks at
// which it is as it was at the look before.
func (w *watch) due(path string) bool {
	info := stat(path)
	if !sameFile(info, w.last) {
		w.last, w.quiet = info, 0
		return false
	}
	w.quiet = min(w.quiet+1, settleLooks+1)
	return w.quiet <= settleLooks
}

// stat opens the file because that, unlike asking by name, makes NFS fetch the
// attributes from the server. It gives nil when the file cannot be opened.
func stat(path string) os.FileInfo {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close() //nolint:errcheck // it was only read
	info, err := file.Stat()
	if err != nil {
		return nil
	}
	return info
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
