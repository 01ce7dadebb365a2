package console_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/html"

	"github.com/waybill-token/waybill/internal/console"
	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/sandbox"
)

// A world is a sandbox with its console, and a client of it that follows no redirect.
type world struct {
	*sandbox.Sandbox

	log    *logtest.Buffer
	client *http.Client
}

var (
	root    string // of the folders of sandboxes, whose keys take seconds to make
	stop    = func() error { return nil }
	oneEach sync.Mutex         // held by the test that has a sandbox of its own
	shared  = sync.OnceValues( // a sandbox whose switches no test turns
		func() (w *world, err error) {
			w, stop, err = open(filepath.Join(root, "shared"))
			return w, err
		},
	)
)

func TestMain(m *testing.M) {
	var err error
	if root, err = os.MkdirTemp("", "console-"); err != nil {
		panic(err)
	}
	m.Run()
	if err := errors.Join(stop(), os.RemoveAll(root)); err != nil {
		panic(err)
	}
}

func open(dir string) (_ *world, stop func() error, err error) {
	w := &world{log: &logtest.Buffer{}, client: &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	ctx, cancel := context.WithCancel(context.Background())
	w.Sandbox, err = sandbox.Open(ctx, sandbox.Config{
		Dir: dir, Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		cancel()
		return nil, func() error { return nil }, err
	}
	if w.Console, err = console.New(console.Config{Sandbox: w.Sandbox, Command: "./waybill"}); err != nil {
		cancel()
		return nil, func() error { return nil }, err
	}
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return w, func() error {
		cancel()
		w.client.CloseIdleConnections()
		return <-done
	}, nil
}

// share is a world that is not the test's own.
func share(t *testing.T) *world {
	t.Helper()
	w, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// start is a world of the test's own, for as long as it runs: others wait.
func start(t *testing.T) *world {
	t.Helper()
	oneEach.Lock()
	dir := filepath.Join(root, "own")
	if err := os.RemoveAll(filepath.Join(dir, "provider", "data", "kept")); err != nil { // of which a new provider knows nothing
		t.Fatal(err)
	}
	w, stop, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer oneEach.Unlock()
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// An answer is one that was read.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request to the console, with what a browser would say of it.
func (w *world) do(t *testing.T, method, path string, form url.Values, header map[string]string) answer {
	t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(t.Context(), method, w.State().Control+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range header {
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	response, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.Header.Get("Content-Type") == "text/event-stream" { // of which there is no end
		return answer{response.StatusCode, response.Header, ""}
	}
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(b)}
}

func (w *world) get(t *testing.T, path string) answer {
	t.Helper()
	return w.do(t, http.MethodGet, path, nil, nil)
}

func (w *world) post(t *testing.T, path string, form url.Values) answer {
	t.Helper()
	return w.do(t, http.MethodPost, path, form, nil)
}

// parse reads a page.
func parse(t *testing.T, page string) *html.Node {
	t.Helper()
	n, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// all are the elements of a page with this name, and with this class unless it is empty.
func all(n *html.Node, name, class string) (found []*html.Node) {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && d.Data == name && (class == "" || slices.Contains(strings.Fields(attribute(d, "class")), class)) {
			found = append(found, d)
		}
	}
	return found
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// textOf is the text in an element, with single blanks.
func textOf(n *html.Node) string {
	var b bytes.Buffer
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// formOf is what the form of the workbench would send.
func formOf(t *testing.T, page *html.Node) url.Values {
	t.Helper()
	values := url.Values{}
	for _, form := range all(page, "form", "") {
		if attribute(form, "id") != "build" {
			continue
		}
		for _, input := range all(form, "input", "") {
			if kind := attribute(input, "type"); (kind == "checkbox" || kind == "radio") && !slices.ContainsFunc(input.Attr, func(a html.Attribute) bool { return a.Key == "checked" }) {
				continue
			}
			values.Add(attribute(input, "name"), attribute(input, "value"))
		}
		for _, list := range all(form, "select", "") {
			for _, option := range all(list, "option", "") {
				if slices.ContainsFunc(option.Attr, func(a html.Attribute) bool { return a.Key == "selected" }) {
					values.Add(attribute(list, "name"), attribute(option, "value"))
				}
			}
		}
		return values
	}
	t.Fatal("there is no draft")
	return nil
}

// failing are the rules that the ladder of a page calls failing.
func failing(page *html.Node) (rules []string) {
	for _, step := range all(page, "li", "fail") {
		rules = append(rules, textOf(all(step, "code", "")[0]))
	}
	return rules
}
