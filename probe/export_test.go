package probe

import "github.com/waybill-token/waybill/internal/testca"

// Cheaply has a run forge with keys that cost little.
func Cheaply(c Config) Config {
	c.newKey = testca.PooledKey
	return c
}

// CheapTestSeals is NewTestSeals with such keys, and the certificate of the CA alone.
func CheapTestSeals(ca, own *testca.Identity) (*TestSeals, error) {
	return newTestSeals(ca.Key, ca.Chain[:1], own.Chain, testca.PooledKey)
}
