package sandbox

// A standing is what a registrar can say of a party, in the words of both
// frameworks.
type standing struct {
	name    string
	status  string // of compliance in 3.0
	status2 string // of adherence in 2.x, which knows no suspension
	ended   bool   // the dates are over
}

// unknown is the standing of whoever is not in the register at all.
const unknown = "unknown"

// active is the standing of a good participant.
const active = "active"

var standings = []standing{
	{name: active, status: "active", status2: "Active"},
	{name: "pending", status: "inactive", status2: "Pending"},
	{name: "inactive", status: "inactive", status2: "NotActive"},
	{name: "suspended", status: "suspended", status2: "NotActive"},
	{name: "revoked", status: "revoked", status2: "Revoked"},
	{name: "ended", status: "active", status2: "Active", ended: true},
	{name: unknown},
}

func standingNames() []string {
	names := make([]string, len(standings))
	for i, s := range standings {
		names[i] = s.name
	}
	return names
}

func standingOf(name string) standing {
	for _, s := range standings {
		if s.name == name {
			return s
		}
	}
	return standing{name: unknown}
}
