package forwarded_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/forwarded"
)

// The proxies of these tests are 10.0.0.0/8 and fd00::1.
func proxies() forwarded.Proxies {
	return forwarded.Proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::1/128")}
}

func TestClient(t *testing.T) {
	const proxy = "10.0.0.1"
	for name, test := range map[string]struct {
		peer                string
		forwarded, addition []string // Forwarded, X-Forwarded-For
		want                string
	}{
		"nothing is said":                      {proxy, nil, nil, proxy},
		"a stranger says something":            {"192.0.2.1", []string{"for=192.0.2.9"}, []string{"192.0.2.9"}, "192.0.2.1"},
		"address":                              {proxy, nil, []string{"192.0.2.1"}, "192.0.2.1"},
		"address and port":                     {proxy, nil, []string{"192.0.2.1:4711"}, "192.0.2.1"},
		"address of version 6":                 {proxy, nil, []string{"2001:db8::1"}, "2001:db8::1"},
		"address of version 6 in brackets":     {proxy, nil, []string{"[2001:db8::1]"}, "2001:db8::1"},
		"address of version 6 and port":        {proxy, nil, []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		"address of version 4 within 6":        {proxy, nil, []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		"proxy of version 6":                   {"fd00::1", nil, []string{"192.0.2.1"}, "192.0.2.1"},
		"what the client said counts for none": {proxy, nil, []string{"192.0.2.9, 192.0.2.1"}, "192.0.2.1"},
		"two proxies":                          {proxy, nil, []string{"192.0.2.9, 192.0.2.1, 10.0.0.2"}, "192.0.2.1"},
		"two lines":                            {proxy, nil, []string{"192.0.2.9", "192.0.2.1 ,10.0.0.2"}, "192.0.2.1"},
		"a proxy asks itself":                  {proxy, nil, []string{"10.0.0.3"}, "10.0.0.3"},
		"none":                                 {proxy, nil, []string{""}, proxy},
		"unknown":                              {proxy, nil, []string{"192.0.2.9, unknown"}, proxy},
		"unknown behind a proxy":               {proxy, nil, []string{"192.0.2.9, _x, 10.0.0.2"}, "10.0.0.2"},
		"zone":                                 {proxy, nil, []string{"fe80::1%eth0"}, proxy},
		"brackets around version 4":            {proxy, nil, []string{"[192.0.2.1]"}, proxy},
		"brackets that do not end":             {proxy, nil, []string{"[2001:db8::1"}, proxy},

		"node":                         {proxy, []string{"for=192.0.2.1"}, nil, "192.0.2.1"},
		"parameters":                   {proxy, []string{`proto=https; For="192.0.2.1:80" ;by=10.0.0.1`}, nil, "192.0.2.1"},
		"node of version 6":            {proxy, []string{`for="[2001:db8::1]:4711"`}, nil, "2001:db8::1"},
		"escaped":                      {proxy, []string{`for="192.\0.2.1"`}, nil, "192.0.2.1"},
		"two elements":                 {proxy, []string{"for=192.0.2.9, for=192.0.2.1;proto=http,for=10.0.0.2"}, nil, "192.0.2.1"},
		"a comma in quotes":            {proxy, []string{`for="x,for=192.0.2.9", for=192.0.2.1`}, nil, "192.0.2.1"},
		"hidden":                       {proxy, []string{"for=_hidden"}, nil, proxy},
		"no node":                      {proxy, []string{"for=192.0.2.9, proto=http"}, nil, proxy},
		"two nodes":                    {proxy, []string{"for=192.0.2.9;for=192.0.2.1"}, nil, proxy},
		"quotes that do not end":       {proxy, []string{`for="192.0.2.9, for=192.0.2.1`}, nil, proxy},
		"quotes that end in an escape": {proxy, []string{`for="192.0.2.1\`}, nil, proxy},
		"without a value":              {proxy, []string{"for"}, nil, proxy},
		"with an empty value":          {proxy, []string{"for="}, nil, proxy},
		"text behind":                  {proxy, []string{"for=192.0.2.1 x"}, nil, proxy},
		"empty":                        {proxy, []string{""}, nil, proxy},
		"a line that is spoilt before": {proxy, []string{`for="`, "for=192.0.2.1"}, nil, "192.0.2.1"},

		"both agree":     {proxy, []string{"for=192.0.2.1"}, []string{"192.0.2.9, 192.0.2.1"}, "192.0.2.1"},
		"both disagree":  {proxy, []string{"for=192.0.2.9"}, []string{"192.0.2.1"}, proxy},
		"one says none":  {proxy, []string{"for=unknown"}, []string{"192.0.2.1"}, proxy},
		"both say none":  {proxy, []string{"for=unknown"}, []string{"x"}, proxy},
		"both, stranger": {"192.0.2.1", []string{"for=192.0.2.9"}, []string{"192.0.2.9"}, "192.0.2.1"},
	} {
		h := http.Header{}
		for _, line := range test.forwarded {
			h.Add("Forwarded", line)
		}
		for _, line := range test.addition {
			h.Add("X-Forwarded-For", line)
		}
		if got := proxies().Client(netip.MustParseAddr(test.peer), h); got != netip.MustParseAddr(test.want) {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestAttribute(t *testing.T) {
	for _, test := range []struct {
		believed         forwarded.Proxies
		remote, addition string
		want             string
	}{
		{proxies(), "10.0.0.1:4711", "192.0.2.1:80", "192.0.2.1:0"},
		{proxies(), "[::ffff:10.0.0.1]:4711", "2001:db8::1", "[2001:db8::1]:0"},
		{proxies(), "10.0.0.1:4711", "", "10.0.0.1:4711"},
		{proxies(), "192.0.2.2:4711", "192.0.2.1", "192.0.2.2:4711"},
		{proxies(), "@", "192.0.2.1", "@"},
		{nil, "10.0.0.1:4711", "192.0.2.1", "10.0.0.1:4711"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.RemoteAddr = test.remote
		if test.addition != "" {
			r.Header.Set("X-Forwarded-For", test.addition)
		}
		got := ""
		test.believed.Attribute(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr })).ServeHTTP(nil, r)
		if got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

// Whatever a client sends, it is taken for nobody but itself by a proxy that adds its address, in either field and
// in a line of its own or in the same.
func FuzzClient(f *testing.F) {
	for _, seed := range []string{"", "for=192.0.2.9", `for="`, `for="\`, "192.0.2.9", "unknown", "for=_x;by=y", "for=10.0.0.3, ", `a="b,c";for=x`, "[::1]:1", ",;="} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	peer, client := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1")
	f.Fuzz(func(t *testing.T, sent string, same bool) {
		add := func(own string) []string {
			if same {
				return []string{sent + ", " + own}
			}
			return []string{sent, own}
		}
		standard, other := add("for=192.0.2.1"), add("192.0.2.1")
		for _, h := range []http.Header{
			{"Forwarded": standard},
			{"X-Forwarded-For": other},
			{"Forwarded": standard, "X-Forwarded-For": {sent}},
			{"Forwarded": {sent}, "X-Forwarded-For": other},
		} {
			got := proxies().Client(peer, h)
			spoilt := got == peer && len(h["Forwarded"]) > 0
			if got != client && !spoilt {
				t.Errorf("%q: %s", h, got)
			}
			if alone := proxies().Client(client, h); alone != client {
				t.Errorf("%q of a stranger: %s", h, alone)
			}
		}
		if !slices.Contains([]netip.Addr{peer, client}, proxies().Client(peer, http.Header{"Forwarded": {strings.TrimSpace(sent), "for=192.0.2.1"}})) {
			t.Errorf("%q", sent)
		}
	})
}
