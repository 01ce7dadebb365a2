package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Switch is one thing about a running sandbox that can be changed: a party's
// standing, a certificate, what the registry does instead of answering.
type Switch struct {
	Name    string   `json:"name"`    // such as consumer.standing
	About   string   `json:"about"`   // what it changes
	Value   string   `json:"value"`   // where it stands
	Choices []string `json:"choices"` // where it can stand
}

// Errors of [Sandbox.Set]. They are wrapped with what there is instead.
var (
	ErrNoSwitch = errors.New("there is no such switch")
	ErrNoChoice = errors.New("the switch has no such position")
)

// A dial is a switch from the inside. It is safe for concurrent use.
type dial struct {
	name, about string
	choices     []string
	initial     string             // where it stands at every start
	turned      func(value string) // carries a turn out; may be nil

	mu    sync.Mutex
	value string
}

func newDial(d *dial) *dial {
	d.turn(d.initial)
	return d
}

// turn is called with a value that is one of the choices.
func (d *dial) turn(value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.value = value
	if d.turned != nil {
		d.turned(value)
	}
}

func (d *dial) set(value string) error {
	if !slices.Contains(d.choices, value) {
		return fmt.Errorf("%w: %s can be %s", ErrNoChoice, d.name, strings.Join(d.choices, ", "))
	}
	d.turn(value)
	return nil
}

func (d *dial) get() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.value
}

// A board holds every dial of a sandbox.
type board []*dial

func (b board) find(name string) (*dial, error) {
	names := make([]string, len(b))
	for i, d := range b {
		if d.name == name {
			return d, nil
		}
		names[i] = d.name
	}
	return nil, fmt.Errorf("%w; there are %s", ErrNoSwitch, strings.Join(names, ", "))
}

func (b board) set(name, value string) error {
	d, err := b.find(name)
	if err != nil {
		return err
	}
	return d.set(value)
}

func (b board) reset() {
	for _, d := range b {
		d.turn(d.initial)
	}
}

func (b board) switches() []Switch {
	list := make([]Switch, len(b))
	for i, d := range b {
		list[i] = Switch{Name: d.name, About: d.about, Value: d.get(), Choices: d.choices}
	}
	return list
}
