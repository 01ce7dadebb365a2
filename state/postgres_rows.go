package state

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/replay"
)

const (
	// maxWriters is how many statements remember pairs at a time, each of them all that have come while the others ran.
	// That costs a quarter of what a statement for each pair does, on both sides, and a few go on while others wait for a
	// disk or a standby.
	maxWriters = 4

	// maxBatch bounds one statement.
	maxBatch = 4096

	// sweepInterval is how often one of the servers forgets what is over.
	sweepInterval = 5 * time.Second
	sweepTimeout  = time.Minute
)

// A pairQuestion waits for its answer.
type pairQuestion struct {
	ctx    context.Context // of the one who waits; nothing is done for those who have left
	epoch  string
	key    replay.Key
	now    time.Time
	until  time.Time
	answer chan<- pairAnswer // has room for it
}

type pairAnswer struct {
	first bool
	err   error
}

// use implements [pairStore]. Keys are inserted by those of the writers that run, or by one more.
func (p *postgres) use(ctx context.Context, e *epoch, k replay.Key, now, until time.Time) (bool, error) {
	answer := make(chan pairAnswer, 1)
	p.mu.Lock()
	p.waiting = append(p.waiting, &pairQuestion{ctx, e.id, k, now, until, answer})
	if p.writers < maxWriters {
		p.writers++
		go p.write(context.WithoutCancel(ctx))
	}
	p.mu.Unlock()
	select {
	case a := <-answer:
		return a.first, a.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// write answers questions until there are none.
func (p *postgres) write(ctx context.Context) {
	for {
		p.mu.Lock()
		batch := p.waiting[:min(len(p.waiting), maxBatch)]
		if p.waiting = p.waiting[len(batch):]; len(batch) == 0 {
			p.waiting = nil
			p.writers--
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		p.answer(ctx, batch)
	}
}

// answer inserts the keys that are not there. Of several questions about one key the first gets the yes.
func (p *postgres) answer(ctx context.Context, batch []*pairQuestion) {
	batch = slices.DeleteFunc(batch, func(q *pairQuestion) bool { return q.ctx.Err() != nil })
	if len(batch) == 0 {
		return
	}
	present := batch[len(batch)-1].epoch
	var keys [][]byte
	var untils []time.Time
	asked := map[replay.Key]int{}
	for _, q := range batch {
		if q.epoch != present {
			continue
		}
		i, again := asked[q.key]
		if !again {
			asked[q.key] = len(keys)
			keys, untils = append(keys, q.key[:]), append(untils, q.until)
		} else if q.until.After(untils[i]) { // it may be the one that gets the yes
			untils[i] = q.until
		}
	}
	added, at, swept, err := p.insert(ctx, present, keys, untils)
	for _, q := range batch {
		var a pairAnswer
		switch {
		case q.epoch != present:
			a.err = errOtherEpoch
		case err != nil:
			a.err = err
		case at.Sub(q.now).Abs() > ClockTolerance:
			a.err = errOtherTime
		case !q.until.After(swept):
			a.err = replay.Undecided("the clock was ahead, and what ends by then was forgotten", q.now, swept)
		default:
			_, a.first = added[q.key]
			delete(added, q.key)
		}
		q.answer <- a
	}
}

// insert returns the keys that were added, the time by the server's clock, and up to when pairs were forgotten. The order of
// keys is the same in all statements, so that no two wait for each other.
func (p *postgres) insert(ctx context.Context, id string, keys [][]byte, untils []time.Time) (added map[replay.Key]struct{}, at, swept time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var texts [][]byte
	err = p.ask(ctx, `
		WITH present AS MATERIALIZED (
			SELECT clock_timestamp() AS at, swept FROM waybill.epoch WHERE id::text = $1 AND `+sameServer+` AND `+fit+`
		), added AS (
			INSERT INTO waybill.used (key, until)
			SELECT pair.key, pair.until FROM present, unnest($2::bytea[], $3::timestamptz[]) AS pair (key, until) ORDER BY pair.key
			ON CONFLICT DO NOTHING RETURNING key
		)
		SELECT at, swept, ARRAY(SELECT key FROM added) FROM present`, []any{id, keys, untils}, &at, &swept, &texts)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, at, swept, errOtherEpoch
	}
	if err != nil {
		return nil, at, swept, postgresError(err)
	}
	added = make(map[replay.Key]struct{}, len(texts))
	for _, key := range texts {
		added[replay.Key(key)] = struct{}{}
	}
	return added, at, swept, nil
}

// sweep forgets what is over, until the store is closed.
func (p *postgres) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	var told error // what was logged of an outage that goes on
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			err := p.forget(ctx, now)
			if err != nil && ctx.Err() == nil && !logsum.Same(told, err) {
				p.log.WarnContext(ctx, "pairs that are over could not be removed from PostgreSQL", slog.Any("error", err))
			}
			told = err
		}
	}
}

