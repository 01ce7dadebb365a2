package registry_test

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/waybill-token/waybill/internal/regular"
	"github.com/waybill-token/waybill/registry"
)

// What is no file is not opened for party records: to open a named pipe could take for ever.
func TestOpenFileThatIsNone(t *testing.T) {
	t.Parallel()
	if _, err := registry.OpenFile(os.DevNull, slog.New(slog.DiscardHandler)); !errors.Is(err, regular.ErrOther) {
		t.Errorf("%v", err)
	}
}
