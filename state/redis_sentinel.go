package state

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/valkey-io/valkey-go"
)

// sentinels know which server is the primary. They learn of a new one at different times, so two servers that each ask one
// of them may use two primaries at once. So all are asked, whenever the store is, and the primary is what more than half
// of them name. A sentinel that has named a new primary does not name the old one again. Once so many name the new one, no
// server finds the old one any more; it goes on with what it found before for no longer than fresh, and what it may have
// accepted until then the new one does not judge. This holds when all servers ask the same sentinels.
type sentinels struct {
	name string
	all  []*sentinel
}

type sentinel struct {
	options valkey.ClientOption

	mu     sync.Mutex // held while it is asked
	client valkey.Client
}

// newSentinels prepares clients with the options of those of servers.
func newSentinels(u *redisURL, options valkey.ClientOption) *sentinels {
	options.SelectDB = 0
	if !u.sentinelAuth {
		options.Username, options.Password = "", ""
	}
	s := &sentinels{name: u.primary}
	for _, host := range u.hosts {
		options.InitAddress = []string{host}
		s.all = append(s.all, &sentinel{options: options})
	}
	return s
}

var (
	errNoAnswer = errors.New("no answer")
	errUnknown  = errors.New("it knows no primary of this name")
)

// primary returns the address that more than half of the sentinels name, as soon as they do.
func (s *sentinels) primary(ctx context.Context) (string, error) {
	type answer struct {
		from    int
		address string
		err     error
	}
	answers := make(chan answer, len(s.all))
	said := make([]error, len(s.all))
	for i, one := range s.all {
		said[i] = errNoAnswer
		go func() {
			address, err := one.ask(ctx, s.name)
			answers <- answer{i, address, err}
		}()
	}
	named := map[string]int{}
	for range s.all {
		select {
		case <-ctx.Done():
			return "", s.disagreement(said)
		case a := <-answers:
			if said[a.from] = a.err; a.err != nil {
				continue
			}
			said[a.from] = errors.New("it names " + a.address)
			named[a.address]++
			if named[a.address] > len(s.all)/2 {
				return a.address, nil
			}
		}
	}
	return "", s.disagreement(said)
}

// disagreement tells what each of the sentinels said.
func (s *sentinels) disagreement(said []error) error {
	parts := make([]string, len(said))
	for i, err := range said {
		parts[i] = fmt.Sprintf("%s: %v", s.all[i].options.InitAddress[0], withMend(err))
	}
	return fmt.Errorf("want more than half of the sentinels to name the same primary as %q; %s", s.name, strings.Join(parts, "; "))
}

func (s *sentinels) close() {
	for _, one := range s.all {
		one.close()
	}
}

// ask returns the address that the sentinel has for the name. Only the first connection is made here.
func (s *sentinel) ask(ctx context.Context, name string) (string, error) {
	if !s.mu.TryLock() {
		return "", errNoAnswer // to the question before
	}
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if s.client == nil {
		client, err := newRedisClient(s.options)
		if err != nil {
			return "", err
		}
		s.client = client
	}
	parts, err := s.client.Do(ctx, s.client.B().SentinelGetMasterAddrByName().Master(name).Build()).AsStrSlice()
	switch {
	case valkey.IsValkeyNil(err):
		return "", errUnknown
	case err != nil:
		return "", err
	case len(parts) != 2:
		return "", errUnexpected
	}
	return net.JoinHostPort(parts[0], parts[1]), nil
}

func (s *sentinel) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		s.client.Close()
	}
}
