package console

import (
	"net/url"
	"testing"
)

// A form is a draft, or it is said what is wrong.
func FuzzDraft(f *testing.F) {
	f.Add("header-name=alg&header-value=1&claim-name=&claim-value=")
	f.Add("header-name=a&header-name=b&header-value=")
	f.Add("claim-value=1")
	f.Fuzz(func(t *testing.T, query string) {
		form, err := url.ParseQuery(query)
		if err != nil {
			return // it is no form
		}
		if d, problem := draftOf(form); problem == "" && (len(d.Header) > maxFields+spare || len(d.Claims) > maxFields+spare) {
			t.Errorf("%d and %d fields", len(d.Header), len(d.Claims))
		}
	})
}
