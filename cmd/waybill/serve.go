package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/listen"
	"github.com/waybill-token/waybill/internal/logbuffer"
)

// nameAFile is what to do about an environment that does not say everything.
const nameAFile = "Name a file with --config."

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Usage: "configuration `FILE`; without one, the environment must say everything"}
}

func (c *command) serve() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run the server that a configuration describes",
		Description: "Logs to standard error: text on a terminal, JSON elsewhere, unless log.format says otherwise. SIGHUP reloads the\n" +
			"configuration; a bad one leaves the old one in use and says why. Keys, certificates, anchors and secrets are read again\n" +
			"when their files change. SIGINT and SIGTERM stop the server after the requests under way; a second one stops it at once.\n" +
			"Sockets with the names public and internal are taken from a service manager (LISTEN_FDS).\n\n" +
			"After a first start or a crash no tokens are given for as long as policy.leeway (10 seconds), since nobody knows which\n" +
			"assertions were used before; until then /readyz is 503 and says from when. --first-start skips that for a party that has\n" +
			"never served, and is refused when the data folder or that of the token keys holds anything. A key set is made before\n" +
			"a first start, and so is no reason to refuse it.\n\n" +
			"--protect puts a program behind access tokens: requests with a good one are passed on to it, with header\n" +
			"fields that say who calls. Its address must be reachable through this server only.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "first-start", Usage: "this party has never served before, so no assertion to it can have been used: give tokens at once"},
			&cli.StringFlag{Name: "protect", Usage: "pass requests with an access token on to `URL`, short for a route with the path /"},
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if cmd.IsSet("protect") && cmd.String("protect") == "" { // as a variable that is not set makes it
				return usagef("--protect: want a URL such as http://127.0.0.1:3000")
			}
			reserve := reserveHeap(c.getenv)
			defer runtime.KeepAlive(reserve)
			// Caught from here on until the process is gone: a SIGHUP during the start or the stop must not end it.
			hangups := make(chan os.Signal, 1)
			signal.Notify(hangups, syscall.SIGHUP)
			lines := logbuffer.New(c.err)
			defer lines.Close()
			log := slog.New(lines)
			load := loader(cmd.String("config"), cmd.String("protect"))
			cfg, err := load()
			if err != nil {
				return err
			}
			if cmd.Bool("first-start") {
				if err := daemon.FirstStart(cfg); err != nil { // it says that it is a first start and is not
					return hintedError{fmt.Errorf("--first-start: %w", err), "Start without --first-start, and wait for /readyz."}
				}
			}
			sockets, err := listen.Inherited(daemon.SocketPublic, daemon.SocketInternal)
			if err != nil {
				return err
			}
			d, err := daemon.Open(ctx, cfg, daemon.Options{
				Log: log, SetLog: func(how config.Log) { lines.Set(how.Level.Level, how.Format.IsText(isTerminal(c.err))) },
				Sockets: sockets, NoHistory: cmd.Bool("first-start"), Version: buildVersion(), Dropped: lines.Dropped,
			})
			if err != nil {
				return err
			}
			log.InfoContext(ctx, "serving", slog.String("public", d.PublicAddr().String()), slog.String("internal", d.InternalAddr().String()),
				slog.String("party", string(cfg.Party.ID)), slog.Int("connections", d.Connections()))
			s, end := supervise(ctx, d, log)
			defer end()
			go reloads(ctx, hangups, s, load, log)
			go cutOnSecondSignal(ctx, d)
			err = d.Run(ctx)
			log.InfoContext(ctx, "stopped")
			return err
		},
	}
}

// loader reads the configuration, with a program to protect besides when there is one.
func loader(path, protect string) func() (*config.Config, error) {
	return func() (*config.Config, error) {
		cfg, err := config.Load(path, os.Environ())
		if err != nil && path == "" {
			return nil, hintedError{err, nameAFile}
		}
		if err != nil || protect == "" {
			return cfg, err
		}
		if err := cfg.Protect(protect); err != nil {
			return nil, usagef("--protect: %w", err)
		}
		return cfg, nil
	}
}

// cutOnSecondSignal ends a stop at the second signal. The first is waited for elsewhere.
func cutOnSecondSignal(ctx context.Context, d *daemon.Daemon) {
	<-ctx.Done()
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	<-again
	d.Cut()
}

// reloads exchanges the configuration, one after the other, until ctx is done: at each SIGHUP for the one that load gives, and
// when files have changed for the one in use, with what they hold now.
func reloads(ctx context.Context, hangups <-chan os.Signal, s supervised, load func() (*config.Config, error), log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			if err := s.Reopen(); err != nil {
				log.ErrorContext(ctx, "the audit trail is not written to another file; the one before stays in use", slog.Any("error", err))
			}
			if err := reload(ctx, s, load); err != nil {
				log.ErrorContext(ctx, "reload failed; the old configuration stays in use", slog.Any("error", err))
			} else {
				log.InfoContext(ctx, "reloaded")
			}
		case change := <-s.Changes():
			change.Done(reload(ctx, s, change.Load))
		}
	}
}

// reload exchanges the configuration. On an error, the old one stays in use.
func reload(ctx context.Context, s supervised, load func() (*config.Config, error)) error {
	s.manager.Reloading()
	err := s.ReloadFrom(ctx, load)
	s.reloaded(err)
	return err
}
