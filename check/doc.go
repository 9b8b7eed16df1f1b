// Package check finds in a configuration what Caddy takes and what will surprise the one who wrote
// it: `caddy larder check`. It runs nothing of the configuration and opens no file that it names.
//
// # Where to read
//
//	command.go  `caddy larder check`
//	source.go   a file, adapted, and where its words stand
//	check.go    Findings, which asks all rules; what a finding is
//	server.go   a server's handlers in the order in which requests come to them
//	reach.go    from which of them a request goes on to which
//	order.go    rules about what stands in front of a larder handler, and behind it; some are
//	            asked when a configuration is loaded, too
//	handler.go  rules about what a directive says; public.go: about who may reach what
//	effects.go  rules about words without the effect that is meant
//	members.go  rules about matchers that keep from larder what changes pages, and about a cookie
//	            that parts two larders with one key
//	expression.go  what a CEL expression asks of cookies
//	store.go    rules about the global option; budgets.go: about what the machine has
//
// # To add a rule
//
// A rule is a method of checker that calls report. It gets a Caddyfile in testdata with what is
// found in it. Where another rule could take the fault, that one comes first: one fault is one
// finding.
package check
