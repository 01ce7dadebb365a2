package flight

import "context"

// WithValues returns a context that ends when ctx does, and has the values of another one besides: those of whoever has a
// call made, by which a trace shows the call as a part of what they do. Nothing else of the other context is in it.
func WithValues(ctx, from context.Context) context.Context { return valuesContext{ctx, from} }

type valuesContext struct {
	context.Context

	from context.Context
}

// Value is that of the context itself, by which it also ends, before that of the other one.
func (c valuesContext) Value(key any) any {
	if value := c.Context.Value(key); value != nil {
		return value
	}
	return c.from.Value(key)
}
