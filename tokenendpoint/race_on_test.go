//go:build race

package tokenendpoint_test

const raceEnabled = true