// forget removes the pairs that are over by the server's clock and by ours, now: either may be ahead for a moment. It keeps up to
// when it has, so that pairs which end by then are not judged again when both have been set back. Of several
// processes one at a time does.
func (p *postgres) forget(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	var swept time.Time
	err := p.ask(ctx, `
		UPDATE waybill.epoch SET swept = least(clock_timestamp(), $1)
		WHERE swept < least(clock_timestamp(), $1) - make_interval(secs => $2) RETURNING swept`,
		[]any{now, sweepInterval.Seconds() / 2}, &swept)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return p.ask(ctx, `
		WITH removed AS (DELETE FROM waybill.used WHERE until < $1 RETURNING 1)
		SELECT count(*) FROM removed`, []any{swept}, new(int64))
}

// read implements [revocationLog]. Where commits wait for a standby, so does the question: an old primary whose standby
// has taken over does not answer it from what it knows.
func (p *postgres) read(ctx context.Context, e *epoch, after int64) (lines []string, last int64, complete bool, err error) {
	err = p.ask(ctx, `
		SELECT ARRAY(SELECT line FROM waybill.revoked WHERE number > $2 ORDER BY number), appended, complete
		FROM waybill.epoch
		WHERE id::text = $1 AND `+sameServer+` AND (NOT synchronous OR pg_logical_emit_message(true, 'waybill', '') IS NOT NULL)`,
		[]any{e.id, after}, &lines, &last, &complete)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, 0, false, errOtherEpoch
	}
	if err != nil {
		return nil, 0, false, postgresError(err)
	}
	return lines, last, complete, nil
}

// append implements [revocationLog]. The lock on the row of the epoch makes the order of the numbers that of the commits.
// They go on behind those that are taken, also where somebody has removed the row. Who waits for the lock has no
// connection, so that nobody else waits for one.
func (p *postgres) append(ctx context.Context, e *epoch, lines []accesstoken.TokenRevocationLine) error {
	texts, untils := make([]string, len(lines)), make([]time.Time, len(lines))
	for i, line := range lines {
		texts[i], untils[i] = line.Text, line.Until
	}
	select {
	case p.appending <- struct{}{}:
		defer func() { <-p.appending }()
	case <-ctx.Done():
		return postgresError(ctx.Err())
	}
	err := p.transaction(ctx, func(tx pgx.Tx) error {
		var held int
		questions := &pgx.Batch{} // on their way together
		questions.Queue(p.sql(`
			WITH present AS (
				UPDATE waybill.epoch SET appended = greatest(appended, (SELECT max(number) FROM waybill.revoked)) + $2, complete = true
				WHERE id::text = $1 AND `+sameServer+` AND `+fit+` RETURNING appended - $2 AS before
			), over AS (
				DELETE FROM waybill.revoked USING present WHERE until < least(statement_timestamp(), $3)
			), added AS (
				INSERT INTO waybill.revoked (number, line, until)
				SELECT before + number, line, until FROM present, unnest($4::text[], $5::timestamptz[]) WITH ORDINALITY AS added (line, until, number)
				ON CONFLICT (line) DO NOTHING
			)
			SELECT before FROM present`), e.id, int64(len(lines)), time.Now(), texts, untils).
			QueryRow(func(row pgx.Row) error { return row.Scan(new(int64)) })
		questions.Queue(p.sql(`SELECT count(*) FROM waybill.revoked`)).QueryRow(func(row pgx.Row) error { return row.Scan(&held) })
		err := tx.SendBatch(ctx, questions).Close()
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return errOtherEpoch
		case err == nil && held > accesstoken.DefaultTokenRevocationLimit:
			return accesstoken.ErrTokenRevocationsFull
		}
		return err
	})
	if err == nil || errors.Is(err, errOtherEpoch) || errors.Is(err, accesstoken.ErrTokenRevocationsFull) {
		return err
	}
	return postgresError(err)
}
