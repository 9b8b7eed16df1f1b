// Package migrate is `caddy larder migrate`, which rewrites the `cache` of
// caddyserver/cache-handler (Souin) in a Caddyfile into `larder`.
//
// # Where to read
//
//	command.go  the command: reads, prints, or writes the file
//	imports.go  whether the files that a file imports are migrated
//	replace.go  a file and its backup, whole or not at all
//	rewrite/    what is written
package migrate
