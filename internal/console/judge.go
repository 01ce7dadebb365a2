package console

import (
	"context"
	"time"

	"github.com/waybill-token/waybill/internal/explain"
	"github.com/waybill-token/waybill/rule"
)

// judge says what the provider would of what was found in a text, and admits nobody. At is the time; zero: when it was made. It is
// the one place where pages have something judged.
func (c *console) judge(ctx context.Context, in *explain.Input, at time.Time) (*explain.View, error) {
	return explain.Explain(ctx, in, explain.Options{Judge: c.Sandbox.Explain, At: at, Scopes: c.Sandbox.Scopes()})
}

// decided shows a request that the provider has answered: by the reason, or with a token where there is none.
func (c *console) decided(ctx context.Context, in *explain.Input, at time.Time, reason *rule.Rule, sentence string) *explain.View {
	v, err := c.judge(ctx, in, at)
	if err != nil {
		v = explain.Unjudged() // and what was decided is known all the same
	}
	v.Decided(at, reason, sentence, "")
	return v
}
