package capabilities

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
)

const (
	// lifetime is what iSHARE gives every JWT.
	lifetime = 30 * time.Second

	// reuse is how long one public JWT is given to everybody. A signature takes a
	// millisecond, or much longer in hardware, and any stranger can ask for it. It leaves the
	// last of them 25 seconds to read it.
	reuse = 5 * time.Second
)

// A speaker signs what we offer.
type speaker struct {
	config Config
	offer  offer

	mu    sync.Mutex // held while a public JWT is signed: one at a time is enough
	last  string
	since time.Time
}

// claims are the payload of the JWT.
type claims struct {
	Issuer   ishare.PartyID `json:"iss"`
	Subject  ishare.PartyID `json:"sub"`
	Audience ishare.PartyID `json:"aud,omitempty"`
	ID       string         `json:"jti"`
	IssuedAt int64          `json:"iat"`
	Expires  int64          `json:"exp"`
	Info     info           `json:"capabilitiesInfo"`
}

type info struct {
	Public     []Service  `json:"publicServices"`
	Restricted *[]Service `json:"restrictedServices,omitzero"` // absent for strangers
}

// public is the JWT for everybody.
func (s *speaker) public() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// An age below zero is a clock that was set back.
	if age := time.Since(s.since); s.last != "" && 0 <= age && age < reuse {
		return s.last, nil
	}
	now := time.Now()
	token, err := s.sign("", info{Public: s.offer.public}, now)
	if err != nil {
		return "", err
	}
	// Without the monotonic clock: what counts is the time in the JWT.
	s.last, s.since = token, now.Round(0)
	return token, nil
}

// restricted is the JWT for a caller that has shown a token. It is made for every call, so that
// no receiver sees a jti twice: whoever has a token is known, and can be made to stop.
func (s *speaker) restricted(audience ishare.PartyID) (string, error) {
	return s.sign(audience, info{Public: s.offer.public, Restricted: &s.offer.restricted}, time.Now())
}

func (s *speaker) sign(audience ishare.PartyID, what info, now time.Time) (string, error) {
	payload, err := json.Marshal(claims{
		Issuer: s.config.Party, Subject: s.config.Party, Audience: audience,
		ID: rand.Text(), IssuedAt: now.Unix(), Expires: now.Add(lifetime).Unix(), Info: what,
	})
	if err != nil {
		return "", fmt.Errorf("payload: %w", err)
	}
	return jws.Sign(s.config.Algorithm, s.config.Key, s.config.Certificates, payload)
}
