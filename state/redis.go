package state

import (
	"context"
	"crypto/fips140"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/regular"
	"github.com/waybill-token/waybill/replay"
)

const (
	// clusterBuckets is in how many parts the pairs are, so that the primaries of a cluster share the work. All servers must
	// have the same number.
	clusterBuckets = 16

	// waitTimeout is how long replicas may take to have a write. It ends before callTimeout, so that what
	// is said is that they did not.
	waitTimeout = time.Second

	// maxRoots is more than all roots of a system take, in bytes.
	maxRoots = 4 << 20

	// oldestRedis is the first major version whose scripts learn all that they need by INFO.
	oldestRedis = 7
)

// redisStore is a store in Redis or Valkey.
//
// Redis can lose what it was told: it is restarted without its data or with those of some time ago, a replica takes its place
// that lacks the last writes, somebody empties it. So the record of a bucket's epoch holds the identity of the process
// that serves it: its run_id, which no two processes share, and the replication id that it took over when it was made a
// primary, which is another one after it was a replica for a while. Each script compares them, with the record, in one
// step with what it does. A process that is not the recorded one, or that has no record, begins a new epoch.
//
// It forgets by its clock, too. One that ran ahead and is right again has forgotten pairs that still count, so a clock that is behind
// what it was begins a new epoch as well.
//
// What this cannot see is a primary that was cut off and goes on answering after another has taken its place: see sentinels
// and Config.WaitReplicas.
type redisStore struct {
	options   valkey.ClientOption
	sentinels *sentinels // nil: the addresses of options are those of servers
	client    atomic.Pointer[redisClient]
	wait      int64
	buckets   []redisBucket
}

// A redisClient connects again by itself to the address at which it was made.
type redisClient struct {
	valkey.Client

	address string
}

// The keys of a bucket have a hash tag in common, so that a cluster has them in one place.
type redisBucket struct {
	epoch string
	clock string   // the server's, when it was last asked for the epoch
	pairs string   // what keys of pairs begin with
	log   []string // epoch, lines by position, lines by time of end, last position, epoch of the last addition
}

func openRedis(c *Config) (backend, error) {
	u, err := c.URL.redis()
	if err != nil {
		return nil, err
	}
	r := &redisStore{wait: int64(c.WaitReplicas), options: valkey.ClientOption{
		InitAddress: u.hosts, Username: u.user, Password: u.password, SelectDB: u.database, ClientName: "waybill",
		Dialer:            net.Dialer{Timeout: pollTimeout, KeepAlive: pollTimeout},
		ConnWriteTimeout:  callTimeout,
		ForceSingleClient: u.kind != schemeCluster,
		DisableRetry:      true, // to ask again may be to use twice
		DisableCache:      true,
		DialCtxFn:         dialFramed,
	}}
	if u.tls {
		if r.options.TLSConfig, err = tlsConfig(u.ca); err != nil {
			return nil, err
		}
	}
	if u.kind == schemeSentinel {
		r.sentinels = newSentinels(u, r.options)
	}
	count := 1
	if u.kind == schemeCluster {
		count = clusterBuckets
	}
	for i := range count {
		tag := fmt.Sprintf("{%s:%d}:", c.namespace(), i)
		epoch, log := tag+"epoch", tag+"revocations"
		r.buckets = append(r.buckets, redisBucket{epoch, tag + "clock", tag, []string{epoch, log, log + ":ends", log + ":last", log + ":epoch"}})
	}
	return r, nil
}

func tlsConfig(ca string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca == "" {
		return c, nil
	}
	file, err := regular.Open(ca)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(file, maxRoots+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxRoots:
		return nil, fmt.Errorf("%s: it has more than %d bytes", ca, maxRoots)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: there is no certificate in it", ca)
	}
	return c, nil
}

var (
	errNotConnected = errors.New("redis: not connected yet")
	errUnexpected   = errors.New("an answer or a record is not as it should be; another version may have written it")
)

// connect returns the client of the servers, or of the one that the sentinels name now. Only attest calls it.
func (r *redisStore) connect(ctx context.Context) (*redisClient, error) {
	options := r.options
	if r.sentinels != nil {
		primary, err := r.sentinels.primary(ctx)
		if err != nil {
			return nil, err
		}
		options.InitAddress = []string{primary}
	}
	address := options.InitAddress[0]
	old := r.client.Load()
	if old != nil && old.address == address {
		return old, nil
	}
	client, err := newRedisClient(options)
	if err != nil {
		return nil, err
	}
	r.client.Store(&redisClient{client, address})
	if old != nil {
		go old.Close() // it waits for answers
	}
	return r.client.Load(), nil
}

