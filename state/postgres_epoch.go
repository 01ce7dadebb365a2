package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// migrations are the steps from an empty schema to the present one. A step that was released is not changed.
var migrations = []string{ //nolint:gochecknoglobals // nobody changes it
	`
	CREATE TABLE waybill.used (
		key bytea PRIMARY KEY,
		until timestamptz NOT NULL
	) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);

	CREATE TABLE waybill.revoked (
		number bigint PRIMARY KEY,
		line text NOT NULL UNIQUE,
		until timestamptz NOT NULL
	);

	CREATE TABLE waybill.epoch (
		one boolean PRIMARY KEY DEFAULT true CHECK (one),
		schema_version int NOT NULL DEFAULT 0,
		id uuid NOT NULL,
		since timestamptz NOT NULL,
		system bigint NOT NULL,
		timeline text NOT NULL,
		synchronous boolean NOT NULL,
		appended bigint NOT NULL DEFAULT 0,
		complete boolean NOT NULL DEFAULT false,
		swept timestamptz NOT NULL DEFAULT 'epoch'
	);

	INSERT INTO waybill.epoch (id, since, system, timeline, synchronous) VALUES (gen_random_uuid(), clock_timestamp(), 0, '', false)`,
}

// What the server that runs a statement is now. The name of the present WAL file begins with the timeline, which the
// control file may name too late.
const (
	systemNow      = `(SELECT system_identifier FROM pg_control_system())`
	timelineNow    = `substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`
	synchronousNow = `(btrim(current_setting('synchronous_standby_names')) <> '')`

	// sameServer is true where the epoch is that of the server, and commits wait for the same as when it was looked at.
	sameServer = `system = ` + systemNow + ` AND timeline = ` + timelineNow + ` AND synchronous = ` + synchronousNow

	// fit is true where a commit outlives a crash.
	fit = `(current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on' AND current_setting('synchronous_commit') IN ('on', 'remote_apply'))`
)

// errOldSchema says that there are no tables yet, or not all.
var errOldSchema = errors.New("the tables are not there")

// attest implements [pairStore].
func (p *postgres) attest(ctx context.Context, begin bool) ([]*epoch, time.Time, error) {
	now, err := p.inspect(ctx)
	for err == nil {
		var e *epoch
		switch e, err = p.look(ctx); {
		case err == nil:
			return []*epoch{e}, now, nil
		case errors.Is(err, errOldSchema) && begin:
			err = p.migrate(ctx)
		case errors.Is(err, errOtherEpoch) && begin:
			err = p.renew(ctx)
		case errors.Is(err, errOldSchema):
			return nil, now, postgresError(p.mayMigrate(ctx))
		case errors.Is(err, errOtherEpoch):
			return nil, now, nil
		}
	}
	return nil, time.Time{}, postgresError(err)
}

// inspect reads the server's clock, and refuses one that cannot be relied upon.
func (p *postgres) inspect(ctx context.Context) (now time.Time, err error) {
	var version int
	var isFit bool
	err = p.ask(ctx, `SELECT current_setting('server_version_num')::int, `+fit+`, clock_timestamp()`, nil, &version, &isFit, &now)
	switch {
	case err != nil:
		return now, err
	case version < 140000:
		return now, errors.New("want version 14 or newer")
	case !isFit:
		return now, errors.New("it may lose in a crash what it has acknowledged: want its settings fsync and full_page_writes on, and synchronous_commit on in every session")
	}
	return now, nil
}

// look reads the epoch. [errOtherEpoch] says that there is none, or that the server is not as it was then.
func (p *postgres) look(ctx context.Context) (*epoch, error) {
	e := &epoch{}
	var version int
	var same bool
	err := p.ask(ctx, `SELECT schema_version, `+sameServer+`, id::text, since FROM waybill.epoch`, nil, &version, &same, &e.id, &e.since)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, errOtherEpoch
	case isCode(err, "42P01"): // undefined_table
		return nil, errOldSchema
	case err != nil:
		return nil, err
	case version > len(migrations):
		return nil, fmt.Errorf("the tables in schema %s are of version %d, which a newer program has made; this one knows %d", p.schema, version, len(migrations))
	case version < len(migrations):
		return nil, errOldSchema
	case !same:
		return nil, errOtherEpoch
	}
	return e, nil
}

// migrate makes the tables, or brings them up to date. Of several servers that start together, one does. It is not cut off
// with the question that it is a part of: on a slow machine it would begin again each time, and never come to its end.
func (p *postgres) migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), migrateTimeout)
	defer cancel()
	err := p.transaction(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, p.schema); err != nil {
			return err
		}
		var schema, tables bool
		err := tx.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL, to_regclass($1 || '.epoch') IS NOT NULL`, p.schema).Scan(&schema, &tables)
		if err == nil && !schema {
			_, err = tx.Exec(ctx, `CREATE SCHEMA `+p.schema)
		}
		version := 0
		if err == nil && tables {
			err = tx.QueryRow(ctx, p.sql(`SELECT schema_version FROM waybill.epoch`)).Scan(&version)
		}
		for ; err == nil && version < len(migrations); version++ {
			if _, err = tx.Exec(ctx, p.sql(migrations[version])); err == nil {
				_, err = tx.Exec(ctx, p.sql(`UPDATE waybill.epoch SET schema_version = $1`), version+1)
			}
		}
		return err
	})
	if isCode(err, "42501") { // insufficient_privilege
		return p.noRight()
	}
	return err
}

// mayMigrate says whether migrate would have the right to.
func (p *postgres) mayMigrate(ctx context.Context) error {
	var may bool
	err := p.ask(ctx, `
		SELECT CASE WHEN to_regnamespace($1) IS NULL THEN has_database_privilege(current_database(), 'CREATE')
			ELSE has_schema_privilege($1, 'CREATE') END`, []any{p.schema}, &may)
	if err == nil && !may {
		return p.noRight()
	}
	return err
}

func (p *postgres) noRight() error {
	role := pgx.Identifier{p.pool.Config().ConnConfig.User}.Sanitize()
	return fmt.Errorf("the role may not make the tables; have an administrator run in this database: CREATE SCHEMA %s AUTHORIZATION %s;", p.schema, role)
}

// renew writes into the epoch what the server is now. The epoch goes on where nothing can have been lost: on its own
// timeline, and on one that begins where a standby takes over for which every commit has waited. A standby that knows
// by the epoch that commits wait has all that was written before they did.
func (p *postgres) renew(ctx context.Context) error {
	return p.ask(ctx, `
		INSERT INTO waybill.epoch AS old (schema_version, id, since, system, timeline, synchronous)
		VALUES ($1, gen_random_uuid(), clock_timestamp(), `+systemNow+`, `+timelineNow+`, `+synchronousNow+`)
		ON CONFLICT (one) DO UPDATE SET (id, since, complete, system, timeline, synchronous) = (
			SELECT CASE WHEN goes_on THEN old.id ELSE excluded.id END, CASE WHEN goes_on THEN old.since ELSE excluded.since END,
				old.complete AND goes_on, excluded.system, excluded.timeline, excluded.synchronous
			FROM (SELECT old.system = excluded.system AND (old.timeline = excluded.timeline OR old.synchronous) AS goes_on) AS whether)
		RETURNING true`, []any{len(migrations)}, new(bool))
}
