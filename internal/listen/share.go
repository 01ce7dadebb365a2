package listen

const (
	most         = 4096 // connections of the public listener, unless the configuration says otherwise
	mostInternal = 256  // of the internal listener
	mostOther    = 256  // descriptors for files, and for calls to registries and status services
	leastOther   = 40   // what a server has open that answers nobody, and some calls
	leastPublic  = 16   // as limits.connections has it
	unlimited    = 1 << 20
)

// A Share says how many connections each listener may have open, so that the descriptors of
// the process are never used up.
type Share struct {
	Public, Internal int
	Lowered          bool // Public is less than what was wanted
}

// NewShare divides as many descriptors as [Descriptors] gives. Wanted is the limit of the
// public listener; 0 takes what there is, up to 4,096. The internal listener and what the
// server itself opens have their parts first, below 64 descriptors the server itself. Where
// requests are passed on, each may need a second descriptor.
func NewShare(descriptors, wanted int, passedOn bool) Share {
	s := Share{Internal: min(mostInternal, descriptors/8)}
	s.Public = descriptors - s.Internal - max(leastOther, min(mostOther, descriptors/4))
	if passedOn {
		s.Public /= 2
	}
	s.Public = max(1, s.Public)
	if wanted == 0 {
		wanted = max(leastPublic, min(most, s.Public))
	}
	s.Lowered = wanted > s.Public
	s.Public = min(wanted, s.Public)
	return s
}
