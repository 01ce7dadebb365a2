// Package replay remembers which client assertions were used, so that none is
// accepted twice (RFC 7523 section 3, and iSHARE: a server shall not accept a JWT
// more than once to authenticate its sender).
//
// # The guarantee
//
// A [Store] answers one question: may this pair of issuer and jti be used now, for
// the first time? Of all who ask about one pair during its life, at the same time
// or one after the other, at most one is answered yes. Whatever goes wrong is an error,
// never a yes. A pair is remembered until the assertion that carried it would be
// refused for its age anyway, and no earlier: a store that is full refuses new
// pairs and forgets none.
//
// [Memory] keeps this promise for one process, and across its restarts. Several
// processes that serve one audience need a store that they share: the folder of a
// Memory is locked, and a second process gets [ErrInUse].
//
// [Open] begins a Memory. Ask it with [Memory.Use] as the last step of judging an
// assertion: a pair that was used is used, whatever is refused afterwards. Close it last,
// when nobody asks any more. Package replaytest tests a Store of your own.
//
// # What a restart costs
//
// A store that is closed writes the living pairs, at most a minute or two of them,
// to a hand-over file in its folder. The next one reads that file, removes it from
// the disk before it answers anybody, and knows exactly what its predecessor knew.
// Clients notice nothing.
//
// A process that is killed, or a machine that loses power, leaves no hand-over, and
// what was used before is unknown. But whatever was used before had been issued
// before, give or take the leeway by which a client's clock may run ahead. So the
// new store answers a pair that was issued earlier than its own start plus the
// leeway with [UndecidedError], and judges every later one as usual. For as long as
// the leeway, ten seconds by default, nobody gets a token after a crash, and nothing
// is accepted twice. Writing each pair to the disk before saying yes would save these
// seconds and cost a disk write for every token.
//
// That rule needs a clock that does not run backwards from one start to the next.
// It may: a machine can boot with a wrong clock. So the store also keeps, in a small
// file that it overwrites at most once a second, a time at or after which no used
// pair was issued: the watermark. After a crash nothing issued before it is accepted.
// The file is not forced to the disk each time: a killed process loses none of it, a
// power cut perhaps some seconds.
//
// # When the clock is set back
//
// A store that has forgotten the pairs that ended by noon cannot tell, when its clock
// returns to half past eleven, which of them were used. It refuses with
// [UndecidedError] every pair that ends before noon, before and after a restart.
// Setting the clock back by less than the 30 seconds that an assertion lives goes
// unnoticed; a clock that was wrongly hours ahead costs these hours, unless the
// operator, who knows that it was wrong, stops the process and removes the files
// whose names begin with "replay." from the folder. Removing them is what a crash is:
// it costs the leeway.
//
// The files must not come from a backup. Those of one run are told from those of
// another by a random number, but nothing shows that a whole folder was put back as it was.
package replay
