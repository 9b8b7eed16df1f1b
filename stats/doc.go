// Package stats keeps what a cache has to tell of its traffic, in memory of a fixed size whatever
// the traffic is: the keys with the most weight, and what was counted over time.
//
//	top.go      the heaviest keys, by Space-Saving; merge.go: those of several
//	sampler.go  how many events are looked at, so that counting stays cheap
//	history.go  rings of what was counted in each step of time
//
// It knows nothing of caches. Time and randomness are parameters. Everything here is safe for
// concurrent use.
//
// # Why it has a Space-Saving of its own
//
// The libraries for Go that rank the keys of a stream count without a bound on the error of one key
// (keilerkonzept/topk, segmentio/topk, migotom/heavykeeper), take a time that goes with the weight,
// which is bytes here, or take no weight (koykov/approxity). None keeps something beside a key, as
// the commonest reason is. They have few users and one author each.
// Space-Saving (Metwally, Agrawal and El Abbadi 2005) is a heap and a map, and its bound is exact:
// with n keys a count is too low by a share of 1/n of all weight at most, and never too high.
package stats
