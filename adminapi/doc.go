// Package adminapi is what all parts of the admin API and of the command `caddy larder` have in
// common. A part is a [Feature]: endpoints and subcommands.
//
// # Where to read
//
//	feature.go    what a part adds, and Register, which adds it to Caddy
//	router.go     the admin router: methods, answers and errors in JSON
//	command.go    `caddy larder` itself; client.go calls the admin API for its subcommands
//	transport.go  where the admin API is reached
//	printable.go  nothing is printed that a terminal acts on
//	params.go     the query string of a GET, strictly read
//	object.go     the JSON object of a POST, strictly read
//	forms.go      tags, URLs and authorities get the form in which entries carry theirs
//	adminapitest/ a Caddy to test parts with
//
// # Caveats
//
// Caddy decides who may call: its checks of Host and Origin, its client certificates and
// permissions stand before every handler here. Each endpoint has a path and a method of its own, so
// that a permission can allow one without the other.
//
// Caddy makes the admin router anew at every configuration and provisions it before the apps. So
// the router holds no state, and an endpoint asks for the running cache at every request.
//
// With --config, Caddy's own loading of the file logs to standard error before a command prints
// anything, as with every other command of Caddy's.
//
// A host has no scheme and means both. example.com selects the entries of http://example.com and
// https://example.com. example.com:443 selects those of http://example.com:443 and
// https://example.com:443, of which the latter is https://example.com.
package adminapi
