package daemon

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/waybill-token/waybill/internal/respond"
)

// readiness is the answer of /readyz.
type readiness struct {
	Ready    bool      `json:"ready"`
	Parties  int       `json:"parties"`
	Loaded   time.Time `json:"parties_loaded,omitzero"`
	From     time.Time `json:"tokens_from,omitzero"` // when tokens are given from; zero: they are
	Problems []string  `json:"problems,omitempty"`   // what an operator should see to
}

func live(w http.ResponseWriter, _ *http.Request) {
	respond.JSON(w, http.StatusOK, struct {
		Live bool `json:"live"`
	}{true})
}

func (d *Daemon) ready(w http.ResponseWriter, _ *http.Request) {
	state := d.readiness()
	status := http.StatusOK
	if !state.Ready {
		status = http.StatusServiceUnavailable
	}
	respond.JSON(w, status, state)
}

func (d *Daemon) readiness() readiness {
	current := d.current.Load()
	state := current.from.readiness()
	if state.Ready = !d.draining.Load(); !state.Ready {
		state.Problems = append(state.Problems, "listen.shutdown_delay: the server is stopping")
	}
	if from := d.memory.tokensFrom(); time.Now().Before(from) {
		state.Ready, state.From = false, from
		state.Problems = append(state.Problems, "state: tokens are given from "+from.Format(time.RFC3339)+" on: assertions issued before may have been used")
	}
	if err := d.memory.revoked.RecoveryError(); err != nil {
		state.Problems = append(state.Problems, "state: "+err.Error())
	}
	if err := current.keys.Problem(); err != nil {
		state.Problems = append(state.Problems, "tokens.keys: "+err.Error())
	}
	state.Problems = slices.Concat(state.Problems, d.watches.readiness(), d.public.Problems(), d.internal.Problems())
	return state
}

// readiness tells how knowledge is had. What is out of reach is a problem and no
// reason to stop sending requests: those who are known still get tokens.
func (s *sources) readiness() readiness {
	var state readiness
	tell := func(key string, err error) {
		if err != nil {
			state.Problems = append(state.Problems, key+": "+err.Error())
		}
	}
	if s.file != nil {
		status := s.file.Status()
		state.Parties, state.Loaded = status.Parties, status.Loaded
		if status.Err != nil {
			tell("participants.file", fmt.Errorf("the records read before are in use: %w", status.Err))
		}
	}
	if s.cache != nil {
		stats := s.cache.Stats()
		state.Parties, state.Loaded = stats.Parties, stats.Answered
		tell("participants.registry", stats.Err)
	}
	if s.clients.list != nil {
		tell("trust.trusted_list", s.clients.list.Stats().Err)
	}
	return state
}
