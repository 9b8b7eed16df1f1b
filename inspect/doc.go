// Package inspect lets operators see what Larder has stored and does: over Caddy's admin API and
// with commands below `caddy larder`. It changes nothing of what is stored, but for a request that
// is explained with fetch.
//
// # Where to read
//
//	inspect.go    what this package asks of the running cache; the list of its features
//	flags.go      --zone and --json, as most commands have them
//	list.go       GET /larder/entries, caddy larder ls
//	entry.go      GET /larder/entries/{id}, caddy larder get
//	stats.go      GET /larder/stats, caddy larder stats
//	top.go        GET /larder/top, caddy larder top
//	history.go    GET /larder/history, caddy larder history
//	explain.go    POST /larder/explain, caddy larder explain
//	fleet.go      GET /larder/fleet, caddy larder fleet
//	compact.go    POST /larder/compact, caddy larder compact
//	observe.go    GET /larder/observed, caddy larder observe; observe_collect.go gathers what they
//	              tell, observe_verdict.go says what it means
//
// # To add a feature
//
// A feature is one file: the shapes of its JSON, a function that returns its [adminapi.Feature],
// how the endpoint answers, and how the command prints it. It gets a line in Features and, where it
// asks something new of the cache, a method in Cache.
package inspect
