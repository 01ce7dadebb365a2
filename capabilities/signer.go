package capabilities

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/flight"
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

	// pause follows a signature that failed. A key in hardware that is out of reach may take
	// seconds to fail, and it is the one that we need to ask a registry.
	pause = time.Second

	// waitTimeout is how long a request waits for others.
	waitTimeout = time.Second

	// renewalTimeout is how long the public JWT waits for others, whoever waits for it.
	renewalTimeout = time.Minute
)

var errLate = errors.New("the key is slow, or too many want a signature")

// A signer signs what we offer.
type signer struct {
	config   Config
	offer    offer
	last     atomic.Pointer[signedToken]   // the public JWT; nil before the first
	renewals *flight.Group[string, string] // one at a time, whose end does not depend on who waits for it

	// semaphore is full while we sign, and who wants to waits in line: no more than one
	// signature of ours is ever in the way of what else the key is used for.
	semaphore chan struct{}
	failure   error // of the last signature, nil when it was good; for whoever holds the semaphore
	failed    time.Time
}

// A signedToken is a JWT, and when it was made by the clock on the wall.
type signedToken struct {
	token string
	at    time.Time
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
	Info2    info2          `json:"capabilities_info"`
}

type info struct {
	Public     []Service  `json:"publicServices"`
	Restricted *[]Service `json:"restrictedServices,omitzero"` // absent for strangers
}

// public is the JWT for everybody.
func (s *signer) public(ctx context.Context) (string, error) {
	if token := s.recent(); token != "" {
		return token, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, waitTimeout, errLate)
	defer cancel()
	renewal, err := s.renewals.Start("", nil, s.renew)
	if err != nil {
		return "", err
	}
	token, err := renewal.Wait(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return "", fmt.Errorf("waiting for a signature: %w", err)
	}
	return token, err
}

// renew makes the public JWT, whoever still waits for it.
func (s *signer) renew(ctx context.Context) (string, error) {
	select {
	case s.semaphore <- struct{}{}:
		defer func() { <-s.semaphore }()
	case <-ctx.Done():
		return "", errLate
	}
	if token := s.recent(); token != "" { // of a renewal that ended as this one began
		return token, nil
	}
	now := time.Now()
	token, err := s.sign("", info{Public: s.offer.public}, now)
	if err == nil {
		s.last.Store(&signedToken{token, now.Round(0)}) // without the monotonic clock: what counts is the time in the JWT
	}
	return token, err
}

// recent is the public JWT, empty when a new one is due.
func (s *signer) recent() string {
	last := s.last.Load()
	if last == nil {
		return ""
	}
	// An age below zero is a clock that was set back.
	if age := time.Since(last.at); age < 0 || age >= reuse {
		return ""
	}
	return last.token
}

// restricted is the JWT for a caller that has shown a token. It is made for every call, so that
// no receiver sees a jti twice: whoever has a token is known, and can be made to stop.
func (s *signer) restricted(ctx context.Context, audience ishare.PartyID, services []Service) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, waitTimeout, errLate)
	defer cancel()
	select {
	case s.semaphore <- struct{}{}:
		defer func() { <-s.semaphore }()
		return s.sign(audience, info{Public: s.offer.public, Restricted: &services}, time.Now())
	case <-ctx.Done():
		return "", fmt.Errorf("waiting to sign: %w", context.Cause(ctx))
	}
}

// sign is for whoever holds the semaphore. For a while after a failure it fails without touching the key.
func (s *signer) sign(audience ishare.PartyID, what info, now time.Time) (string, error) {
	if s.failure != nil && time.Since(s.failed) < pause {
		return "", s.failure
	}
	payload, err := json.Marshal(claims{
		Issuer: s.config.Party, Subject: s.config.Party, Audience: audience,
		ID: rand.Text(), IssuedAt: now.Unix(), Expires: now.Add(lifetime).Unix(),
		Info: what, Info2: earlier(s.config, what),
	})
	if err != nil {
		return "", fmt.Errorf("payload: %w", err)
	}
	token, err := jws.Sign(s.config.Algorithm, s.config.Key, s.config.Certificates, payload)
	s.failure, s.failed = err, time.Now()
	return token, err
}
