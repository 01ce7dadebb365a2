package state

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/waybill-token/waybill/internal/loopback"
)

// A URL says where a store is and how it is reached. It is comparable; the zero URL is none.
//
//	redis://[user:password@]host[:6379][/database]
//	redis-sentinel://[user:password@]sentinel[:26379][,sentinel…]/primary[/database]
//	redis-cluster://[user:password@]host[:6379][,host…]
//	postgres://[user[:password]@]host[:5432][,host…]/database[?parameter=value…]
//
// Valkey has the URLs of Redis. With rediss in place of redis, the connections to servers, and to sentinels, use TLS;
// ?ca=/path/of/roots.pem names whom they trust in place of the system's roots. All sentinels are listed, as more than half of
// them must name the same primary; they are asked without a password, unless ?sentinel_auth=same gives them the one of the
// servers. What stands in a URL for PostgreSQL is libpq's, sslmode and passfile with it.
type URL struct{ text string }

// The schemes of Redis and Valkey; each has a sister with TLS.
const (
	schemeRedis    = "redis"
	schemeSentinel = "redis-sentinel"
	schemeCluster  = "redis-cluster"
)

// maxURL is more than any URL needs, in bytes.
const maxURL = 4096

// ParseURL reads a URL. Its errors never repeat what may be a password.
func ParseURL(text string) (URL, error) {
	if len(text) > maxURL {
		return URL{}, fmt.Errorf("want at most %d characters", maxURL)
	}
	u := URL{text}
	var err error
	if u.IsPostgres() {
		err = checkPostgresURL(text)
	} else {
		_, err = u.redis()
	}
	if err != nil {
		return URL{}, err
	}
	if strings.ContainsAny(u.String(), "@#") { // it was taken for the path, and would be shown
		return URL{}, errors.New("a slash, ? or # in a password is written %2F, %3F or %23, and an @ behind the hosts %40")
	}
	return u, nil
}

// WithPassword is the URL with the password, which must not have one already.
func (u URL) WithPassword(password string) (URL, error) {
	scheme, rest, _ := strings.Cut(u.text, "://")
	authority, path := cutAuthority(rest)
	user, hosts := "", authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, hosts = authority[:at], authority[at+1:]
	}
	if strings.Contains(user, ":") {
		return URL{}, errors.New("the URL has a password already")
	}
	return ParseURL(scheme + "://" + user + url.UserPassword("", password).String() + "@" + hosts + path)
}

// From is the URL with the file of ca counted from a folder, if it is relative. In a URL of PostgreSQL, whose files are libpq's,
// nothing changes.
func (u URL) From(folder string) (URL, error) {
	if u.IsPostgres() {
		return u, nil
	}
	r, err := u.redis()
	if err != nil || r.ca == "" || filepath.IsAbs(r.ca) {
		return u, err
	}
	front, query, _ := strings.Cut(u.text, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return URL{}, err
	}
	values.Set("ca", filepath.Join(folder, r.ca))
	return ParseURL(front + "?" + values.Encode())
}

// String hides the password, and whatever else could hold one.
func (u URL) String() string {
	scheme, rest, found := strings.Cut(u.text, "://")
	if !found {
		return ""
	}
	authority, path := cutAuthority(rest)
	path, _, _ = strings.Cut(path, "?")
	return scheme + "://" + authority[strings.LastIndexByte(authority, '@')+1:] + path
}

// GoString hides the password.
func (u URL) GoString() string { return u.String() }

// LogValue hides the password.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// IsPostgres reports whether the store is PostgreSQL; it is Redis or Valkey otherwise.
func (u URL) IsPostgres() bool {
	return strings.HasPrefix(u.text, "postgres://") || strings.HasPrefix(u.text, "postgresql://")
}

// CanBeRead reports whether the connection goes to another machine and is, or can become, one without TLS that proves who
// answers: with the redis of Redis, or an sslmode of PostgreSQL that allows it, as that does which stands for none. Sentinels
// and clusters of this machine name others.
func (u URL) CanBeRead() bool {
	if u.IsPostgres() {
		return canReadPostgres(u.text)
	}
	r, err := u.redis()
	if err != nil || r.tls {
		return false
	}
	return r.kind != schemeRedis || slices.ContainsFunc(r.hosts, func(host string) bool {
		name, _, err := net.SplitHostPort(host)
		return err == nil && !loopback.Is(name)
	})
}

