// Package state is what several servers of one party must agree on, kept in Redis, Valkey or PostgreSQL: which client
// assertions were used, so that all servers together accept each once (RFC 7523 section 3, and iSHARE), and which access
// tokens were revoked.
//
// [Open] begins a [Store], which is a [replay.Store]; [Store.Revocations] are its [accesstoken.TokenRevocations]. [Store.Run] must run
// while they are used. [URL] tells how a store is named.
//
// # The guarantee
//
// Of all who ask about one pair, at whichever server, at most one is answered yes. Whatever goes wrong is an error, never a
// yes: a store that cannot be reached, an answer that does not come within two seconds, one that is lost. The pair of
// such a question may count as used, and the client makes a new assertion. Nothing is asked twice by itself.
//
// # Epochs
//
// A store can forget. Redis is restarted without its data, or with older ones; a replica that lacks the last writes takes the place
// of its primary; somebody empties it. Nobody can undo that, but it can be seen. So the store holds the record of an epoch: since when, by its own
// clock, it has forgotten nothing, and which process or which history of data that is true of. The record is compared, in the
// store, in one step with each use. Where it does not fit, a new epoch begins. What may have been used before had been
// issued before, give or take the leeway and the difference of clocks; it is answered with [replay.UndecidedError], and every later pair is
// judged as usual. A restart or a fail-over costs the leeway and [ClockMargin], thirteen seconds by default and two and a half
// more with sentinels, and no assertion is accepted twice. A server that joins others in an epoch that is old enough serves at once.
//
// # What cannot be seen
//
// A primary of Redis that is cut off from its replica may go on answering some servers while the replica, in its place, answers
// others: then a pair can be accepted at both. Servers that ask the same sentinels use what most of those name, and nothing
// where there is no such primary, so that this does not happen to them. Without sentinels, Config.WaitReplicas narrows it
// and does not close it: a pair counts as used for the first time when so many replicas have it, which a primary that was
// cut off from all of them never reaches, but one that keeps one of several replicas on its side does. PostgreSQL with a
// synchronous standby excludes it.
//
// Nor can be seen that somebody removes single keys, or that the memory of a machine is put back as it was, with the processes in it.
//
// # Clocks
//
// The clocks of the servers and of the store must agree within [ClockTolerance]; a server whose clock is further off gets
// errors. A pair is remembered for [ClockMargin] beyond its end.
//
// # Revocations
//
// They are a log in the store, of which every server keeps a copy that it brings up to date four times a second. No token is
// checked by a copy that is older than a second. When a new epoch begins, each server gives back to the log what its copy
// holds. One that has no copy, because it has just started, and finds a new epoch to which nobody has given anything back, revokes
// every token that was issued before, as does one whose copy is older than a minute by then: nobody knows which were revoked. Clients ask for new ones. A revocation is lost in one case: the store and
// every server that had it are lost together, and a server goes on that had not read it: for a quarter of a second after it was
// made, or for up to a minute if that server was cut off from the store meanwhile.
package state
