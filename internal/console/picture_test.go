package console_test

import (
	"bytes"
	"errors"
	"flag"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

var update = flag.Bool("update", false, "write the pictures of the pages in docs")

// Of what is seen without scrolling, in pixels.
const pictureWidth, pictureHeight = 1200, 900

// picture takes one of the page in light and one in dark. They must look like docs/NAME.png and docs/NAME-dark.png.
func (b *browser) picture(t *testing.T, name string) {
	t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		file := name + map[string]string{"dark": "-dark.png", "light": ".png"}[scheme]
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
		if err := errors.Join(call(b.ctx, emulation.SetEmulatedMedia, media), chromedp.Do(b.ctx, chromedp.EmulateViewport(pictureWidth, pictureHeight))); err != nil {
			t.Fatal(err)
		}
		eval[chromedp.Void](t, b, "scrollTo(0, 0)")
		taken, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		shown, err := png.Decode(bytes.NewReader(taken))
		if err != nil {
			t.Fatal(err)
		}
		inDocs := filepath.Join("..", "..", "docs", file)
		paths := []string{filepath.Join(t.ArtifactDir(), file)}
		if *update {
			paths = append(paths, inDocs)
		}
		for _, path := range paths {
			if err := os.WriteFile(path, small(t, shown), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		compare(t, shown, inDocs)
	}
}

// small encodes a picture with no more than 256 colours: those that are seen most, each other by its nearest.
func small(t *testing.T, shown image.Image) []byte {
	t.Helper()
	seen := map[color.RGBA]int{}
	for y := range shown.Bounds().Dy() {
		for x := range shown.Bounds().Dx() {
			seen[at(shown, x, y)]++
		}
	}
	most := slices.SortedFunc(maps.Keys(seen), func(a, b color.RGBA) int { return seen[b] - seen[a] })
	var palette color.Palette
	for _, c := range most[:min(256, len(most))] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	for c := range seen {
		index[c] = uint8(palette.Index(c))
	}
	few := image.NewPaletted(shown.Bounds(), palette)
	for y := range shown.Bounds().Dy() {
		for x := range shown.Bounds().Dx() {
			few.SetColorIndex(x, y, index[at(shown, x, y)])
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, few); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func at(shown image.Image, x, y int) color.RGBA {
	c, _ := color.RGBAModel.Convert(shown.At(x, y)).(color.RGBA)
	return c
}

// Two pictures are of the same page when, of squares of this size, no more than this share differ by so much on average. Times
// and identifiers differ, and versions of browsers and fonts draw letters otherwise.
const (
	square     = 20
	differing  = .2
	difference = 16 // of 255
)

// compare wants a picture to look like the one of a page.
func compare(t *testing.T, shown image.Image, inDocs string) {
	t.Helper()
	file, err := os.Open(inDocs)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	kept, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	if kept.Bounds() != shown.Bounds() {
		t.Errorf("%s is of %v, want %v", inDocs, kept.Bounds(), shown.Bounds())
		return
	}
	differ, all := 0, 0
	for y := 0; y < pictureHeight; y += square {
		for x := 0; x < pictureWidth; x += square {
			all++
			if d := brightness(shown, x, y) - brightness(kept, x, y); d > difference || d < -difference {
				differ++
			}
		}
	}
	share := float64(differ) / float64(all)
	t.Logf("%s: %d of %d squares differ", inDocs, differ, all)
	if share > differing {
		t.Errorf("%s is not what the page looks like: %.0f%% differ; run go test ./internal/console -run TestInChromium -update and look at it", inDocs, 100*share)
	}
}

// brightness of a square, on average.
func brightness(shown image.Image, left, top int) (sum int) {
	for y := top; y < top+square; y++ {
		for x := left; x < left+square; x++ {
			c, _ := color.GrayModel.Convert(shown.At(x, y)).(color.Gray)
			sum += int(c.Y)
		}
	}
	return sum / (square * square)
}
