// Package caddyfile holds what a user can say to Larder: the configuration of
// the handler and of the app, its JSON form, its Caddyfile form, its defaults
// and its checks. It runs nothing.
//
// Reading order: config.go and app.go are the vocabulary, status.go the one
// type with a JSON form of its own. check.go says what cannot be meant and
// defaults.go what is meant when nothing is said, both for JSON and Caddyfile
// alike. words.go is the small parser that every block shares; handler.go and
// global.go list the words of the directive and of the global option.
// register.go tells Caddy about them.
//
// The running types live in the root package, which embeds HandlerConfig and
// AppConfig. A plugin build imports the root package only, so root must import
// this one, and this one can name none of root's types: Register is handed a
// constructor instead.
//
// # Caveats
//
// Every exported method of HandlerConfig and AppConfig is promoted to the types
// that embed them. None may therefore be called Provision, Validate, Cleanup,
// CaddyModule, ServeHTTP or UnmarshalJSON: Caddy would take it for the
// module's own.
//
// A zero value in JSON is the same as a missing one and means the default. In a
// Caddyfile a zero is refused, because whoever typed it meant something else.
//
// Configurations are plain values. They are written by one goroutine (the
// adapter, or the decoder of the JSON) and only read after that.
package caddyfile