// newRedisClient makes the first connection of a client.
func newRedisClient(options valkey.ClientOption) (valkey.Client, error) {
	client, err := valkey.NewClient(options)
	if err != nil {
		return nil, aboutTLS(err, options.TLSConfig != nil)
	}
	return client, nil
}

func (r *redisStore) close() {
	if c := r.client.Load(); c != nil {
		c.Close()
	}
	if r.sentinels != nil {
		r.sentinels.close()
	}
}

// The scripts begin with what tells the process that runs them: two identities of 40 hex digits. They are looked for as plain text, as every use
// pays for it.
const identify = `
local info = redis.call('INFO', 'server', 'replication')
local _, run = string.find(info, 'run_id:', 1, true)
local _, took_over = string.find(info, 'master_replid2:', 1, true)
if not run or not took_over then return redis.error_reply('INFO tells neither run_id nor master_replid2') end
local process = string.sub(info, run + 1, run + 40) .. ' ' .. string.sub(info, took_over + 1, took_over + 40)
`

// attestScript: KEYS epoch, clock; ARGV random bits for a new epoch, or none where none is to begin, and the tolerance in microseconds. Returns the record of the epoch, the time in microseconds, and
// what settings depend on.
const attestScript = identify + `
if not string.find(process, '^%x+ %x+$') then return redis.error_reply('INFO tells no run_id or master_replid2 of 40 hex digits') end
local memory = redis.call('INFO', 'memory')
local time = redis.call('TIME')
local now = time[1] .. string.format('%06d', time[2])
local primary = string.find(info, 'role:master', 1, true) ~= nil
local record = primary and redis.call('GET', KEYS[1])
if primary and ARGV[1] ~= '' then
  local back = tonumber(now) < tonumber(redis.call('GET', KEYS[2]) or 0) - ARGV[2]
  if back or not record or string.sub(record, -#process) ~= process then
    record = ARGV[1] .. ' ' .. now .. ' ' .. process
    redis.call('SET', KEYS[1], record)
  end
  redis.call('SET', KEYS[2], now)
end
return {record, now, primary and 'primary' or 'replica', string.match(info, 'redis_version:(%d+)'), string.match(memory, 'maxmemory:(%d+)'), string.match(memory, 'maxmemory_policy:([%w-]+)'), string.match(info, 'redis_mode:(%a+)') or string.match(info, 'server_mode:(%a+)') or ''}
`

// inEpoch: KEYS[1] epoch; ARGV[1] its record. The answer is -1 in another one.
const inEpoch = identify + `
if redis.call('GET', KEYS[1]) ~= ARGV[1] or string.sub(ARGV[1], -#process) ~= process then return -1 end
`

// The answers of scripts besides yes and no.
const (
	inOtherEpoch = -1
	atOtherTime  = -2
	isFull       = -3
)

// useScript: KEYS epoch, clock, pair; ARGV record, time and end of the pair in milliseconds, tolerance. Returns 1 for a pair that
// was not there, and 0.
const useScript = inEpoch + `
local time, tolerance = redis.call('TIME'), tonumber(ARGV[4])
local now = time[1] * 1000 + time[2] / 1000
if math.abs(now - ARGV[2]) > tolerance then return -2 end
if now < (redis.call('GET', KEYS[2]) or 0) / 1000 - tolerance then return -1 end
if redis.call('SET', KEYS[3], '', 'NX', 'PXAT', ARGV[3]) then return 1 end
return 0
`

// readScript: KEYS those of the log; ARGV record, position. Returns whether something was added in this epoch, the last
// position, and the lines behind the one given.
const readScript = inEpoch + `
local complete = redis.call('GET', KEYS[5]) == ARGV[1]
return {complete and 1 or 0, tonumber(redis.call('GET', KEYS[4]) or 0), redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[2], '+inf')}
`

// appendScript: KEYS those of the log; ARGV record, limit, time in seconds, then a line and its end for each.
const appendScript = inEpoch + `
for _, line in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. ARGV[3])) do
  redis.call('ZREM', KEYS[2], line)
  redis.call('ZREM', KEYS[3], line)
end
local new = {}
for i = 4, #ARGV, 2 do
  new[#new + 1] = not redis.call('ZSCORE', KEYS[2], ARGV[i]) and i or nil
end
if redis.call('ZCARD', KEYS[2]) + #new > tonumber(ARGV[2]) then return -3 end
for _, i in ipairs(new) do
  redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[4]), ARGV[i])
  redis.call('ZADD', KEYS[3], ARGV[i + 1], ARGV[i])
end
redis.call('SET', KEYS[5], ARGV[1])
return 1
`

// A script is sent whole once to each process, which then knows it by its sum.
type script struct {
	text string
	lua  *valkey.Lua
}

func newScript(text string) *script {
	if fips140.Enforced() { // the sum is SHA-1, and to make one ends the process
		return &script{text, valkey.NewLuaScriptNoSha(text)}
	}
	return &script{text, valkey.NewLuaScript(text)}
}

