package console

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/explain"
)

// An explainView is what was pasted, and what is to be said about it.
type explainView struct {
	Text  string
	Now   bool          // judged at this moment, not when it says that it was made
	View  *explain.View // nil: there is nothing to say yet
	Other string        // what it is in place of an assertion
}

func (c *console) showExplain(w http.ResponseWriter, _ *http.Request) {
	c.show(w, http.StatusOK, "explain", view{Title: "Explain", Path: "/explain", Page: explainView{}})
}

func (c *console) useExplain(w http.ResponseWriter, r *http.Request) {
	if !c.form(w, r) {
		return
	}
	text := r.PostForm.Get("text")
	if r.MultipartForm != nil && len(r.MultipartForm.File["file"]) > 0 {
		if f, err := r.MultipartForm.File["file"][0].Open(); err == nil {
			content, err := io.ReadAll(io.LimitReader(f, MaxBody))
			if err == nil && strings.TrimSpace(text) == "" {
				text = string(content)
			}
			_ = f.Close() // which was only read
		}
	}
	v, err := c.explain(r, text, r.PostForm.Get("at") == "now")
	if err != nil {
		c.problem(w, http.StatusInternalServerError, "That cannot be judged: "+err.Error()+".")
		return
	}
	c.show(w, http.StatusOK, "explain", view{Title: "Explain", Path: "/explain", Page: v})
}

// explain says of what was pasted what the provider would, as the command does. Nothing of it is kept.
func (c *console) explain(r *http.Request, text string, now bool) (explainView, error) {
	v := explainView{Text: text, Now: now}
	if strings.TrimSpace(text) == "" {
		v.Other = "There is nothing to explain: paste something first."
		return v, nil
	}
	in, err := explain.Read(text)
	if other, ok := errors.AsType[*explain.OtherError](err); ok {
		v.Other = explain.Printable(other.What) + ". " + other.Do
		return v, nil
	} else if err != nil {
		return v, err
	}
	var at time.Time
	if now {
		at = time.Now()
	}
	v.View, err = c.judge(r.Context(), in, at)
	return v, err
}
