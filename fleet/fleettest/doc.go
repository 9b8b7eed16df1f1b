// Package fleettest has an Engine in memory, with faults at will, and the conformance suite of
// every Engine.
//
//	server.go       what all clients share, and what can happen to it
//	engine.go       a client: faults, contexts, Close
//	log.go tier.go leases.go   its methods
//	suite.go        TestEngine and TestLosses
//	suite_log.go suite_tier.go suite_leases.go suite_losses.go   what they ask for
//
// # Caveats
//
// The Engine tells the time by time.Now, so it may run in a bubble of testing/synctest. Epochs and
// the places of marks come from a counter: equal calls give equal answers.
//
// The suite runs by the wall clock and against servers with one: it waits for what has to come, and
// it never takes the absence of something within a time for a proof of more than that.
package fleettest
