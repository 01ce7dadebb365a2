package state

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]redisURL{
		"redis://localhost":                                {kind: schemeRedis, hosts: []string{"localhost:6379"}},
		"redis://localhost/":                               {kind: schemeRedis, hosts: []string{"localhost:6379"}},
		"redis://u:p%40%2F:x@[::1]:7000/3":                 {kind: schemeRedis, user: "u", password: "p@/:x", hosts: []string{"[::1]:7000"}, database: 3},
		"redis://:p@h":                                     {kind: schemeRedis, password: "p", hosts: []string{"h:6379"}},
		"rediss://h:1?ca=/etc/ca.pem":                      {kind: schemeRedis, tls: true, ca: "/etc/ca.pem", hosts: []string{"h:1"}},
		"redis-cluster://a,b:7001":                         {kind: schemeCluster, hosts: []string{"a:6379", "b:7001"}},
		"rediss-cluster://u:p@a,b":                         {kind: schemeCluster, tls: true, user: "u", password: "p", hosts: []string{"a:6379", "b:6379"}},
		"redis-sentinel://a,b:1/main":                      {kind: schemeSentinel, hosts: []string{"a:26379", "b:1"}, primary: "main"},
		"rediss-sentinel://:p@a/main/2?sentinel_auth=same": {kind: schemeSentinel, tls: true, password: "p", hosts: []string{"a:26379"}, primary: "main", database: 2, sentinelAuth: true},
	} {
		u, err := ParseURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := u.redis(); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %+v, %v, want %+v", text, *got, err, want)
		}
	}
}

func TestURLsThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "redis://",
		"memory":                                 "redis://",
		"localhost:6379":                         "redis://",
		"http://secret@h":                        "redis://",
		"redis://":                               "host",
		"redis://:6379":                          "host",
		"redis://a,b":                            "one host",
		"redis://h:secret":                       "host:port",
		"redis://u:se/cret@h":                    "host:port",
		"redis://u:se%zzcret@h":                  "percent",
		"redis://h/secret":                       "database",
		"redis://h/-1":                           "database",
		"redis://h/0/1":                          "database",
		"redis://h/0#secret":                     "%23",
		"redis://h?secret=1":                     "parameters",
		"redis://h?ca=/a":                        "rediss",
		"rediss://h?ca=/a&ca=/b":                 "parameters",
		"redis-cluster://a/1":                    "database",
		"redis-sentinel://u:1/secret@a":          "%2F",
		"postgres://u:1/secret@h/db":             "%2F",
		"postgres://u:1#secret@h/db":             "%23",
		"redis-sentinel://a":                     "name",
		"redis-sentinel://a,b,a:26379/m":         "once",
		"redis-sentinel://a/":                    "name",
		"redis-sentinel://a/m?sentinel_auth":     "parameters",
		"redis://" + strings.Repeat("h", maxURL): "at most",
	} {
		_, err := ParseURL(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestURLHidesPasswords(t *testing.T) {
	for text, want := range map[string]string{
		"redis://u:secret@h:1/2":             "redis://h:1/2",
		"rediss://:secret@h?ca=/a":           "rediss://h",
		"redis-sentinel://u:secret@a,b/main": "redis-sentinel://a,b/main",
	} {
		u, err := ParseURL(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, shown := range []string{u.String(), fmt.Sprintf("%s", any(u)), fmt.Sprintf("%#v", u), u.LogValue().String()} {
			if shown != want {
				t.Errorf("%s is shown as %s", text, shown)
			}
		}
	}
	if (URL{}).String() != "" {
		t.Error("the zero URL is shown")
	}
}

func TestWithPassword(t *testing.T) {
	const password = `p @:/?#[]%&"\é`
	for text, user := range map[string]string{"redis://h/1": "", "redis://u@h/1": "u"} {
		u, err := ParseURL(text)
		if err != nil {
			t.Fatal(err)
		}
		with, err := u.WithPassword(password)
		if err != nil {
			t.Fatal(err)
		}
		got, err := with.redis()
		if err != nil || got.password != password || got.user != user || got.database != 1 {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if _, err := with.WithPassword("another"); err == nil {
			t.Error("two passwords")
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{
		"redis://u:p@h:1/2", "rediss-sentinel://a,b:1/main/2?sentinel_auth=same&ca=/a", "redis-cluster://[::1]:1,b", "redis://h/%2f?ca=%", "redis://@@,@/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURL(text)
		if err != nil {
			return
		}
		if again, err := ParseURL(u.String()); err != nil && !strings.Contains(text, "?") || err == nil && again.String() != u.String() {
			t.Errorf("%q is shown as %q, which is %v, %v", text, u, again, err)
		}
		if u.IsPostgres() {
			return
		}
		r, err := u.redis()
		if err != nil || len(r.hosts) == 0 || r.database < 0 {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
	})
}

// A connection to another machine can be read unless it is certain to have TLS, with a server that proves who it is.
func TestURLCanBeRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"redis://redis.example": true, "redis-sentinel://localhost,redis.example/primary": true, "redis-cluster://10.0.0.1:6379": true,
		"redis://localhost": false, "redis://user:word@127.0.0.1:6379/0": false, "redis://[::1]": false, "rediss://redis.example": false, "rediss-cluster://10.0.0.1": false,
		"postgres://db.example/waybill": true, "postgres://db.example/waybill?sslmode=disable": true, "postgres://localhost,db.example/waybill?sslmode=disable": true,
		"postgres://db.example/waybill?sslmode=require": true, "postgres://db.example/waybill?sslmode=verify-full": false,
		"redis-sentinel://localhost/primary": true, "redis-cluster://127.0.0.1": true, "postgres://localhost/waybill?sslmode=disable": false, "postgres:///waybill?host=/run/postgresql": false,
	} {
		u, err := ParseURL(text)
		if got := u.CanBeRead(); err != nil || got != want {
			t.Errorf("%s: %t, %v", text, got, err)
		}
	}
}
