// Package console is the sandbox for people: pages on which one sees who is there and what the provider decides, changes
// what the registry and the CA say, puts assertions together, and has them explained.
//
// The pages are made here, and work without JavaScript but for what moves by itself. Nothing that is pasted is stored or
// logged.
//
// Whoever can connect may use it, so it belongs on loopback, behind what refuses other hosts and other origins: see
// [sandbox.Sandbox.Console]. The pages say by their headers that nothing of another site belongs to them, and that they
// belong in no frame.
package console

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/explain"
	"github.com/waybill-token/waybill/internal/permission"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/internal/workbench"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/sandbox"
)

// MaxBody is the size in bytes of the largest body that is read.
const MaxBody = 64 << 10

// maxStreams is how many pages can see decisions as they happen at the same time.
const maxStreams = 16

//go:embed templates assets
var files embed.FS

// Config says whose console it is. Sandbox must be set.
type Config struct {
	Sandbox *sandbox.Sandbox
	Command string // by which the program is started, in commands to copy: waybill unless set
}

// A console is the pages of a sandbox.
type console struct {
	Config

	bench    *workbench.Workbench
	registry ishare.PartyID
	pages    map[string]*template.Template // by name
	start    string                        // tells this start of the sandbox from others
	streams  chan struct{}                 // holds one for each page that sees decisions as they happen
}

// New makes the pages of a sandbox that is open. The error says that its seals cannot be read.
func New(c Config) (http.Handler, error) {
	p, err := newConsole(c)
	if err != nil {
		return nil, err
	}
	return secure(p.routes()), nil
}

func newConsole(c Config) (*console, error) {
	if c.Sandbox == nil {
		return nil, errors.New("console: Sandbox must be set")
	}
	c.Command = cmp.Or(c.Command, "waybill")
	bench, err := workbench.New(c.Sandbox)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	p := &console{
		Config: c, bench: bench, registry: c.Sandbox.State().Registry.ID,
		pages: map[string]*template.Template{}, start: rand.Text(), streams: make(chan struct{}, maxStreams),
	}
	for _, page := range []string{"space", "decision", "workbench", "explain", "problem"} {
		if p.pages[page], err = parse(page); err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
	}
	return p, nil
}

// parse reads the template of a page with those that pages share.
func parse(page string) (*template.Template, error) {
	functions := template.FuncMap{
		"clock": func(t time.Time) string { return t.Format("15:04:05.000") },
		"day":   func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
		"stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
		"lower": strings.ToLower,
	}
	return template.New(page).Funcs(functions).ParseFS(files, "templates/layout.html", "templates/"+page+".html")
}

func (c *console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", c.showSpace)
	mux.HandleFunc("GET /events", c.serveEvents)
	mux.HandleFunc("POST /set", c.set)
	mux.HandleFunc("POST /undo", c.undo)
	mux.HandleFunc("POST /try", c.try)
	mux.HandleFunc("GET /decisions/{number}", c.showDecision)
	mux.HandleFunc("GET /workbench", c.showWorkbench)
	mux.HandleFunc("POST /workbench", c.useWorkbench)
	mux.HandleFunc("GET /explain", c.showExplain)
	mux.HandleFunc("POST /explain", c.useExplain)
	mux.HandleFunc("GET /assets/{name}", c.serveAsset)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		c.problem(w, http.StatusNotFound, "There is nothing here.")
	})
	return mux
}

// serveAsset answers with the style or the script.
func (c *console) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	content, err := files.ReadFile("assets/" + name)
	if name == "explain.css" {
		content, err = []byte(explain.Style), nil
	}
	if err != nil {
		c.problem(w, http.StatusNotFound, "There is no such file.")
		return
	}
	kind := "text/css"
	if path.Ext(name) == ".js" {
		kind = "text/javascript"
	}
	w.Header().Set("Content-Type", kind+"; charset=utf-8")
	_, _ = w.Write(content) //nolint:gosec // it is embedded; whoever asked may be gone
}

// policy lets a page load what is here and nothing else, and run no script that stands in it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secure sets what every answer says, and bounds what is read. A page of another site may lead here; what it loads in any
// other way is refused, though it could read none of it, because it could take the place of those who may.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		respond.ForbidCaching(h)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		site, mode := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Sec-Fetch-Mode")
		if (site == "cross-site" || site == "same-site") && mode != "navigate" {
			http.Error(w, "this is for pages of its own", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		next.ServeHTTP(w, r)
	})
}

// A view is what every page shows besides its own.
type view struct {
	Title string
	Path  string // of the view that the page belongs to
	Page  any
}

// show answers with a page.
func (c *console) show(w http.ResponseWriter, status int, page string, v view) {
	var b bytes.Buffer
	if err := c.pages[page].ExecuteTemplate(&b, "layout", v); err != nil {
		http.Error(w, "the page cannot be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // whoever asked may be gone
}

// problem answers that something cannot be done, and why.
func (c *console) problem(w http.ResponseWriter, status int, why string) {
	c.show(w, status, "problem", view{Title: http.StatusText(status), Page: why})
}

// form reads the form of a request, or answers that it cannot be read.
func (c *console) form(w http.ResponseWriter, r *http.Request) bool {
	parse := r.ParseForm
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && mediaType == "multipart/form-data" {
		parse = func() error { return r.ParseMultipartForm(MaxBody) } //nolint:gosec // secure bounds it, so that no file is written to disk
	}
	err := parse()
	tooLarge, _ := errors.AsType[*http.MaxBytesError](err)
	switch {
	case err == nil:
		return true
	case tooLarge != nil:
		c.problem(w, http.StatusRequestEntityTooLarge, "That is more than 64 KiB, the most that a server reads of a token request.")
	default:
		c.problem(w, http.StatusBadRequest, "The form cannot be read.")
	}
	return false
}

// quote makes one word of a text for a POSIX shell, without quotes where none are needed.
func quote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./_-+,:@%="
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return permission.Quote(s)
}
