// Package purge lets people remove, count and list what Larder has stored: over
// Caddy's admin API and with the command `caddy larder`.
//
// Reading order: purge.go is what this package asks of the running cache,
// decode.go turns a request body into selectors, normalize.go gives URLs and
// authorities the form in which entries carry them. admin.go is the admin API
// on top of that, audit.go its log line; command.go and list.go are the command
// line, which knows the admin API only.
//
// # Caveats
//
// The admin API purges the process it belongs to. Several nodes each get their
// own call.
//
// Who may call is Caddy's business: its checks of Host and Origin, its client
// certificates and permissions stand before every handler here. A purge and a
// look have paths and methods of their own, so that a permission can allow one
// without the other.
//
// Caddy makes the admin router anew at every configuration and provisions it
// before the apps, so the router holds no state; it asks for the running cache
// at every request.
//
// With --config, Caddy's own loading of the file logs to standard error before
// the command prints anything, as with every other command of Caddy's.
//
// A host selector has no scheme and means both: example.com the entries of
// http://example.com and https://example.com, example.com:443 those of
// http://example.com:443 and https://example.com:443, of which the latter is
// https://example.com.
package purge
