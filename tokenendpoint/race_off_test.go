//go:build !race

package tokenendpoint_test

const raceEnabled = false
