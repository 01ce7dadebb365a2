// Package replicas holds tests that start the program as it is shipped, several times on one store, kill, pause and cut
// off whatever can be, and count: of all who present an assertion, at whichever server and whatever happens meanwhile, one
// at most gets a token.
//
// They take seconds. With WAYBILL_REPLICAS=full, as .ci/replicas sets it, they present an assertion 10,000 times at once
// in place of some hundred times, in 100 rounds, and disturb for longer.
package replicas
