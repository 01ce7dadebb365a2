package config

// Unsupported finds keys that this version reads and cannot honour. Whoever starts a
// server must refuse them: a check that an operator asked for and does not get is
// worse than no server. An entry goes when what it names is built.
func (c *Config) Unsupported() []Problem {
	lacking := []struct {
		key, what, mend string
		asked           bool
	}{
		{"state", "state outside this process", "Set state to memory, and run one replica.", !c.State.Memory()},
	}
	var problems []Problem
	for _, l := range lacking {
		if l.asked {
			problems = append(problems, c.Problem(l.key, l.what+" is not supported by this version", l.mend))
		}
	}
	return problems
}
