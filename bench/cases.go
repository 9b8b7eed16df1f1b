package main

import (
	"context"
	"slices"
)

// benchCase is one thing to measure.
type benchCase struct {
	name, about string
	long        bool
	needs       needs
	redis       bool // Redis is needed too; without it the case is left out
	run         func(context.Context, *bench, *benchCase, *report) error
}

// needs says what must be there for a case; each needs what stands before it too.
type needs uint8

// The needs.
const (
	nothing    needs = iota
	servers          // Caddy built, and an origin
	generators       // wrk and h2load
)

const (
	kib        = 1 << 10
	mib        = 1 << 20
	wrkConns   = 32
	hitTarget  = 0.97 // of the ceiling
	passTarget = 0.97 // of plain reverse_proxy
	diskTarget = 0.70 // of the ceiling
	// compressTarget is of the same without compression.
	compressTarget = 0.85
	missOnDisk     = 0.70 // of plain reverse_proxy
	missByNginx    = 0.60 // of nginx with its disk cache
	missNoDisk     = 0.88 // of plain reverse_proxy
	missByVarnish  = 1.0
	fleetTarget    = 0.98 // of the same without a fleet
	p99Factor      = 1.1  // a hit's p99 by the ceiling's
	diskObjects    = 4000
)

var (
	theCeiling = subjectOf{name: "ceiling", kind: ceilingKind}
	theProxy   = subjectOf{name: "reverse_proxy", kind: proxyKind}
	inMemory   = subjectOf{name: "larder", kind: larderKind, memory: "256MiB"}
	onDisk     = subjectOf{name: "larder+disk", kind: larderKind, memory: "256MiB", disk: true}
	theNginx   = subjectOf{name: "nginx", kind: nginxKind}
	theVarnish = subjectOf{name: "varnish", kind: varnishKind}
)

// cases lists all, in the order they run in.
func cases() []benchCase {
	return slices.Concat(hitCases(), missCases(), passCases(), otherCases())
}

// hitCases measure hits beside the ceiling.
func hitCases() []benchCase {
	hit := func(name, about, path string, h2 bool) benchCase {
		t := throughput{
			reference: theCeiling.name, target: hitTarget, p99: p99Factor,
			subjects: []subjectOf{theCeiling, inMemory},
			load:     load{conns: wrkConns, path: path, h2: h2},
			hit:      true,
		}
		if !h2 {
			t.subjects = append(t.subjects, theNginx, theVarnish)
		}
		return benchCase{name: name, about: about, needs: generators, run: t.run}
	}
	diskHit := func(name, about, path string, target float64, reference, measured subjectOf) benchCase {
		return benchCase{name: name, about: about, needs: generators, run: throughput{
			reference: reference.name, target: target,
			subjects: []subjectOf{reference, measured},
			load:     load{conns: wrkConns, path: path, count: diskObjects},
			fill:     diskObjects,
			unasked:  true,
		}.run}
	}
	smallMemory := subjectOf{name: "larder+disk", kind: larderKind, memory: "8MiB", disk: true}
	compressed := smallMemory
	compressed.name, compressed.global = "larder+zstd", "\t\tcompress zstd\n"
	return []benchCase{
		hit("hit-1k-h1", "memory hit, 1 KiB, HTTP/1.1", "/1024/hit", false),
		hit("hit-16k-h1", "memory hit, 16 KiB, HTTP/1.1", "/16384/hit", false),
		hit("hit-100k-h1", "memory hit, 100 KiB, HTTP/1.1", "/102400/hit", false),
		hit("hit-1k-h2", "memory hit, 1 KiB, HTTP/2 over TLS", "/1024/hit", true),
		hit("hit-16k-h2", "memory hit, 16 KiB, HTTP/2 over TLS", "/16384/hit", true),
		hit("hit-100k-h2", "memory hit, 100 KiB, HTTP/2 over TLS", "/102400/hit", true),
		diskHit("hit-disk", "disk hit, 16 KiB, memory tier too small", "/16384/d%d", diskTarget, theCeiling, smallMemory),
		diskHit("hit-disk-zstd", "disk hit of 16 KiB of JSON, compressed, by one that is not", "/16384/j%d?json", compressTarget, smallMemory, compressed),
	}
}

