// Package redis keeps what a fleet shares in Redis 7 or Valkey: fleet.Engine over
// github.com/redis/rueidis, for one server, Sentinels, or a Cluster.
//
//	config.go    addresses, TLS, and how the client is set up
//	engine.go    New, Close, keys
//	link.go      a client that is made behind the calls, and what a call may take of it
//	scripts.go   the scripts in lua/, by hash or by text
//	log.go tier.go leases.go   the methods
//	errors.go    Redis' errors by their names in fleet
//
// # Keys
//
// N is {larder:1:<name>}, P is larder:1:<name>, K a key of an entry in base64, 1 the protocol.
//
//	N:fleet        hash    epoch; run (id of the server's replication), since, mark of the term;
//	                       gen, id, first, length of the log; bytes, start: how many bytes its
//	                       records have ever had, and those before the first;
//	                       n:<node> → beats, time, number, what it says
//	N:log          stream  <generation>-0 → data, or mark; id, at random; at: bytes before it
//	P:e:{K}:<v>    string  the record of variant v
//	P:i:{K}        hash    v → when it ends, its row
//	P:c:<id>:<n>   string  a chunk of a body
//	P:l:{K}        hash    token, facts, w:<node> of those who wait; or left, a message
//	P:w:<node>     channel length of a key, the key, a message
//
// N:fleet and N:log have no time to live. Where one is lost, alone or with the other, the next call
// begins a new epoch. A Cluster has both on one server by what stands in braces, and all of an
// entry on one.
//
// # Permissions
//
// The least that a user must have, for the name "larder":
//
//	ACL SETUSER larder on >password resetkeys resetchannels -@all
//	  ~{larder:1:larder}:* ~larder:1:larder:* &larder:1:larder:w:*
//	  +eval +evalsha +time +info +ping +select +wait +publish +subscribe +unsubscribe +punsubscribe
//	  +sunsubscribe +multi +exec +discard +get +getrange +strlen +memory|usage +set +unlink +del +exists
//	  +pexpire +pttl
//	  +hget +hset +hmget +hgetall +hkeys +hlen +hdel +xadd +xlen +xrange +xread +xinfo|stream
//
// A Cluster needs +cluster|slots and +cluster|shards too. There is no KEYS, no SCAN and no FLUSHDB.
//
// # Caveats
//
// A full server (maxmemory with noeviction, or with volatile-* and nothing to evict) refuses
// records with fleet.ErrReadOnly, and takes purges and leases all the same. allkeys-* may evict the
// list of nodes or the log: each time a new epoch begins, and the shared tier is empty.
//
// A term's age is told by the server's clock. If that is set forward within the first seconds of a
// term, a purge may not wait for nodes that were lost with the term before.
//
// What a call has handed over is copied, for it stays with the client until the server has replied,
// which may be after the call has ended.
package redis
