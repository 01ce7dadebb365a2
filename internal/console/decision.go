package console

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/sandbox"
)

// A decisionPage is a decision with all that can be said about it.
type decisionPage struct {
	decisionView

	ClientID string
	Status   int
	Ladder   ladder
	JWT      *jwtView // nil: there was no assertion in the request
}

func (c *console) showDecision(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.ParseUint(r.PathValue("number"), 10, 64)
	found := c.Sandbox.Decisions(number)
	if err != nil || len(found) == 0 || found[0].Number != number {
		c.problem(w, http.StatusNotFound, "There is no such decision, or it is too long ago: the last "+strconv.Itoa(sandbox.MaxDecisions)+" are kept.")
		return
	}
	d := &found[0]
	v := decisionPage{decisionView: c.line(d), ClientID: cut(d.ClientID(), maxSent), Status: d.Status}
	v.Ladder, v.JWT = c.explainDecided(r.Context(), d.Assertion(), decided{d.Rule, d.Sentence}, d.Time)
	c.show(w, http.StatusOK, "decision", view{Title: "Decision " + strconv.FormatUint(number, 10), Path: "/", Page: v})
}

// explainDecided makes the ladder of a request that was answered at a time, and takes its assertion apart.
func (c *console) explainDecided(ctx context.Context, compact string, d decided, at time.Time) (ladder, *jwtView) {
	if compact == "" {
		return decidedLadder(d, nil, nil), nil
	}
	report, err := c.judge(ctx, assertion.Request{Assertion: compact}, at)
	if err != nil {
		report = nil // and what was decided is known all the same
	}
	parts := newJWTView(compact, report, at)
	return decidedLadder(d, report, sentParts(compact)), &parts
}
