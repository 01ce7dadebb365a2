package sandbox

import (
	"log/slog"
	"net/http"
	"net/url"

	"github.com/waybill-token/waybill/internal/testca"
)

// Slowness is how long a slow server takes.
const Slowness = slowness

// ConfigForTest is a sandbox on free ports, whose keys are made fast.
func ConfigForTest(dir string) Config {
	return Config{
		Dir: dir, Listen: "127.0.0.1:0", CAKeyBits: 2048,
		Log: slog.New(slog.DiscardHandler), Progress: func(string) {},
		newKey: testca.PooledKey,
	}
}

// FailingAt has a handler fail in a way.
func FailingAt(way string, next http.Handler) http.Handler {
	return failing(newDial(&dial{choices: outages(), initial: way}), next)
}

// Search reads the query of GET /parties in a framework, and counts who is found
// among nobody.
func Search(f Framework, q url.Values) (number, perPage, found int, err error) {
	s, err := dialectOf(f).search(q)
	if err != nil {
		return 0, 0, 0, err
	}
	return s.page, s.perPage, len((&register{}).search(s).entries), nil
}

// MatchesName reports whether a name is found by a pattern.
func MatchesName(pattern, name string) bool { return matchesName(pattern, name) }
