package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

// heapGoal is how large the heap may grow before garbage is collected.
func heapGoal() uint64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// Garbage is collected later than by default, unless the environment says when.
func TestReserveHeap(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	for name, c := range map[string]struct {
		environment map[string]string
		reserves    bool
	}{
		"nothing said":       {nil, true},
		"a percentage":       {map[string]string{"GOGC": "200"}, false},
		"the usual one":      {map[string]string{"GOGC": "100"}, false},
		"a limit":            {map[string]string{"GOMEMLIMIT": "100MiB"}, false},
		"a variable for all": {map[string]string{"GOMAXPROCS": "2"}, true},
	} {
		before := heapGoal()
		reserve := reserveHeap(func(name string) string { return c.environment[name] })
		after := heapGoal()
		if grown := after >= before+heapReserve; grown != c.reserves {
			t.Errorf("%s: the heap may grow to %d bytes, and to %d before", name, after, before)
		}
		runtime.KeepAlive(reserve)
	}
}
