package audit_test

import (
	"path/filepath"
	"testing"
)

// How long a decision waits for its entry, on the disk of the machine: required or not, and by many at once.
func BenchmarkToken(b *testing.B) {
	for name, required := range map[string]bool{"written": false, "required": true} {
		b.Run(name, func(b *testing.B) {
			trail := open(b, filepath.Join(b.TempDir(), "audit.jsonl"), required)
			defer closed(b, trail)
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				d := issued(1)
				for pb.Next() {
					if err := trail.Token(b.Context(), d); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
