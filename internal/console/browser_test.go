package console_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/waybill-token/waybill/internal/testservice"
	"github.com/waybill-token/waybill/internal/workbench"
	"github.com/waybill-token/waybill/rule"
)

// A browser is a tab of Chromium on the console of a world.
type browser struct {
	*world

	ctx context.Context
	axe string

	mu    sync.Mutex
	wrong []string // what the browser has complained of
}

// browse starts Chromium. What it complains of fails the test in the end.
func (w *world) browse(t *testing.T) *browser {
	t.Helper()
	path := testservice.Program(t, "chromium")
	b := &browser{world: w, axe: axe(t)}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // which Chromium cannot make for root
	}
	allocated, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	var stop context.CancelFunc
	b.ctx, stop = chromedp.NewContext(allocated)
	t.Cleanup(stop)
	if err := chromedp.Listen(b.ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		call(b.ctx, log.Enable, cdp.Empty{}),
		call(b.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: `addEventListener("securitypolicyviolation", (e) => console.error("against the policy: " + e.violatedDirective + " " + e.blockedURI))`,
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, said := range b.wrong {
			t.Errorf("the browser says: %s", said)
		}
	})
	return b
}

// hear notes what the browser complains of.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.wrong = append(b.wrong, fmt.Sprint(e.Entry.Level, ": ", e.Entry.Text, " ", e.Entry.URL))
	case *runtime.EventExceptionThrown:
		b.wrong = append(b.wrong, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		for _, a := range e.Args {
			b.wrong = append(b.wrong, fmt.Sprint(e.Type, ": ", string(a.Value)))
		}
	}
}

func axe(t *testing.T) string {
	t.Helper()
	npm := testservice.Program(t, "npm")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "axe"))); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = dir
	if said, err := install.CombinedOutput(); err != nil {
		testservice.Need(t, fmt.Errorf("axe-core is not there: %w: %s", err, said))
	}
	script, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(script)
}

// open leads to a page.
func (b *browser) open(t *testing.T, path string) {
	t.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(b.State().Control+path)); err != nil {
		t.Fatal(err)
	}
}

// eval is the value of an expression in the page.
func eval[T any](t *testing.T, b *browser, expression string) T {
	t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits for a condition in the page, over whatever page comes, when it is there with its style and its script.
func (b *browser) until(t *testing.T, condition string) {
	t.Helper()
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	began := time.Now()
	for ; ; <-pace.C {
		met, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("document.readyState === 'complete' && Boolean("+condition+")"))
		if err == nil && met {
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("not %s (%v); the page says %q", condition, err, eval[string](t, b, "document.body.innerText"))
		}
	}
}

// press sends keys.
func (b *browser) press(t *testing.T, keys string) {
	t.Helper()
	if err := chromedp.Do(b.ctx, chromedp.KeyEvent(keys)); err != nil {
		t.Fatal(err)
	}
}

// tabTo moves on with the key Tab until an element is focused.
func (b *browser) tabTo(t *testing.T, condition string) {
	t.Helper()
	for range 300 {
		if eval[bool](t, b, "document.activeElement.matches("+quoted(condition)+")") {
			if !eval[bool](t, b, `getComputedStyle(document.activeElement).outlineStyle !== "none"`) {
				t.Errorf("%s does not show that it is focused", condition)
			}
			return
		}
		b.press(t, kb.Tab)
	}
	t.Fatalf("the key Tab never leads to %s", condition)
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// look judges a page by axe-core and by its width, in light and dark, on a desk and in a hand, and keeps pictures.
func (b *browser) look(t *testing.T, name string) {
	t.Helper()
	for _, width := range []int64{1280, 360} {
		if err := chromedp.Do(b.ctx, chromedp.EmulateViewport(width, 900)); err != nil {
			t.Fatal(err)
		}
		for _, scheme := range []string{"light", "dark"} {
			err := call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
			}})
			if err != nil {
				t.Fatal(err)
			}
			at := fmt.Sprintf("%s-%s-%d", name, scheme, width)
			if wide := eval[int64](t, b, "document.documentElement.scrollWidth"); wide > width {
				t.Errorf("%s: the page is %d wide: %s", at, wide, eval[string](t, b, tooWide))
			}
			eval[chromedp.Void](t, b, b.axe)
			for _, finding := range eval[[]string](t, b, findings) {
				t.Errorf("%s: %s", at, finding)
			}
			picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(t.ArtifactDir(), at+".png"), picture, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := chromedp.Do(b.ctx, chromedp.EmulateViewport(1280, 900)); err != nil {
		t.Fatal(err)
	}
}

// findings are those of axe-core that are serious or worse, and where.
const findings = `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations
  .filter((v) => v.impact === "serious" || v.impact === "critical")
  .map((v) => v.id + ": " + v.help + ": " + v.nodes.map((n) => n.target.join(" ") + " " + n.failureSummary).slice(0, 3).join("; ")))`

// tooWide names the elements that are wider than the page.
const tooWide = `[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth)
  .map((e) => e.tagName + "#" + e.id + "." + e.className).slice(0, 8).join(" ")`

// The keyboard alone does it all, on a page that nothing is wrong with.
func TestInChromium(t *testing.T) {
	w := start(t)
	b := w.browse(t)
	t.Run("data space", b.testSpace)
	t.Run("workbench", b.testWorkbench)
	t.Run("explain", b.testExplain)
}