//nolint:gochecknoglobals // constants but for their sums
var (
	use       = newScript(useScript)
	readLog   = newScript(readScript)
	appendLog = newScript(appendScript)
)

// attest implements [pairStore].
func (r *redisStore) attest(ctx context.Context, begin bool) (epochs []*epoch, now time.Time, err error) {
	client, err := r.connect(ctx)
	if err != nil {
		return nil, time.Time{}, r.failed(err)
	}
	commands := make(valkey.Commands, len(r.buckets))
	tolerance := strconv.FormatInt(ClockTolerance.Microseconds(), 10)
	for i, b := range r.buckets {
		id := ""
		if begin {
			id = rand.Text()
		}
		commands[i] = client.B().Eval().Script(attestScript).Numkeys(2).Key(b.epoch, b.clock).Arg(id, tolerance).Build()
	}
	for i, answer := range client.DoMulti(ctx, commands...) {
		said, err := answer.AsStrSlice()
		if err == nil {
			err = checkSettings(said, len(r.buckets) > 1)
		}
		if err == nil {
			now, err = parseMicroseconds(said[1])
		}
		if err == nil && begin {
			var e *epoch
			if e, err = parseRecord(said[0]); err == nil {
				e.bucket = i
				if r.sentinels != nil {
					e.since = e.since.Add(fresh) // until when others may have used the one before
				}
				epochs = append(epochs, e)
			}
		}
		if err != nil {
			return nil, time.Time{}, r.failed(err)
		}
	}
	return epochs, now, nil
}

// checkSettings refuses a server that may forget what it was told, by the answer of attestScript.
func checkSettings(said []string, cluster bool) error {
	if len(said) != 7 {
		return errUnexpected
	}
	role, version, limit, policy, mode := said[2], said[3], said[4], said[5], said[6]
	major, err := strconv.Atoi(version)
	switch {
	case err != nil || major < oldestRedis:
		return fmt.Errorf("its version is %s; want Redis %d or later, or Valkey", version, oldestRedis)
	case limit != "0" && policy != "noeviction":
		return fmt.Errorf("it forgets when its memory is full (maxmemory-policy %s), and an assertion could be used twice; set maxmemory-policy to noeviction", policy)
	case cluster && mode != "cluster": // servers that keep pairs in one part would not see those that are kept in sixteen
		return errors.New("it is no cluster; begin the URL with redis or redis-sentinel in place of redis-cluster")
	case !cluster && mode == "cluster":
		return errors.New("it is one of a cluster; begin the URL with redis-cluster")
	case role != "primary":
		return errors.New("it is a replica; give the address of the primary, or those of sentinels, which know it")
	}
	return nil
}

// parseRecord reads the record of an epoch, which is its id: random bits, the time at which it began in microseconds, and the two
// halves of the identity of its process.
func parseRecord(record string) (*epoch, error) {
	fields := strings.Split(record, " ")
	if len(fields) != 4 {
		return nil, errUnexpected
	}
	since, err := parseMicroseconds(fields[1])
	return &epoch{id: record, since: since}, err
}

// aboutTLS says what to do about an error of a first connection that a port makes which has TLS, when we have none, or
// the reverse. A Redis with TLS resets a connection that begins without, and one without TLS waits for the end of a line.
func aboutTLS(err error, secure bool) error {
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	_, network := errors.AsType[*net.OpError](err) // it was the connection itself that took too long
	switch {
	case !secure && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)):
		return fmt.Errorf("it ends the connection; if its port is one for TLS, begin the URL with rediss in place of redis: %w", err)
	case secure && (noTLS || !network && errors.Is(err, context.DeadlineExceeded)):
		return fmt.Errorf("it does not answer with TLS; if its port is one without TLS, begin the URL with redis in place of rediss: %w", err)
	}
	return err
}

// failed is an error as it may be shown.
func (r *redisStore) failed(err error) error {
	return fmt.Errorf("redis: %w", quietError{withMend(err), r.options.Password})
}

// A quietError is an error without the password: a Redis, or a proxy before it, that does not know the command AUTH
// quotes what stands behind it.
type quietError struct {
	error

	password string
}

func (e quietError) Error() string {
	text, _, cut := strings.Cut(e.error.Error(), ", with args beginning with")
	if cut {
		text += "; it has no such command, or under another name"
	}
	if e.password == "" {
		return text
	}
	return strings.ReplaceAll(text, e.password, "***")
}

func (e quietError) Unwrap() error { return e.error }

