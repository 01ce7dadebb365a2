package replay_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/replay"
)

// kept is what a folder holds, by name. A name that is absent is missing.
type kept map[string][]byte

func readKept(t *testing.T, dir string) kept {
	t.Helper()
	all := kept{}
	for _, name := range []string{replay.WatermarkFile, replay.HandOverFile} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			all[name] = data
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return all
}

func (k kept) with(name string, data []byte) kept {
	changed := maps.Clone(k)
	changed[name] = data
	return changed
}

func (k kept) without(name string) kept {
	changed := maps.Clone(k)
	delete(changed, name)
	return changed
}

// beforeDamage is the time of a bubble in which the lives are over that are damaged then.
const beforeDamage = time.Hour

func damagedConfig(dir string) replay.Config { return replay.Config{Dir: dir, Leeway: leeway} }

// usedPairs are issued now, which is [beforeDamage] in every bubble.
func usedPairs() []replay.Pair {
	pairs := make([]replay.Pair, 20)
	for i := range pairs {
		pairs[i] = fresh(fmt.Sprint("used ", i))
	}
	return pairs
}

// threeLives leaves what a folder holds after each of three lives that were ended as they
// should, and of a fourth one that was killed. The first three shared the pairs between
// them; all pairs were used by then.
func threeLives(t *testing.T) (ended []kept, killed kept) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(beforeDamage)
		pairs := usedPairs()
		config := damagedConfig(dir)
		config.NoHistory = true
		for i := range 3 {
			m := life(t, config)
			for _, p := range pairs[7*i : min(7*i+7, len(pairs))] {
				wantFirst(t, m, p)
			}
			stop(t, m)
			ended = append(ended, readKept(t, dir))
		}
		crash(t, life(t, config))
		killed = readKept(t, dir)
	})
	return ended, killed
}

// damagedFolders are damaged in every way that one file can be, by name.
func damagedFolders(ended []kept, killed kept) map[string]kept {
	last := ended[2]
	all := map[string]kept{
		"killed": killed,
		"empty":  {},
	}
	for i, earlier := range ended[:2] {
		all[fmt.Sprint("hand-over of life ", i)] = last.with(replay.HandOverFile, earlier[replay.HandOverFile])
		all[fmt.Sprint("hand-over of life ", i, " after a kill")] = killed.with(replay.HandOverFile, earlier[replay.HandOverFile])
		if !bytes.Equal(earlier[replay.WatermarkFile], last[replay.WatermarkFile]) {
			all[fmt.Sprint("mark of life ", i)] = last.with(replay.WatermarkFile, earlier[replay.WatermarkFile])
		}
	}
	for name, step := range map[string]int{replay.WatermarkFile: 1, replay.HandOverFile: 16} {
		data := last[name]
		all[name+" removed"] = last.without(name)
		all[name+" doubled"] = last.with(name, append(bytes.Clone(data), data...))
		for i := 0; i < len(data); i += step {
			flipped := bytes.Clone(data)
			flipped[i] ^= 1 << (i / step % 8)
			all[fmt.Sprint(name, " flipped at ", i)] = last.with(name, flipped)
			all[fmt.Sprint(name, " cut at ", i)] = last.with(name, data[:i])
			zeros := append(bytes.Clone(data[:i]), make([]byte, len(data)-i)...)
			all[fmt.Sprint(name, " zero from ", i)] = last.with(name, zeros)
		}
	}
	const record = sha256.Size + 8
	data := last[replay.HandOverFile]
	records := len(data) - sha256.Size - 20*record
	for i := range 20 {
		at := records + i*record
		all[fmt.Sprint("record gone ", i)] = last.with(replay.HandOverFile, slices.Delete(bytes.Clone(data), at, at+record))
		all[fmt.Sprint("record doubled ", i)] = last.with(replay.HandOverFile, slices.Insert(bytes.Clone(data), at, data[at:at+record]...))
	}
	return all
}

// Whatever is damaged in a folder, no pair that was used is let in again; and after the
// doubt, new ones are.
func TestDamagedFolders(t *testing.T) {
	t.Parallel()
	all := damagedFolders(threeLives(t))
	if len(all) < 400 {
		t.Errorf("only %d damaged folders", len(all))
	}
	for group := range slices.Chunk(slices.Sorted(maps.Keys(all)), 64) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for _, name := range group {
				dir := t.TempDir()
				for file, data := range all[name] {
					write(file, string(data))(t, dir)
				}
				synctest.Test(t, func(t *testing.T) { liveOn(t, dir, name) })
			}
		})
	}
}

// liveOn begins a life on a damaged folder, at the time at which the last one ended.
func liveOn(t *testing.T, dir, name string) {
	t.Helper()
	time.Sleep(beforeDamage)
	m := life(t, damagedConfig(dir))
	if m.RecoveryError() == nil {
		t.Errorf("%s: no doubt", name)
	}
	pairs := usedPairs()
	for range 4 {
		for _, p := range pairs {
			if first, err := m.Use(t.Context(), p); first {
				t.Errorf("%s: %s is let in again (%v)", name, p.JTI, err)
			}
		}
		time.Sleep(leeway)
	}
	time.Sleep(replay.MaxLeeway)
	wantFirst(t, m, fresh("new"))
	stop(t, m)
}
