package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/permission"
)

// A reliance is a file by which a server decides, or proves who it is or what it did, or a folder of its own.
type reliance struct {
	key, path string
	secret    string // what it holds that nobody else should read; empty: nothing
	folder    bool   // and everything in it
}

// reliances are all that the configuration names, itself included.
func reliances(cfg *config.Config) []reliance {
	items := []reliance{
		{key: "party.key", path: string(cfg.Party.Key), secret: "private key"},
		{key: "party.key", path: cfg.Party.Password.File(), secret: "password"},
		{key: "party.certificates", path: string(cfg.Party.Certificates)},
		{key: "listen.internal", path: cfg.Listen.Secret.File(), secret: "secret"},
		{key: "participants.file", path: string(cfg.Participants.File)},
		{key: "data", path: string(cfg.Data)}, // before what is in it
		tokenKeys(folder(cfg).Keys()),
		{key: "data", path: string(cfg.Data), folder: true},
	}
	if at := cfg.At(""); at.Line > 0 { // otherwise there is no file
		items = append(items, reliance{path: at.File})
	}
	if tls := cfg.Listen.TLS; tls != nil {
		items = append(items, reliance{key: "listen.tls.key", path: string(tls.Key), secret: "private key"},
			reliance{key: "listen.tls.certificate", path: string(tls.Certificate)})
	}
	if a := cfg.Audit; a != nil && a.File != config.AuditStdout {
		items = append(items, reliance{key: "audit.file", path: string(a.File)})
	}
	for i, anchor := range cfg.Trust.Anchors {
		items = append(items, reliance{key: fmt.Sprintf("trust.anchors[%d]", i), path: string(anchor.File)})
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Listen.InternalCallers)) {
		items = append(items, reliance{key: callerKey(string(name)), path: string(cfg.Listen.InternalCallers[name]), secret: "secret"})
	}
	return slices.DeleteFunc(items, func(r reliance) bool { return r.path == "" || keyfile.IsURI(r.path) || keyfile.IsText(r.path) })
}

func tokenKeys(source string) reliance {
	if accesstoken.IsKeySet(source) {
		return reliance{key: "tokens.keys", path: source, secret: "keys of access tokens"}
	}
	return reliance{key: "tokens.keys", path: source, folder: true}
}

// mostExposed bounds the findings about a folder: its caches can hold many thousands of files.
const mostExposed = 16

// exposed finds what others may do with the files that a server relies on. What every account of the
// machine may change is a problem: anybody could then decide whom the server lets in.
// Each finding comes once, though many files stand in one folder.
func exposed(cfg *config.Config) (problems, warnings []config.Problem) {
	seen := make(map[permission.Finding]bool)
	for _, item := range reliances(cfg) {
		var found []permission.Finding
		if item.folder {
			found = permission.Within(item.path)
		} else {
			found = permission.Of(item.path, item.secret)
		}
		var severe, slight []config.Problem
		for _, f := range found {
			if seen[f] {
				continue
			}
			seen[f] = true
			p := cfg.Problem(item.key, f.Path+": "+f.Message, f.Hint)
			if f.Everybody {
				severe = append(severe, p)
			} else {
				slight = append(slight, p)
			}
		}
		problems = append(problems, summed(cfg, item, severe)...)
		warnings = append(warnings, summed(cfg, item, slight)...)
	}
	return problems, warnings
}

// summed keeps the first findings, and sums the others up in one.
func summed(cfg *config.Config, item reliance, found []config.Problem) []config.Problem {
	if len(found) <= mostExposed {
		return found
	}
	more := fmt.Sprintf("%s: and the like of %d more in this folder", item.path, len(found)-mostExposed)
	return append(found[:mostExposed], cfg.Problem(item.key, more, "Look at them: ls -lR "+permission.Quote(item.path)+"."))
}

// refuseExposed is an error when every account of the machine may change what the configuration
// relies on, and logs what some others may do, unless that was so at the last look.
func (d *Daemon) refuseExposed(ctx context.Context, cfg *config.Config) error {
	problems, warnings := exposed(cfg)
	for _, w := range warnings {
		if !slices.Contains(d.exposed, w) {
			d.options.Log.WarnContext(ctx, "others have access to what the server relies on",
				slog.String("key", w.Key), slog.String("reason", w.Message), slog.String("mend", w.Hint))
		}
	}
	d.exposed = warnings
	if len(problems) > 0 {
		return &config.Error{Problems: problems}
	}
	return nil
}

// exposure adds what keyfile has not found yet.
func (c *Preflight) exposure() {
	problems, warnings := exposed(c.Config)
	c.Problems = append(c.Problems, problems...)
	for _, w := range warnings {
		if !slices.Contains(c.Warnings, w) {
			c.Warnings = append(c.Warnings, w)
		}
	}
}
