// Package warm fills the cache before visitors come: `caddy larder warm`. It asks the site for URLs
// as a browser would, so that Larder fetches and stores them, within the budget of the origin.
//
// # Where to read
//
//	command.go    `caddy larder warm`: flags become a job
//	job.go        the story: gather, warm, tell
//	plan.go       which URLs, each once
//	crawl.go      sitemaps and their indexes are fetched; sitemap.go parses one
//	list.go       lists of URLs; lines.go reads long files line by line
//	accesslog.go  lines of access logs; frequency.go counts their URLs in bounded memory
//	purged.go     what purges have dropped: GET /larder/purged; dropped.go remembers it, bounded
//	content.go    gzip, known by its content, and what it may expand to
//	variants.go   -H becomes header fields of requests
//	runner.go     workers, redirects, what is tried again
//	client.go     one request
//	outcome.go    what an answer says: stored, a hit, not stored, failed
//	pacer.go      the rate, and the pauses that the site asks for
//	journal.go    what is done, for --resume
//	summary.go    what came of it all; progress.go tells it meanwhile
//
// # Whose words
//
// Lists are the operator's. Sitemaps are the site's, and so they name URLs of the site that they
// come from: those of other hosts are left out. The hosts in an access log are what clients sent as
// Host, so a log is read only beside --site, which says which hosts are meant, or --to, which says
// where all requests go. What a purge has dropped is named by the hosts of requests too, which
// clients choose where a site takes any host; --site leaves all others out there. A redirect is
// followed to the same host only.
//
// # Caveats
//
// A run holds its URLs in memory: a million at most, and 256 MiB of them. An access log is read in
// one pass, whatever its length.
//
// What purges have dropped is remembered in the memory of the process that has swept them, in 8 MiB
// at most. A restart forgets it.
package warm
