package keyfile

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSecret(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("x", maxSecret)
	for _, text := range []string{"pa55 word ", "\tpa55\nword", full} {
		for _, end := range []string{"", "\n", "\r\n", "\n\n"} {
			if text == full && end != "" {
				continue
			}
			if got, problems := ReadSecret(place(t, "secret", []byte(text+end))); got != text || len(problems) > 0 {
				t.Errorf("%q: %q, %v", text+end, got, problems)
			}
		}
	}
}

func TestBadSecrets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, path, message, hint string }{
		{"missing", filepath.Join(t.TempDir(), "none"), "the file cannot be read: no such file or directory", "Check the path"},
		{"folder", t.TempDir(), "the file cannot be read: is a directory", "Check the path"},
		{"empty", place(t, "secret", nil), "the file is empty", "Write the secret into it"},
		{"blank line", place(t, "secret", []byte("\r\n")), "the file is empty", "Write the secret into it"},
		{"too long", place(t, "secret", []byte("pa55word"+strings.Repeat("x", maxSecret-7))), "over 4 KiB", "right file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, problems := ReadSecret(c.path)
			if got != "" || len(problems) != 1 {
				t.Errorf("%q, %v", got, problems)
			}
			wantProblem(t, problems, c.message, c.hint, false)
			discreet(t, problems, "pa55word")
		})
	}
}
