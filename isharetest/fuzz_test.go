package isharetest_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/registry"
)

// FuzzSearch that whatever a client looks for is within bounds, or refused.
func FuzzSearch(f *testing.F) {
	for _, query := range []string{
		"", "id=did:ishare:EU.NL.NTRNL-10000001", "eori=EU.EORI.NL000000001", "page=2&pageSize=100", "page=1000000&page_size=100",
		"page=-1", "page=1e3", "page=9223372036854775807", "pageSize=0", "page_size=101", "name=*", "name=**", "active_only=maybe",
	} {
		f.Add(query, "Sandbox Consumer")
	}
	f.Fuzz(func(t *testing.T, query, name string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		for _, version := range []registry.Version{registry.Version3, registry.Version2} {
			page, perPage, found, err := isharetest.Search(version, q)
			if err == nil && (page < 1 || perPage < 1 || perPage > 100 || found != 0) {
				t.Errorf("page %d with %d, found %d", page, perPage, found)
			}
		}
		pattern := q.Get("name")
		if !strings.Contains(pattern, "*") && isharetest.MatchesName(pattern, name) != (pattern == name) {
			t.Errorf("%q matches %q", pattern, name)
		}
		if !isharetest.MatchesName("*", name) || !isharetest.MatchesName(name[:len(name)/2]+"*", name) && !strings.Contains(name[:len(name)/2], "*") {
			t.Errorf("%q is not found by its beginning", name)
		}
	})
}
