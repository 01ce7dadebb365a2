package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/internal/regular"
	"github.com/waybill-token/waybill/ishare"
)

const (
	// MaxFileSize is the most that a file of party records may hold, in bytes.
	// A record with a certificate is about 10 KiB.
	MaxFileSize = 64 << 20

	// pollInterval is how often [File.Run] looks at the file. Polling is used instead of notifications because it works
	// everywhere: on network file systems, through the symbolic links of a mounted ConfigMap, and for a file that is
	// away for a moment.
	pollInterval = time.Second

	// readsAfterChange is how many polls after a change read the content again. Two writes within one tick of the file
	// system's clock leave the same time and possibly the same size behind: only the content tells them apart.
	readsAfterChange = 3
)

// A File is a [Source] of the party records in a file: a list of iSHARE 3.0 records in JSON or YAML, at most
// [MaxFileSize]. It answers from memory, and answering waits for nothing.
type File struct {
	path    string
	log     *slog.Logger
	current atomic.Pointer[snapshot]

	mu   sync.Mutex        // one reader of the file at a time
	seen [sha256.Size]byte // sum of the content that was last read; zero when it could not be
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

// OpenFile reads the records in the file at path. It is an error when the file cannot be read, when it is not a list of
// records, and when two records claim one identifier. The file is not looked at again before [File.Run] or
// [File.Reload]; what they do is told to log, which may be nil.
func OpenFile(path string, log *slog.Logger) (*File, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
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
	f.use(list)
	return f, nil
}

// Party returns the record of the party that goes by id, or [ErrUnknown]. The record is shared and must not be changed.
func (f *File) Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	return f.current.Load().list.Party(ctx, id)
}

// Status tells which records are in use, and why the file is not if it is broken.
func (f *File) Status() Status { return f.current.Load().status }

// Run looks at the file once a second until ctx is done, and then returns nil. A file that has changed is read when it
// has stayed the same for a second, so that a slow writer is not overtaken. A file that is broken or gone leaves the
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
// stay in use. Content that was read before is not judged again.
func (f *File) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, err := readFile(f.path, MaxFileSize)
	if err != nil {
		return f.fail(err, [sha256.Size]byte{})
	}
	seen := sha256.Sum256(data)
	if seen == f.seen {
		return f.Status().Err
	}
	list, err := parse(data)
	if err != nil {
		return f.fail(fmt.Errorf("%s: %w", f.path, err), seen)
	}
	f.seen = seen
	f.use(list)
	f.log.Info("party records read", "file", f.path, "parties", list.Len())
	return nil
}

func (f *File) use(list *List) {
	f.current.Store(&snapshot{list: list, status: Status{Parties: list.Len(), Loaded: time.Now()}})
}

// fail leaves the old records in use. What is wrong is logged once while it lasts.
func (f *File) fail(err error, seen [sha256.Size]byte) error {
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
	file, err := regular.Open(path)
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
	last      os.FileInfo // nil when the file cannot be opened
	unchanged int         // polls in a row
}

// due polls the file and reports whether to read it: at the first few polls at which it is as it was at the one before.
func (w *watch) due(path string) bool {
	var info os.FileInfo
	if file, err := regular.Open(path); err == nil { // unlike asking by name, this makes NFS ask the server
		info, _ = file.Stat()
		_ = file.Close() // it was not even read
	}
	same := info == nil && w.last == nil
	if info != nil && w.last != nil {
		same = os.SameFile(info, w.last) && info.Size() == w.last.Size() && info.ModTime().Equal(w.last.ModTime())
	}
	if !same {
		w.last, w.unchanged = info, 0
		return false
	}
	w.unchanged = min(w.unchanged+1, readsAfterChange+1)
	return w.unchanged <= readsAfterChange
}

// parse reads a list of party records in JSON or YAML. There is one strict parser of records, and it reads both.
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

// jsonOfYAML rewrites a YAML document that holds a list. It accepts what JSON can say and no more: aliases (a few lines
// of which can stand for gigabytes), merge keys, explicit tags and keys that are not text are refused, and so is a key
// that a mapping holds twice. Timestamps stay the text that they are.
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

// writeNode leaves it to the encoder to refuse a member that occurs twice.
func writeNode(enc *jsontext.Encoder, n *yaml.Node) error {
	begin, end := jsontext.BeginArray, jsontext.EndArray
	switch {
	case n.Kind == yaml.AliasNode:
		return refuse(n, "an alias is not accepted; write the value out")
	case n.Style&yaml.TaggedStyle != 0:
		return refuse(n, "an explicit tag is not accepted")
	case n.Kind == yaml.MappingNode:
		begin, end = jsontext.BeginObject, jsontext.EndObject
	case n.Kind != yaml.SequenceNode:
		token := jsontext.String(n.Value) // numbers too: none means anything here, and text keeps every digit
		switch n.ShortTag() {
		case "!!null":
			token = jsontext.Null
		case "!!bool":
			token = jsontext.Bool(strings.EqualFold(n.Value, "true"))
		}
		return write(enc, n, token)
	}
	if err := write(enc, n, begin); err != nil {
		return err
	}
	for i, item := range n.Content {
		isKey := n.Kind == yaml.MappingNode && i%2 == 0
		if isKey && (item.Kind != yaml.ScalarNode || item.ShortTag() != "!!str" || item.Style&yaml.TaggedStyle != 0) {
			return refuse(item, "a key must be plain text")
		}
		if err := writeNode(enc, item); err != nil {
			return err
		}
	}
	return write(enc, n, end)
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
