package assertion_test

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/walk.svg instead of comparing it")

const walkPicture = "../docs/walk.svg"

// A pictureRow is a step of the walk, where it stands in the drawing.
type pictureRow struct {
	Name, Words, Rules string
	Star               bool // skipped for a header that was proven before

	X, Y, Dot int
}

// A picturePart is a box with some of them.
type picturePart struct {
	Name, Package    string
	Rows             []pictureRow
	Y, Title, Height int
}

// A picture is all that the drawing shows.
type picture struct {
	Parts []picturePart
	Above string // what holds above the border between the last two parts

	Before, Behind string // the stages on both sides of it

	Border, BorderGap, BorderText int
	End, EndText                  int
	Legend, LegendDot             int
	Height, Frame                 int
}

// TestWalkIsDrawn keeps docs/walk.svg to the picture of docs/architecture.md, which TestPictureShowsTheStages keeps to the stages.
func TestWalkIsDrawn(t *testing.T) {
	want := draw(t, readPage(t, "../docs/architecture.md"))
	if *update {
		if err := os.WriteFile(walkPicture, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(want), readPage(t, walkPicture)); diff != "" {
		t.Errorf("docs/walk.svg is out of date; run go test ./assertion -run TestWalkIsDrawn -update (-want +got):\n%s", diff)
	}
}

// requestRow is a line of the picture about the request itself: what is looked at, and the rules.
var requestRow = regexp.MustCompile(`(?m)^(?: tokenendpoint ─+| +│ {11}) ?(\S.*?)  +([a-z]+[.,]\S*(?: \S+)*)$`)

// draw lays out what the page shows, from the top down.
func draw(t *testing.T, page string) []byte {
	t.Helper()
	request, rest, _ := strings.Cut(page, "\n assertion.Verifier\n")
	rest, _, _ = strings.Cut(rest, "\n accesstoken.Issuer")
	above, below, _ := strings.Cut(rest, nothingAbove)
	p := picture{
		Parts: []picturePart{
			{Name: "The request", Package: "tokenendpoint"},
			{Name: "Who it is", Package: "assertion.Verifier"},
			{Name: "Whether it gets in", Package: "assertion.Verifier"},
		},
		Above: strings.ToUpper(nothingAbove[:1]) + nothingAbove[1:],
	}
	for _, match := range requestRow.FindAllStringSubmatch(request, -1) {
		p.Parts[0].Rows = append(p.Parts[0].Rows, pictureRow{Words: match[1], Rules: match[2], X: 84})
	}
	for i, half := range []string{above, below} {
		for _, match := range row.FindAllStringSubmatch(half, -1) {
			r := pictureRow{Name: match[1], Star: match[2] != "", Words: match[3], Rules: match[4], X: 262}
			if match[5] != "" {
				r.Rules += " … " + match[5]
			}
			p.Parts[i+1].Rows = append(p.Parts[i+1].Rows, r)
		}
	}
	if len(p.Parts[0].Rows) != 2 {
		t.Fatalf("docs/architecture.md says of the request: %v", p.Parts[0].Rows)
	}
	p.Before, p.Behind = p.Parts[1].Rows[len(p.Parts[1].Rows)-1].Name, p.Parts[2].Rows[0].Name
	p.lay()
	var b bytes.Buffer
	drawing, err := template.ParseFiles("testdata/walk.svg.tmpl")
	if err == nil {
		err = drawing.Execute(&b, p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// lay gives everything its place.
func (p *picture) lay() {
	const line, gap = 30, 14
	y := 68
	for i := range p.Parts {
		part := &p.Parts[i]
		if i == len(p.Parts)-1 {
			p.Border, p.BorderGap, p.BorderText = y+8, y-2, y+13
			y += 16 + gap
		}
		part.Y, part.Title = y, y+24
		for j := range part.Rows {
			part.Rows[j].Y = y + 54 + j*line
			part.Rows[j].Dot = part.Rows[j].Y - 5
		}
		part.Height = 54 + len(part.Rows)*line - 12
		y += part.Height + gap
	}
	p.End, p.EndText = y+2, y+22
	p.Legend, p.LegendDot = y+62, y+57
	p.Height = y + 84
	p.Frame = p.Height - 1
}
