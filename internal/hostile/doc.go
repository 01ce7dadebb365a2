// Package hostile holds tests that start the program as it is shipped, on a data space of its own, and treat it as
// strangers on the Internet, failing dependencies and operators do: attacks over sockets, outages, reloads and restarts
// under load, and a soak whose oracle knows every answer.
//
// They take minutes and are therefore skipped unless WAYBILL_HOSTILE says in which form they are to run, short or full.
// The scripts hostile and soak in .ci do so.
package hostile
