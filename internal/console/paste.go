package console

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// An explainView is what was pasted, and what is to be said about it.
type explainView struct {
	Text   string
	Now    bool // judged at this moment, not when it says that it was made
	At     string
	Notes  []string
	Ladder *ladder // nil: there is nothing to say yet
	JWT    *jwtView
	Other  string // what it is in place of an assertion
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

// explain says of what was pasted what the provider would. Nothing of it is kept.
func (c *console) explain(r *http.Request, text string, now bool) (explainView, error) {
	v := explainView{Text: text, Now: now}
	compact := strings.TrimSpace(text)
	if compact == "" {
		v.Other = "There is nothing to explain: paste something first."
		return v, nil
	}
	at := time.Now()
	if made, ok := issued(compact); ok && !now {
		at = made
		v.At = "Judged at the moment at which it says that it was made, " + asWords(made, time.Now()) + "."
	} else {
		v.At = "Judged at this moment."
	}
	report, err := c.judge(r.Context(), compact, at)
	if err != nil {
		return v, err
	}
	l, parts := judgedLadder(report, sentParts(compact)), newJWTView(compact, report, at)
	v.Ladder, v.JWT = &l, &parts
	return v, nil
}
