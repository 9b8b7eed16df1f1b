// Package purge lets operators remove, count and list what Larder has stored: over Caddy's admin
// API and with the command `caddy larder`.
//
// # Where to read
//
//	purge.go      what this package asks of the running cache
//	decode.go     a request body becomes selectors
//	normalize.go  URLs and authorities get the form in which entries carry theirs
//	admin.go      the admin API; audit.go its log line
//	command.go    the command line, which knows the admin API only; list.go its ls
//	fleet.go      the machines that share a cache, for both
//
// # Caveats
//
// The admin API purges the process it belongs to. Several nodes each get their own call, unless
// they are a fleet: then one call purges all.
//
// Caddy decides who may call: its checks of Host and Origin, its client certificates and
// permissions stand before every handler here. A purge and a look have paths and methods of their
// own, so that a permission can allow one without the other.
//
// Caddy makes the admin router anew at every configuration and provisions it before the apps. So
// the router holds no state and asks for the running cache at every request.
//
// With --config, Caddy's own loading of the file logs to standard error before the command prints
// anything, as with every other command of Caddy's.
//
// A host selector has no scheme and means both. example.com selects the entries of
// http://example.com and https://example.com. example.com:443 selects those of
// http://example.com:443 and https://example.com:443, of which the latter is https://example.com.
package purge
