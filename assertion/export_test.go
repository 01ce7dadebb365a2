package assertion

// Remembered is the number of headers in the cache of signers.
func (v *Verifier) Remembered() int { return v.signers.EstimatedSize() }