func (b *browser) testSpace(t *testing.T) {
	b.open(t, "/")
	b.until(t, "!document.getElementById('pause').hidden")
	b.tabTo(t, "#try-consumer")
	b.press(t, kb.Enter)
	b.until(t, "document.querySelector('.decisions li.token')")
	b.until(t, "document.getElementById('said').textContent === 'Sandbox Consumer has asked for a token'")

	// A button says what it does next, keeps the focus, and undoes what it has done.
	standing := "#quick-consumer\\.standing"
	for _, want := range []struct{ value, label string }{{"suspended", "Reinstate"}, {"active", "Suspend"}, {"suspended", "Reinstate"}} {
		b.tabTo(t, standing)
		b.press(t, kb.Enter)
		b.until(t, fmt.Sprintf("document.querySelector(%q).textContent.startsWith(%q)", standing, want.label))
		if got := b.value(t, "consumer.standing"); got != want.value {
			t.Errorf("the consumer is %s, want %s", got, want.value)
		}
		if !eval[bool](t, b, fmt.Sprintf("document.activeElement === document.querySelector(%q)", standing)) {
			t.Error("the button has lost the focus")
		}
	}
	b.tabTo(t, "#quick-registry")
	b.press(t, kb.Enter)
	b.until(t, "document.querySelector('#state-service-registry .badge').textContent === 'off'")
	b.press(t, kb.Enter)
	b.until(t, "document.querySelector('#state-service-registry .badge').textContent === 'normal'")

	// What somebody turns elsewhere shows.
	if err := b.Set("former-consumer.certificate", "revoked"); err != nil {
		t.Fatal(err)
	}
	b.until(t, "document.getElementById('state-former-consumer').textContent.includes('certificate revoked')")

	// The provider notices in the end, and the decision opens its ladder.
	began := time.Now()
	for refused := false; !refused; refused = eval[bool](t, b, "document.querySelector('.decisions li.refused') !== null") {
		b.tabTo(t, "#try-consumer")
		asked := eval[int](t, b, "document.querySelectorAll('.decisions li').length")
		b.press(t, kb.Enter)
		b.until(t, fmt.Sprintf("document.querySelectorAll('.decisions li').length > %d", asked))
		if time.Since(began) > patience {
			t.Fatal("the provider does not notice")
		}
	}
	b.look(t, "space")
	b.tabTo(t, ".decisions li.refused a")
	b.press(t, kb.Enter)
	b.until(t, "document.querySelector('.ladder .first code')?.textContent === "+quoted(rule.PartyNotActive.ID))
	b.look(t, "decision")

	b.Reset()
	pace := time.NewTicker(100 * time.Millisecond)
	defer pace.Stop()
	for began := time.Now(); b.ask(t, "consumer").Rule != nil; <-pace.C { // which the next pages take for well-behaved
		if time.Since(began) > patience {
			t.Fatal("the provider does not notice that all is well again")
		}
	}
}

func (b *browser) testWorkbench(t *testing.T) {
	b.open(t, "/workbench")
	b.tabTo(t, "#preset")
	for range 100 {
		if eval[string](t, b, "document.activeElement.value") == "aud-array" {
			break
		}
		b.press(t, kb.ArrowDown)
	}
	b.tabTo(t, "#take")
	b.press(t, kb.Enter)
	b.until(t, "location.search.includes('preset=aud-array')")
	b.look(t, "workbench")
	b.tabTo(t, "#claim-value-3")
	if got := eval[string](t, b, "document.activeElement.value"); got != `["`+string(b.Provider.ID)+`"]` {
		t.Errorf("aud is %s", got)
	}
	b.tabTo(t, "#send")
	b.press(t, kb.Enter)
	b.until(t, "document.querySelector('.ladder .first code')?.textContent === "+quoted(rule.ClaimAud.ID))
	b.until(t, "document.activeElement.id === 'result'")
	b.look(t, "result")
	b.picture(t, "console")
	if err := call(b.ctx, page.BringToFront, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	b.tabTo(t, "[data-copy=command-curl]")
	b.press(t, kb.Enter)
	b.until(t, "document.getElementById('said').textContent !== ''")
}

func (b *browser) testExplain(t *testing.T) {
	bench, err := workbench.New(b.Sandbox)
	if err != nil {
		t.Fatal(err)
	}
	made, err := bench.Make(bench.Preset("lifetime-hour", "consumer"))
	if err != nil {
		t.Fatal(err)
	}
	b.open(t, "/explain")
	b.tabTo(t, "#text")
	if err := call(b.ctx, input.InsertText, input.InsertTextParams{Text: made.Assertion}); err != nil {
		t.Fatal(err)
	}
	b.tabTo(t, "#explain")
	b.press(t, kb.Enter)
	b.until(t, "document.querySelector('.ladder .first code')?.textContent === "+quoted(rule.ClaimLifetime.ID))
	b.look(t, "explain")
	eval[chromedp.Void](t, b, `{
		const dropped = new DataTransfer();
		dropped.items.add(new File(["a.dropped.file"], "assertion.jwt"));
		document.dispatchEvent(new DragEvent("drop", {dataTransfer: dropped, cancelable: true}));
	}`)
	b.until(t, "document.getElementById('text').value === 'a.dropped.file'")
	if strings.Contains(b.log.String(), made.Assertion) {
		t.Error("the log holds what was pasted")
	}
}

// call sends a command of the protocol whose answer does not matter.
func call[P, R any](ctx context.Context, command cdp.Command[P, R], params P) error {
	_, err := chromedp.Call(ctx, command, params)
	return err
}
