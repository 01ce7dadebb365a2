package replay

import "time"

// The names of the files, for tests that look at them or damage them.
const (
	LockFile      = lockFile
	WatermarkFile = watermarkFile
	HandOverFile  = handOverFile
)

// UseAt is Use with the clock at now, for clocks that are set back: the time of a
// testing/synctest bubble only advances.
func (m *Memory) UseAt(now time.Time, p Pair) (bool, error) { return m.use(now, p) }

// Crash ends the store as a killed process does: the kernel takes the lock and the
// open files back, and nothing is written.
func (m *Memory) Crash() error {
	for i := range m.shards {
		m.shards[i].close()
	}
	m.folder.freeze()
	return m.folder.close()
}
