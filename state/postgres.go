package state

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/waybill-token/waybill/internal/loopback"
)

const (
	// connectTimeout bounds the wait for each host of a URL, so that within a question's time another one is reached.
	connectTimeout = 700 * time.Millisecond

	// migrateTimeout bounds the making of the tables.
	migrateTimeout = 10 * time.Second

	// maxConnections is far more than are ever in use, which is one for each writer, one to ask how the store is and one
	// to forget. One that has failed counts for up to fifteen seconds, until the server has seen its end.
	maxConnections = 40
)

// postgres is a store in PostgreSQL. It is told from another one, and from its own copies, by its system identifier and
// its timeline, which every promotion and every restored backup raises. A server that crashes comes back with
// all that it has acknowledged.
type postgres struct {
	pool   *pgxpool.Pool
	schema string
	log    *slog.Logger
	end    context.CancelFunc // of sweeping

	appending chan struct{} // has room for the one that appends to the log

	mu      sync.Mutex
	waiting []*pairQuestion
	writers int
}

// checkPostgresURL says what is wrong with a URL. What pgx says of it may hold a part of the password.
func checkPostgresURL(text string) error {
	_, err := pgxpool.ParseConfig(text)
	var file *fs.PathError
	switch {
	case errors.As(err, &file):
		return fmt.Errorf("want a file that can be read: %w", file)
	case err != nil:
		return errors.New("want a URL as libpq reads it, such as postgres://user@host:5432/database?sslmode=verify-full; in a password, what has a meaning in a URL is written as percent and two hex digits")
	}
	return nil
}

// canReadPostgres is [URL.CanBeRead] for PostgreSQL. A host that is a path is a socket of this machine.
func canReadPostgres(text string) bool {
	config, err := pgxpool.ParseConfig(text)
	if err != nil {
		return false
	}
	c := config.ConnConfig
	plain := func(host string, tls *tls.Config) bool {
		proven := tls != nil && (!tls.InsecureSkipVerify || tls.VerifyPeerCertificate != nil)
		return !proven && !strings.HasPrefix(host, "/") && !loopback.Is(host)
	}
	return plain(c.Host, c.TLSConfig) || slices.ContainsFunc(c.Fallbacks, func(f *pgconn.FallbackConfig) bool { return plain(f.Host, f.TLSConfig) })
}

func openPostgres(ctx context.Context, c *Config) (backend, error) {
	config, err := pgxpool.ParseConfig(c.URL.text)
	if err != nil {
		return nil, errors.New("not a URL of PostgreSQL")
	}
	config.MaxConns = maxConnections
	config.PingTimeout = connectTimeout
	conn := config.ConnConfig
	conn.ConnectTimeout = connectTimeout
	conn.DialFunc = (&net.Dialer{Timeout: connectTimeout}).DialContext
	conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	if conn.RuntimeParams["application_name"] == "" {
		conn.RuntimeParams["application_name"] = "waybill"
	}
	conn.OnNotice = noteWarning
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, waitForDisk)
		return err
	}
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		end()
		return nil, err
	}
	p := &postgres{
		pool:      pool,
		schema:    strings.ReplaceAll(c.namespace(), ":", "_"),
		log:       c.Log,
		end:       end,
		appending: make(chan struct{}, 1),
	}
	go p.sweep(ctx)
	return p, nil
}

// close does not wait for connections that hang.
func (p *postgres) close() {
	p.end()
	go p.pool.Close()
}

// waitForDisk makes a commit wait until it is on the disk, and on those of synchronous standbys if there are any.
const waitForDisk = `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') <> 'remote_apply'`

// The schema stands as waybill in statements.
func (p *postgres) sql(text string) string { return strings.ReplaceAll(text, "waybill.", p.schema+".") }

// ask runs one statement, of whose first row the answers are the fields.
func (p *postgres) ask(ctx context.Context, statement string, arguments []any, answers ...any) error {
	return p.acknowledged(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, p.sql(statement), arguments...).Scan(answers...)
	})
}

func (p *postgres) transaction(ctx context.Context, f func(pgx.Tx) error) error {
	return p.acknowledged(ctx, func(c *pgx.Conn) error { return pgx.BeginFunc(ctx, c, f) })
}

// errWarned says that what was done may not be kept.
var errWarned = errors.New("it warns")

// warning is where a connection keeps that the server has warned.
const warning = "warning"

// acknowledged lends a connection, and fails when the server warns of anything: a commit for which the wait for a
// standby was cancelled (by an administrator's pg_cancel_backend, say) succeeds with a warning, and may be lost.
func (p *postgres) acknowledged(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	data := conn.Conn().PgConn().CustomData()
	delete(data, warning)
	if err := f(conn.Conn()); err != nil {
		if conn.Conn().IsClosed() { // and so, most likely, are the others that wait to be used again
			p.pool.Reset()
		}
		return err
	}
	if text, ok := data[warning]; ok {
		return fmt.Errorf("%w: %v", errWarned, text)
	}
	return nil
}

func noteWarning(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" {
		c.CustomData()[warning] = n.Message
	}
}

// postgresError is the error in words for those who run the server.
func postgresError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("PostgreSQL, or the synchronous standby that its commits wait for, does not answer in time: %w", oneLineError{err})
	}
	return fmt.Errorf("PostgreSQL: %w", oneLineError{err})
}

// oneLineError tells an error on one line, as logs and problems have it: pgx gives each host that was tried a line.
type oneLineError struct{ error }

func (e oneLineError) Error() string {
	lines := strings.Split(e.error.Error(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.ReplaceAll(strings.Join(lines, "; "), ":; ", ": ")
}

func (e oneLineError) Unwrap() error { return e.error }

// isCode tells by its SQLSTATE what error the server has answered with.
func isCode(err error, code string) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == code
}
