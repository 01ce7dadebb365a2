// Package shipped has the program as it is shipped, for tests that run it as a process.
package shipped

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Program is the file of the program: the one that the variable WAYBILL names, or one that is built into the folder.
func Program(folder string) (string, error) {
	if named := os.Getenv("WAYBILL"); named != "" {
		return named, nil
	}
	file := filepath.Join(folder, "waybill")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", file, "github.com/waybill-token/waybill/cmd/waybill") //nolint:gosec // the folder is the tests' own
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, said)
	}
	return file, nil
}
