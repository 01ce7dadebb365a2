package config

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// Log says what the log holds, and how it looks.
type Log struct {
	Level   LogLevel  `yaml:"level" default:"info"`
	Format  LogFormat `yaml:"format" default:"auto"`
	Guarded bool      `yaml:"guarded"` // true: an event for each guarded request too
}

// Audit says where the audit trail is kept.
type Audit struct {
	File     Path `yaml:"file" required:"true"` // or AuditStdout
	Required bool `yaml:"required"`             // true: no token is given that the trail does not have
}

// AuditStdout in the place of a file is standard output.
const AuditStdout = Path("-")

// Tracing says where spans are sent.
type Tracing struct {
	Endpoint Upstream `yaml:"endpoint" required:"true"` // of a collector that takes OTLP over HTTP
	Sample   Share    `yaml:"sample" default:"1"`       // of the requests that come without a trace
}

// A LogLevel is the least severe kind of event that is logged.
type LogLevel struct{ slog.Level }

// UnmarshalText reads a level by its name.
func (l *LogLevel) UnmarshalText(text []byte) error {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(level.String(), string(text)) {
			l.Level = level
			return nil
		}
	}
	return fmt.Errorf("want debug, info, warn or error, got %q", text)
}

// A LogFormat is how lines of the log look.
type LogFormat uint8

// The formats.
const (
	LogAuto LogFormat = iota // text on a terminal, JSON elsewhere
	LogText
	LogJSON
)

// IsText reports whether lines are text for people, and no JSON.
func (f LogFormat) IsText(onTerminal bool) bool {
	return f == LogText || f == LogAuto && onTerminal
}

// A Share is a number from 0 to 1.
type Share float64

// UnmarshalText reads a share, as 0.25 or 25%.
func (s *Share) UnmarshalText(text []byte) error {
	number, percent := strings.CutSuffix(string(text), "%")
	value, err := strconv.ParseFloat(number, 64)
	if percent {
		value /= 100
	}
	if err != nil || !(value >= 0 && value <= 1) { // which NaN is not
		return errors.New("want a share from 0 to 1, such as 0.25 or 25%")
	}
	*s = Share(value)
	return nil
}
