package assertion

import (
	"context"
	"errors"
	"time"

	"github.com/waybill-token/waybill/replay"
)

// An Explainer judges as a [Verifier] of the same configuration does, and admits
// nobody.
type Explainer struct{ verifier *Verifier }

// NewExplainer checks the configuration, of which Replay need not be set, and
// returns an explainer for it.
func NewExplainer(c Config) (*Explainer, error) {
	c.Replay = nobody{c.Leeway}
	v, err := NewVerifier(c)
	if err != nil {
		return nil, err
	}
	return &Explainer{v}, nil
}

// Explain is [Verifier.Explain].
func (e *Explainer) Explain(ctx context.Context, compact string, at time.Time) *Report {
	return e.verifier.Explain(ctx, compact, at)
}

// nobody is the memory of a judge that only explains.
type nobody struct{ leeway time.Duration }

var errExplainOnly = errors.New("assertion: this judge only explains")

// Use fails: nobody gets in.
func (nobody) Use(context.Context, replay.Pair) (bool, error) { return false, errExplainOnly }

// Leeway is the explainer's.
func (n nobody) Leeway() time.Duration { return n.leeway }
