// Package caddyfile holds what a user can say to Larder: the configuration of the handler and of
// the app, its JSON form, its Caddyfile form, its defaults and its checks. It runs nothing.
//
// # Where to read
//
//	config.go    what the directive says; status.go has the one type with a JSON form of its own
//	origin.go    what it says of the origin's limits: configuration, checks and words;
//	             purgemethod.go, of those who may purge at a site; repeats.go, of clients that
//	             repeat themselves; batch.go, of misses that become one request
//	app.go       what the global option says; shared.go what its block for many machines says
//	zones.go     further stores: configuration, checks and words
//	check.go     what cannot be meant, in JSON and Caddyfile alike; warnings.go has what can be
//	             meant and seldom is
//	defaults.go  what is meant when nothing is said
//	rules.go     what the cache is given of it
//	words.go     the parser that every block shares; spelling.go: which word a misspelt one is near
//	             to; size.go has sizes
//	handler.go   the words of the directive; global.go has those of the global option
//	register.go  tells Caddy about them
//
// # To add a word
//
// In this package it takes
//
//   - a field of HandlerConfig in config.go, with its JSON name and its documentation,
//   - a line in handlerParser.words and one in the syntax above parseHandler, both in handler.go,
//   - a check in checkLines, or in checkWhole where it depends on other words, if a value can be
//     wrong,
//   - a line in WithDefaults, if its default is not the zero value,
//   - a line in rules.go, which gives it to the cache.
//
// testdata/adapt gets a Caddyfile with the word and its JSON, and one for each error. A misplaced
// word is answered with its block by itself, see placesOf.
//
// Outside of the package it takes the one file of httpcache, or of rfc9111, that obeys it.
//
// # Caveats
//
// The running types live in the root package, which embeds HandlerConfig and AppConfig. A plugin
// build imports the root package only, so the root must import this package, and this one cannot
// name the root's types: Register is handed a constructor instead.
//
// Every exported method of HandlerConfig and AppConfig is promoted to the types that embed them.
// None may therefore be called Provision, Validate, Cleanup, CaddyModule, ServeHTTP or
// UnmarshalJSON: Caddy would take it for the module's own.
//
// A zero value in JSON is the same as a missing one and means the default. In a Caddyfile a zero is
// refused, because a user who writes it means something else.
//
// Configurations are plain values. They are written by one goroutine (the adapter, or the decoder
// of the JSON) and only read after that.
package caddyfile