// withMend says what to do about an error that has one cause.
func withMend(err error) error {
	said, ok := valkey.IsValkeyErr(err)
	if ok && strings.Contains(said.Error(), "syntax error") { // INFO has one section before version 7
		return fmt.Errorf("want Redis %d or later, or Valkey: %w", oldestRedis, err)
	}
	if ok && strings.HasPrefix(said.Error(), "NOAUTH") {
		return fmt.Errorf("it wants a password: set WAYBILL_STATE_PASSWORD, and name its user in the URL (redis://USER@host) unless it is default: %w", err)
	}
	if ok && strings.HasPrefix(said.Error(), "WRONGPASS") {
		return fmt.Errorf("WAYBILL_STATE_PASSWORD, or the password in the URL, is not that of the user in the URL (redis://USER@host; without one it is default): %w", err)
	}
	if ok && strings.Contains(said.Error(), "DB index") {
		return fmt.Errorf("the number behind the host is that of a database, and this server has no such one; most have 0 to 15: %w", err)
	}
	if ok && strings.HasPrefix(said.Error(), "OOM") {
		return fmt.Errorf("its memory is full, give it more: %w", err)
	}
	return err
}

func parseMicroseconds(text string) (time.Time, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, errUnexpected
	}
	return time.UnixMicro(n), nil
}

// use implements [pairStore].
func (r *redisStore) use(ctx context.Context, e *epoch, k replay.Key, now, until time.Time) (bool, error) {
	b := &r.buckets[e.bucket]
	code, err := r.write(ctx, use, []string{b.epoch, b.clock, b.pairs + string(k[:])}, []string{
		e.id, strconv.FormatInt(now.UnixMilli(), 10), strconv.FormatInt(until.UnixMilli()+1, 10), strconv.FormatInt(ClockTolerance.Milliseconds(), 10),
	})
	return code == 1, err
}

// read implements [revocationLog].
func (r *redisStore) read(ctx context.Context, e *epoch, after int64) (lines []string, last int64, complete bool, err error) {
	client := r.client.Load()
	if client == nil {
		return nil, 0, false, errNotConnected
	}
	answer := readLog.lua.Exec(ctx, client, r.buckets[e.bucket].log, []string{e.id, strconv.FormatInt(after, 10)})
	if code, err := answer.AsInt64(); err == nil {
		return nil, 0, false, errorOf(code)
	}
	parts, err := answer.ToArray()
	if err == nil && len(parts) != 3 {
		err = errUnexpected
	}
	if err != nil {
		return nil, 0, false, r.failed(fmt.Errorf("revocations: %w", err))
	}
	done, err1 := parts[0].AsInt64()
	last, err2 := parts[1].AsInt64()
	lines, err3 := parts[2].AsStrSlice()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, 0, false, r.failed(fmt.Errorf("revocations: %w", err))
	}
	return lines, last, done == 1, nil
}

// append implements [revocationLog].
func (r *redisStore) append(ctx context.Context, e *epoch, lines []accesstoken.TokenRevocationLine) error {
	args := make([]string, 0, 3+2*len(lines))
	args = append(args, e.id, strconv.Itoa(accesstoken.DefaultTokenRevocationLimit), strconv.FormatInt(time.Now().Add(-ClockMargin).Unix(), 10))
	for _, l := range lines {
		args = append(args, l.Text, strconv.FormatInt(l.Until.Unix(), 10))
	}
	_, err := r.write(ctx, appendLog, r.buckets[e.bucket].log, args)
	return err
}

// write runs a script that answers with a number, and waits for replicas when it is told to.
func (r *redisStore) write(ctx context.Context, s *script, keys, args []string) (int64, error) {
	client := r.client.Load()
	if client == nil {
		return 0, errNotConnected
	}
	var answer valkey.ValkeyResult
	if r.wait == 0 {
		answer = s.lua.Exec(ctx, client, keys, args)
	} else { // WAIT is about what its own connection has written
		err := client.Dedicated(func(d valkey.DedicatedClient) error {
			answers := d.DoMulti(ctx,
				d.B().Eval().Script(s.text).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build(),
				d.B().Wait().Numreplicas(r.wait).Timeout(waitTimeout.Milliseconds()).Build())
			answer = answers[0]
			replicas, err := answers[1].AsInt64()
			if err == nil && replicas < r.wait {
				err = fmt.Errorf("%d replicas have the write, and %d are waited for", replicas, r.wait)
			}
			return err
		})
		if err != nil {
			return 0, r.failed(err)
		}
	}
	code, err := answer.AsInt64()
	if err != nil {
		return 0, r.failed(err)
	}
	return code, errorOf(code)
}

// errorOf is the error that an answer of a script stands for.
func errorOf(code int64) error {
	switch code {
	case 0, 1:
		return nil
	case inOtherEpoch:
		return errOtherEpoch
	case atOtherTime:
		return errOtherTime
	case isFull:
		return accesstoken.ErrTokenRevocationsFull
	}
	return fmt.Errorf("redis: a script answers %d", code)
}
