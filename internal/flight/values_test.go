package flight_test

import (
	"context"
	"errors"
	"testing"

	"github.com/waybill-token/waybill/internal/flight"
)

// A call has the values of who began it, and ends with its own context alone.
func TestWithValues(t *testing.T) {
	type key string
	from, leave := context.WithCancelCause(context.WithValue(context.WithValue(t.Context(), key("theirs"), 1), key("both"), 1))
	ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), key("both"), 2))
	joined, end := context.WithCancel(flight.WithValues(ctx, from))
	defer end()
	if joined.Value(key("theirs")) != 1 || joined.Value(key("both")) != 2 || joined.Value(key("none")) != nil {
		t.Errorf("values %v, %v, %v", joined.Value(key("theirs")), joined.Value(key("both")), joined.Value(key("none")))
	}
	leave(errors.New("they have left"))
	if joined.Err() != nil {
		t.Fatal("the call ends with who began it")
	}
	cause := flight.ErrAbandoned
	cancel(cause)
	<-joined.Done()
	if !errors.Is(context.Cause(joined), cause) || !flight.GivenUp(joined) {
		t.Error(context.Cause(joined))
	}
}
