// Package rewrite writes the `cache` of caddyserver/cache-handler (Souin) in a Caddyfile as
// `larder`. Of Caddy it knows the lexer alone, so that it can be fuzzed without Caddy's modules.
//
// # Where to read
//
//	rewrite.go    the story: find, read, write, verify
//	tokens.go     Caddy's tokens, and the bytes at which they stand
//	segments.go   lines and blocks; sites, snippets and global options
//	find.go       each `cache` that is a directive or an option, also in snippets
//	options.go    the lines of a block
//	settings.go   what they say together, and what a site inherits from the global option
//	directive.go  settings become the lines of a larder
//	matcher.go    `regex exclude` becomes a matcher; two directives to which a request comes
//	global.go     storages become memory, disk and shared; what has no counterpart, and why
//	verify.go     the result has the same tokens outside of what was replaced
//
// # Rules
//
// All bytes outside of `cache` and of an `order` that names it stay as they are. What has no
// counterpart is said in a comment and in a note. Where a counterpart differs, the one is taken
// that stores less or has the finer key, and a note says so. Values within blocks of storages and
// CDNs may be secrets: no note and no comment repeats them.
//
// # To add an option
//
// It gets a case in read (settings.go), or in readOther (global.go) if it has no counterpart in a
// directive, a golden in testdata/migrate, a line in optionLines (options_test.go of package
// migrate) and a row in docs/migrating/cache-handler.md.
package rewrite
