package sandbox

// What can be the matter with a party's certificate.
const (
	registered   = "registered"   // nothing
	held         = "held"         // revoked at its CA until it is registered again
	revoked      = "revoked"      // revoked at its CA for good: whoever noticed need not ask again
	replaced     = "replaced"     // the registry has a newer one
	unregistered = "unregistered" // the registry has none
)

func certificateChoices() []string {
	return []string{registered, held, revoked, replaced, unregistered}
}
