// Package purge lets operators remove what Larder has stored: over Caddy's admin API, with the
// command `caddy larder purge`, and by PURGE at a site, where `purge_method` allows it.
//
// # Where to read
//
//	purge.go      what this package asks of the running cache
//	decode.go     a request body becomes selectors
//	admin.go      the endpoint; audit.go its log line
//	command.go    the command, which knows the admin API only
//	method.go     PURGE at a site: right.go says who may, refusals.go how often those hear why who
//	              may not, names.go what a request names in the words of its sender
//
// # Caveats
//
// The admin API purges the process it belongs to. Several nodes each get their own call, unless
// they are a fleet: then one call purges all.
package purge
