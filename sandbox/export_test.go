package sandbox

import (
	"log/slog"

	"github.com/waybill-token/waybill/internal/testca"
)

// ConfigForTest is a sandbox on free ports, whose keys are made fast.
func ConfigForTest(dir string) Config {
	return Config{
		Dir: dir, Listen: "127.0.0.1:0", CAKeyBits: 2048,
		Log: slog.New(slog.DiscardHandler), Progress: func(string) {},
		newKey: testca.PooledKey,
	}
}