// cutAuthority splits what follows the scheme. A password may hold anything but a slash, as libpq has it too.
func cutAuthority(rest string) (authority, path string) {
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		return rest[:i], rest[i:]
	}
	return rest, ""
}

// A redisURL is one of Redis or Valkey, taken apart.
type redisURL struct {
	kind           string // schemeRedis, schemeSentinel or schemeCluster
	tls            bool
	ca             string // a file; empty: the system's roots
	user, password string
	hosts          []string // host:port
	primary        string   // what the sentinels know the primary by
	database       int
	sentinelAuth   bool
}

// redis takes the URL apart.
func (u URL) redis() (*redisURL, error) {
	scheme, rest, _ := strings.Cut(u.text, "://")
	plain := strings.Replace(scheme, "rediss", "redis", 1)
	r := &redisURL{kind: plain, tls: scheme != plain}
	if !slices.Contains([]string{schemeRedis, schemeSentinel, schemeCluster}, r.kind) {
		return nil, errors.New("want a URL that begins with redis://, rediss://, redis-sentinel://, redis-cluster:// or postgres://")
	}
	authority, path := cutAuthority(rest)
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, err := url.Parse("redis://" + authority[:at] + "@host")
		if err != nil {
			return nil, errors.New("want the characters of user and password that have a meaning in a URL as percent and two hex digits")
		}
		r.user = user.User.Username()
		r.password, _ = user.User.Password()
		authority = authority[at+1:]
	}
	port := "6379"
	if r.kind == schemeSentinel {
		port = "26379"
	}
	for host := range strings.SplitSeq(authority, ",") {
		h, err := url.Parse("redis://" + host)
		if err != nil || h.Hostname() == "" || h.User != nil {
			return nil, errors.New("want host or host:port behind ://, such as redis://localhost:6379/0")
		}
		if h.Port() == "" {
			h.Host += ":" + port
		}
		if slices.Contains(r.hosts, h.Host) { // a sentinel would count twice
			return nil, errors.New("want each host once")
		}
		r.hosts = append(r.hosts, h.Host)
	}
	if r.kind == schemeRedis && len(r.hosts) > 1 {
		return nil, errors.New("want one host; several are for redis-sentinel:// and redis-cluster://")
	}
	if err := r.setPath(path); err != nil {
		return nil, err
	}
	return r, nil
}

// setPath reads what stands behind the hosts.
func (r *redisURL) setPath(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Fragment != "" {
		return errors.New("want nothing but a database and parameters behind the host; a slash, ? or # in a password is written %2F, %3F or %23")
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if r.kind == schemeSentinel {
		if r.primary = parts[0]; r.primary == "" {
			return errors.New("want the name by which the sentinels know the primary, such as redis-sentinel://host:26379/mymaster")
		}
		parts = parts[1:]
	}
	database := strings.Join(parts, "/")
	if database != "" {
		r.database, err = strconv.Atoi(database)
		if err != nil || r.database < 0 {
			return errors.New("want the number of a database behind the slash, such as redis://localhost:6379/0")
		}
	}
	if r.kind == schemeCluster && r.database != 0 {
		return errors.New("a cluster has no other database than 0")
	}
	return r.setParameters(u.RawQuery)
}

func (r *redisURL) setParameters(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("want parameters such as ?ca=/etc/redis/ca.pem")
	}
	for name, value := range values {
		switch {
		case name == "ca" && r.tls && len(value) == 1 && value[0] != "":
			r.ca = value[0]
		case name == "ca" && !r.tls:
			return errors.New("ca is for connections with TLS: write rediss in place of redis")
		case name == "sentinel_auth" && r.kind == schemeSentinel && slices.Equal(value, []string{"same"}):
			r.sentinelAuth = true
		default:
			return errors.New("want no parameters but ca=FILE with rediss, and sentinel_auth=same with sentinels")
		}
	}
	return nil
}
