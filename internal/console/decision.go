package console

import (
	"net/http"
	"strconv"

	"github.com/waybill-token/waybill/internal/explain"
	"github.com/waybill-token/waybill/sandbox"
)

// A decisionPage is a decision with all that can be said about it.
type decisionPage struct {
	decisionView

	ClientID string
	Status   int
	View     *explain.View
}

func (c *console) showDecision(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.ParseUint(r.PathValue("number"), 10, 64)
	found := c.Sandbox.Decisions(number)
	if err != nil || len(found) == 0 || found[0].Number != number {
		c.problem(w, http.StatusNotFound, "There is no such decision, or it is too long ago: the last "+strconv.Itoa(sandbox.MaxDecisions)+" are kept.")
		return
	}
	d := &found[0]
	v := decisionPage{decisionView: c.line(d), ClientID: cut(d.ClientID(), maxWho), Status: d.Status}
	v.View = c.decided(r.Context(), explain.OfRequest(d.Request()), d.Time, d.Rule, d.Sentence)
	c.show(w, http.StatusOK, "decision", view{Title: "Decision " + strconv.FormatUint(number, 10), Path: "/", Page: v})
}
