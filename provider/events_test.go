package provider_test

import (
	"context"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// Of joined events both are told, in their order, and what neither wants is not told at all.
func TestJoin(t *testing.T) {
	var told []string
	all := func(name string) provider.Events {
		return provider.Events{
			Stage:          func(context.Context, string, time.Time, error) { told = append(told, name+"Stage") },
			Decided:        func(context.Context, *tokenendpoint.Decision) { told = append(told, name+"Decided") },
			Guarded:        func(*http.Request, guard.Decision) { told = append(told, name+"Guarded") },
			Checked:        func(error) { told = append(told, name+"Checked") },
			Revoked:        func(accesstoken.TokenRevocation) { told = append(told, name+"Revoked") },
			UpstreamFailed: func(string) { told = append(told, name+"UpstreamFailed") },
		}
	}
	for _, c := range []struct {
		joined provider.Events
		want   []string // by whom each is told
	}{
		{provider.Join(all("a"), all("b")), []string{"a", "b"}},
		{provider.Join(all("a"), provider.Events{}), []string{"a"}},
		{provider.Join(provider.Events{}, all("b")), []string{"b"}},
		{provider.Join(provider.Events{}, provider.Events{}), nil},
	} {
		events := reflect.ValueOf(c.joined)
		for i := range events.NumField() {
			told = nil
			if tell := events.Field(i); !tell.IsNil() {
				args := make([]reflect.Value, tell.Type().NumIn())
				for at := range args {
					args[at] = reflect.Zero(tell.Type().In(at))
				}
				tell.Call(args)
			} else if c.want != nil {
				t.Errorf("%s is unset", events.Type().Field(i).Name)
			}
			var want []string
			for _, name := range c.want {
				want = append(want, name+events.Type().Field(i).Name)
			}
			if diff := cmp.Diff(want, told); diff != "" {
				t.Error(diff)
			}
		}
	}
}
