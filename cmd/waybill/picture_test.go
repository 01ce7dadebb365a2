package main

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"text/template"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/explain"
	"github.com/waybill-token/waybill/provider"
)

const explainPicture = "../../docs/explain.svg"

// pictureAbout says what the picture shows, for whoever does not see it.
const pictureAbout = "An assertion is pasted into waybill explain. It says that x5c holds PEM text and that the assertion lives " +
	"for too long, each with a mend, that every other rule which can be judged holds, and what the rest would take."

// The assertion of the picture was made at this time. It is explained three minutes later.
var pictured = time.Date(2026, 11, 30, 9, 18, 21, 0, time.UTC)

// TestExplainIsPictured keeps docs/explain.svg to what the command prints on a terminal with colours.
func TestExplainIsPictured(t *testing.T) {
	input, err := os.ReadFile("../../internal/explain/testdata/pem-in-x5c.in")
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(pictured.Add(3 * time.Minute)))
		want = drawTerminal(t, "pbpaste | waybill explain", pictureAbout, explained(t, string(input)))
	})
	if *update {
		if err := os.WriteFile(explainPicture, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(explainPicture)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/explain.svg is out of date; run go test ./cmd/waybill -run TestExplainIsPictured -update (-want +got):\n%s", diff)
	}
}

// explained is what the command prints of an input, in colours, which it has on a terminal only.
func explained(t *testing.T, input string) string {
	t.Helper()
	var plain, coloured bytes.Buffer
	c := &command{streams: streams{strings.NewReader(input), &plain, &plain}, getenv: func(string) string { return "" }}
	if err := c.root().Run(t.Context(), []string{"waybill", "explain"}); !errors.Is(err, errNo) {
		t.Fatal(err)
	}
	explainer, err := assertion.NewExplainer(assertion.Config{}, defaultLeeway)
	if err != nil {
		t.Fatal(err)
	}
	in, err := explain.Read(input)
	if err != nil {
		t.Fatal(err)
	}
	view, err := explain.Explain(t.Context(), in, explain.Options{
		Give: toGive(),
		Judge: func(ctx context.Context, request assertion.Request, at time.Time) (*provider.Explanation, error) {
			return &provider.Explanation{Report: explainer.ExplainRequest(ctx, request, at)}, nil
		},
	})
	if err == nil {
		err = view.WriteText(&coloured, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain.String(), escape.ReplaceAllString(coloured.String(), "")); diff != "" {
		t.Fatalf("the command prints (-command +here):\n%s", diff)
	}
	return coloured.String()
}

// escape is what sets a colour, or takes it back.
var escape = regexp.MustCompile(`\x1b\[(\d+)m`)

var colours = map[string]string{"0": "", "1": "bold", "31": "red", "32": "green", "33": "yellow"}

// A cell of a terminal holds a character.
type cell struct {
	character rune
	colour    string
}

// cells of a text in one colour.
func cells(text, colour string) (row []cell) {
	for _, r := range text {
		row = append(row, cell{r, colour})
	}
	return row
}

// screen is what a terminal of the usual width shows of what was printed.
func screen(t *testing.T, printed string) (rows [][]cell) {
	t.Helper()
	colour := ""
	for line := range strings.SplitSeq(strings.TrimSuffix(printed, "\n"), "\n") {
		var row []cell
		for rest := line; rest != ""; {
			text, next := rest, ""
			if at := escape.FindStringSubmatchIndex(rest); at != nil {
				text, next, rest = rest[:at[0]], rest[at[2]:at[3]], rest[at[1]:]
			} else {
				rest = ""
			}
			row = append(row, cells(text, colour)...)
			if next != "" {
				var known bool
				if colour, known = colours[next]; !known {
					t.Fatalf("nobody knows colour %s", next)
				}
			}
		}
		for len(row) > explain.Width { // it goes on below
			rows, row = append(rows, row[:explain.Width]), row[explain.Width:]
		}
		rows = append(rows, row)
	}
	return rows
}

// A piece of a row has one colour, and no blanks but single ones: fonts differ, and columns stay where they are.
type piece struct {
	Text, Colour string
	X, Y, Length float64
}

// Sizes of the drawing, in pixels.
const (
	cellWidth, cellHeight = 7.8, 18.0
	margin, barHeight     = 20, 34
)

func pieces(row []cell, y float64) (list []piece) {
	blank := func(i int) bool { return i >= len(row) || row[i].character == ' ' }
	for from := 0; from < len(row); from++ {
		if blank(from) {
			continue
		}
		to := from
		for to < len(row) && row[to].colour == row[from].colour && (!blank(to) || !blank(to+1)) {
			to++
		}
		var text strings.Builder
		for _, c := range row[from:to] {
			text.WriteRune(c.character)
		}
		p := piece{Text: strings.TrimRight(text.String(), " "), Colour: row[from].colour, X: margin + round(float64(from)*cellWidth), Y: y}
		p.Length = round(float64(len([]rune(p.Text))) * cellWidth)
		list = append(list, p)
		from = to - 1
	}
	return list
}

// round keeps one digit of a fraction.
func round(x float64) float64 { return math.Round(x*10) / 10 }

// drawTerminal draws a terminal in which a command was typed and has printed something.
func drawTerminal(t *testing.T, command, about, printed string) []byte {
	t.Helper()
	rows := append([][]cell{append(cells("$ ", "prompt"), cells(command, "typed")...)}, screen(t, printed)...)
	drawing := struct {
		Command, About                     string
		Width, Height, Right, Edge, Bottom int
		Pieces                             []piece
	}{
		Command: command, About: about,
		Width:  2*margin + int(math.Ceil(explain.Width*cellWidth)),
		Height: barHeight + 2*margin + len(rows)*int(cellHeight) - 6,
	}
	drawing.Right, drawing.Edge, drawing.Bottom = drawing.Width-1, drawing.Width-11, drawing.Height-1
	for i, row := range rows {
		drawing.Pieces = append(drawing.Pieces, pieces(row, barHeight+margin+float64(i)*cellHeight+8)...)
	}
	var b bytes.Buffer
	picture, err := template.ParseFiles("testdata/terminal.svg.tmpl")
	if err == nil {
		err = picture.Execute(&b, drawing)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
