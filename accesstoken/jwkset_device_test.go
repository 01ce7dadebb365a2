package accesstoken

import (
	"errors"
	"os"
	"testing"

	"github.com/waybill-token/waybill/internal/regular"
)

// What is no file is not opened as a key set: to open a named pipe could take for ever.
func TestKeySetThatIsNoFile(t *testing.T) {
	t.Parallel()
	if _, err := OpenKeys(os.DevNull, nil); !errors.Is(err, regular.ErrOther) {
		t.Errorf("OpenKeys: %v", err)
	}
	if _, err := CheckKeys(os.DevNull); !errors.Is(err, regular.ErrOther) {
		t.Errorf("CheckKeys: %v", err)
	}
}