// missCases measure distinct URLs, fetched and stored, beside a reverse_proxy without a cache.
func missCases() []benchCase {
	return []benchCase{
		{name: "miss-disk", about: "miss and store, disk on, distinct 1 KiB URLs", needs: generators, run: throughput{
			reference: theProxy.name, target: missOnDisk,
			subjects:  []subjectOf{theProxy, onDisk, theNginx},
			yardstick: theNginx.name, floor: missByNginx,
			load:     load{conns: wrkConns, path: "/1024/m%d"},
			distinct: true,
			stored:   true,
		}.run},
		{name: "miss-memory", about: "miss and store, disk off, distinct 1 KiB URLs", needs: generators, run: throughput{
			reference: theProxy.name, target: missNoDisk,
			subjects:  []subjectOf{theProxy, inMemory, theVarnish},
			yardstick: theVarnish.name, floor: missByVarnish,
			load:     load{conns: wrkConns, path: "/1024/n%d"},
			distinct: true,
		}.run},
	}
}

// passCases measure what a cache only passes on, beside a reverse_proxy without one.
func passCases() []benchCase {
	pass := func(name, about string, l load) benchCase {
		t := throughput{
			reference: theProxy.name, target: passTarget,
			subjects: []subjectOf{theProxy, inMemory},
			load:     l,
		}
		needs := generators
		if l.echoes {
			needs = servers // its client is the bench's own
		}
		return benchCase{name: name, about: about, needs: needs, run: t.run}
	}
	return []benchCase{
		pass("no-store", "not cacheable, 100 at a time on one URL", load{conns: 100, path: "/1024/same?nostore"}),
		pass("sse", "event streams of 20 flushed events", load{conns: wrkConns, path: "/64/same?sse"}),
		pass("upgrade", "messages of 1 KiB there and back on upgraded connections, as of WebSocket",
			load{conns: wrkConns, path: "/echo", echoes: true}),
		pass("bypass", "OPTIONS, which is not cached",
			load{conns: wrkConns, path: "/1024/same", method: "OPTIONS"}),
		pass("post", "POST, which is not cached and invalidates its URL (RFC 9111 4.4)",
			load{conns: wrkConns, path: "/1024/same", method: "POST"}),
	}
}

// otherCases measure what is not a rate of requests.
func otherCases() []benchCase {
	return []benchCase{
		{name: "herd", about: "1,000 concurrent requests, one cold URL, slow origin", needs: servers, run: herd},
		{name: "refresh-early", about: "100 pages by Zipf (1), 1,000 visitors a second, max-age=10, an origin of 200 ms", needs: servers, run: refreshEarly},
		{name: "origin-budget", about: "1,000 distinct misses at once, an origin of 50 ms that takes 10 at a time", needs: servers, run: originBudget},
		{name: "outage", about: "200 visitors a second, half of them to pages that have ended, while the origin is down", needs: servers, run: outage},
		{name: "seek", about: "parts of large files, in slices of 4 MiB", needs: servers, run: seek},
		{name: "large", about: "a file of 560 MiB, cold and from the disk, beside nginx", needs: servers, run: large},
		{name: "memory-per-object", about: "RssAnon per stored 1 KiB object, disk off", needs: servers, run: memoryPerObject},
		{name: "memory-churn", about: "RssAnon with the memory tier full under churn", needs: servers, run: memoryChurn},
		{name: "memory-per-tag", about: "RssAnon per reference of an entry to a tag, disk off", needs: servers, run: memoryPerTag},
		{name: "purge-saturated", about: "purges while misses keep the disk's writer busy", needs: generators, run: purgeSaturated},
		{name: "purge", about: "purge of one tag with 100,000 entries, hits meanwhile", needs: generators, run: purgeTag},
		{name: "restart", about: "first hit after a restart with many entries on disk", long: true, needs: servers, run: restart},
		{name: "soak", about: "mixed load for as long as -soak says: budgets, right bodies, purges, reloads", long: true, needs: servers, run: runSoak},
		{name: "fleet-hit", about: "memory hit, 1 KiB, by one of a fleet by one that is alone", needs: generators, redis: true, run: fleetHit},
		{name: "fleet-shared", about: "hit in the shared tier, 1 KiB, over loopback, one at a time", needs: servers, redis: true, run: fleetShared},
		{name: "fleet-purge", about: "purges of 5 nodes", needs: servers, redis: true, run: fleetPurges},
		{name: "fleet-cold", about: "100 requests to each of 10 nodes at once, one cold URL, slow origin", needs: servers, redis: true, run: fleetCold},
		{name: "fleet-crash", about: "purges of 5 nodes of which one has been killed, fence 2s", needs: servers, redis: true, run: fleetCrash},
		{name: "fleet-join", about: "joining a fleet with 100,000 purges in its log", needs: servers, redis: true, run: fleetJoin},
		{name: "fleet-redis-killed", about: "Redis killed, or hanging", needs: servers, redis: true, run: fleetLoss},
		{name: "hit-ratio", about: "hits of generated traces, by policy, beside plain LRU and the clairvoyant bound", run: hitRatio},
		{name: "allocations", about: "allocations of a hit in Larder's own code", run: allocations},
	}
}
