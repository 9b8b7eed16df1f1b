// Package e2e holds the tests that see Larder from outside: each starts the real Caddy, most in the
// test's own process, with the real bbolt file and a real upstream, and asks it over TCP. What they
// observe is what a user can: responses, the admin API, metrics, logs and files.
//
// The harness stands in files of its own: instance_test.go (a running Caddy and its Caddyfile),
// addresses_test.go (at which nothing listens, or no longer), process_test.go (the binary as a
// process of its own), client_test.go (requests and what is wanted of answers), admincalls_test.go
// (what the admin API and the metrics say), logfiles_test.go (what is logged), origin_test.go
// (upstreams), goroutines_test.go (what is still at work) and pages_test.go (the pages for users).
//
// Caddy is one a process, so tests that start it in their own do not run in parallel. Those whose
// Caddys are processes of their own do, when all others are over.
package e2e
