package fleet

import (
	"context"
	"errors"
	"time"
)

// Engine is a server that all nodes of a fleet reach: Redis, Valkey, or another that can do what
// these methods say. It orders purges, and it keeps records that it does not understand. It may
// lose its newest writes, all of its content, or the connection: an Engine says what it has, and
// the fleet draws the conclusions.
//
// Many goroutines call it. A method ends soon after its context has. An error says that it is not
// known whether the server has done what was asked. What is handed to a method must stay unchanged
// until it returns, and the Engine keeps none of it after that.
type Engine interface {
	Log
	Tier
	Leases
	// Close ends what is under way with errors.
	Close() error
}

// Generation is the place of a record in the log: one more than that of the record before, but for
// a mark, which may leave a gap. It is below 2^53. 0 comes before all records.
type Generation uint64

// Place is what a node knows to be in a term: the newest record that it has applied, or has read
// and is about to apply, and its own last beat. The zero value is none.
type Place struct {
	Epoch      string     // of the log
	Mark       Generation // of the newest mark then
	Generation Generation // of that record
	ID         string     // the record's
	Node       string     // the id of this node
	Beaten     uint64     // the Number of the beat, 0 for none that was replied to
}

// Log is the order of purges, and the list of nodes that have to apply them. Each method is one
// step for the server: none sees another half done.
//
// Before it does anything else each method that returns a State sees to it that the log is whole.
// Where there is no list of nodes or no log, it begins a new epoch. Where the server may have lost
// what it had acknowledged (it was started anew, or a replica was promoted), it begins a new term:
// generations go on far above those that may have been lost, and two terms that begin at the same
// place do not meet again. So an applied generation above Tail is one that was lost. Both append a
// mark. The list of nodes stays where the log alone is lost, and the other way round.
//
// A server may also be put back to an older state while it runs, as by a backup that is loaded. It
// does not notice, but the nodes know what it had. So each call says in has what its node has
// applied. Where the log has not got that, a new epoch begins. It has not got it where it is of an
// epoch that began before the caller's, in the order in which they began and not by a clock that
// may be set back. In the same epoch it has not got it where the mark is above its own; or where
// the marks are equal, and another record, or none, is at a generation from the mark on that has
// not been trimmed. Where the newest record alone is gone its ID counts. Nor has it got it where
// the marks are equal, and the node is listed with a Number below Beaten. A time would not do for
// that: a beat of before that comes late makes the list look newer than it is.
//
// An error means what [Engine] says.
type Log interface {
	// Beat notes that a node is alive and how far it has applied the log. The first beat registers
	// the node.
	Beat(ctx context.Context, has Place, node Node) (State, error)
	// Append appends a record. It returns when it is in the log and, with replicas above 0, when so
	// many replicas have it or the context's time is nearly over. nodes are those that were
	// registered then.
	Append(ctx context.Context, has Place, data []byte, replicas int) (Appended, error)
	// Read returns up to limit records after a generation, oldest first, and the state of the log
	// at the moment at which they were read: without it a node cannot tell whether records between
	// have been lost, or trimmed. Where there are none, and Tail is not above after, it waits for
	// one, for about as long as wait.
	Read(ctx context.Context, has Place, after Generation, limit int, wait time.Duration) ([]Record, State, error)
	// Nodes returns the registered nodes.
	Nodes(ctx context.Context) ([]Node, State, error)
	// Evict removes a node from the list, unless it has beaten since it was seen like this: its
	// Beats and Seen are compared.
	Evict(ctx context.Context, seen Node) error
	// Leave removes a node that answers no more requests.
	Leave(ctx context.Context, id string) error
}

// Record is one record of the log. Data is what Append was given. A mark has none.
type Record struct {
	Generation Generation // its number in the log
	// Given by the server, by chance: no other record at this generation has it.
	ID   string
	Mark bool   // of a term; see Engine
	Data []byte // nil for a mark
}

// State is what a server says of its log.
type State struct {
	Epoch string        // of its own, up to 32 bytes; made with the list of nodes and lost with it
	Tail  Generation    // of the newest record
	ID    string        // the same record's
	First Generation    // of the oldest that is still there
	Mark  Generation    // of the newest mark, whether it is still there or not
	Bytes int64         // how many bytes its records take, about
	Term  time.Duration // how long ago the newest mark was appended
	Now   time.Time     // by the server's clock. In the reply to a beat it is the node's Seen
}

// HistoryBytes is about how many bytes of the log an Engine keeps, which keeps so many records: a
// purge by a few tags takes 150. Without it strangers could fill the server and the nodes by unsafe
// requests for long URLs. A record that is alone stays, however long it is.
func HistoryBytes(records int) int64 { return max(4<<20, 512*int64(records)) }

// Appended is what became of an Append.
type Appended struct {
	Generation Generation
	Nodes      []Node
	State      State
	Replicas   int // how many are known to have it
}

// Node is a process in the list of nodes. The fields after Seen are for people.
type Node struct {
	ID      string // random, of one process
	Epoch   string // of what it has applied, with the term, "" before it has read any; see termName
	Applied Generation
	Fence   time.Duration // for how long it has a pass by a beat. 0: it does not say
	Serves  time.Duration // how long it answers from what it has when its pass is over
	Beats   uint64        // how many since it was registered; the server counts
	Number  uint64        // of its beat, by its own count; the list has the highest
	Seen    time.Time     // its last beat, by the server's clock; the server sets it
	State   string        // one of the words of Stats
	Name    string        // of its machine
	Address string
	Version string
}

// What a fleet puts into a Tier is no larger than this, in bytes. The server may hold what others
// have written: an Engine reads nothing that is larger, and takes it for gone.
const (
	MaxRecordBytes = 2 << 20
	MaxIndexBytes  = 128 << 10
	MaxChunkBytes  = 256 << 10
)

// Tier keeps the records of stored responses. It understands none of it. A record that is gone is
// nil and no error. An error means what [Engine] says.
type Tier interface {
	// Find returns the record of one variant of a key, and all rows of the key's index by variant.
	Find(ctx context.Context, key, variant string) (record []byte, index map[string][]byte, err error)
	// Record returns the record of one variant of a key.
	Record(ctx context.Context, key, variant string) ([]byte, error)
	// PutRecord stores a record and its row in the index, for as long as ttl: both are there at
	// once. A row may outlive its record, so it may be found without one. Where the server has the
	// key's rows in one place it drops those that are over with this. It may bound them: then those
	// that end first go, with their records.
	PutRecord(ctx context.Context, key, variant string, record, row []byte, ttl time.Duration) error
	// ReplaceRecord is PutRecord, unless another record than seen is there. seen is nil where there
	// was none. Where that is gone by now the record is stored as well, also where the record is
	// there, as after a lost reply. ok is false where another is there, and then nothing is done.
	ReplaceRecord(ctx context.Context, key, variant string, seen, record, row []byte, ttl time.Duration) (ok bool, err error)
	// RemoveRecord removes a record and its row, unless the record is another than seen. Where
	// there is none it removes the row.
	RemoveRecord(ctx context.Context, key, variant string, seen []byte) error
	// Chunks returns chunks of a body by their numbers. Each may be nil.
	Chunks(ctx context.Context, id string, numbers []int) ([][]byte, error)
	// PutChunk stores one chunk for as long as ttl.
	PutChunk(ctx context.Context, id string, number int, chunk []byte, ttl time.Duration) error
	// HasChunks reports whether chunks 0 to n-1 are there.
	HasChunks(ctx context.Context, id string, n int) (all bool, err error)
	// KeepChunks has chunks 0 to n-1 live for ttl from now on. It reports whether all were there.
	KeepChunks(ctx context.Context, id string, n int, ttl time.Duration) (all bool, err error)
}

// Leases let one node fetch for all. A lease has a token, the facts that its holder has published,
// and the nodes that wait for it. When it has ended, a message may stand in its place for a while.
// Facts and messages are not empty. An error means what [Engine] says.
type Leases interface {
	// Take takes the lease of a key for ttl, where it is free and the message in its place is seen
	// (nil: there is none). The message goes then, so one of many takers has the lease. Where
	// another holds it the node becomes one that waits for it, and the lease ends after ttl at the
	// latest unless it is renewed: no node holds one for ever. Where another message is in its
	// place nothing is done. The token that holds a lease takes it again, as after a reply that was
	// lost. A lease that ends by its ttl leaves nothing and wakes no node.
	Take(ctx context.Context, key, token, node string, seen []byte, ttl time.Duration) (Lease, error)
	// Hold renews a lease for ttl and publishes what its holder knows by now; nil facts leave them
	// as they are. New facts wake those who wait, who wait on, with the facts as the message. ok is
	// false where the token holds the lease no longer.
	Hold(ctx context.Context, key, token string, facts []byte, ttl time.Duration) (ok bool, err error)
	// Release ends a lease and wakes those who wait with a message, which stands in its place for
	// keep; 0 is not at all. ok is false where the token held it no longer: then nothing is done.
	Release(ctx context.Context, key, token string, message []byte, keep time.Duration) (ok bool, err error)
	// Look returns a lease as it is, for those who have missed a message.
	Look(ctx context.Context, key string) (Lease, error)
	// Listen calls wake for each message to a node, until the context ends or the connection is
	// lost. ready is called when messages from then on are heard.
	Listen(ctx context.Context, node string, ready func(), wake func(key string, message []byte)) error
}

// Lease is the state of a key's lease. Where it is neither Taken nor Held it is free.
type Lease struct {
	Taken bool   // by this call
	Held  bool   // by another
	Facts []byte // that its holder has published
	Left  []byte // the message in the place of a free one
}

// Errors of an Engine, beside those of its connection.
var (
	// ErrReadOnly says that the server takes no writes: it is a replica, or out of memory.
	ErrReadOnly = errors.New("the server takes no writes")
	// ErrRefused says that the server does not let this node in: a wrong password, no permission.
	ErrRefused = errors.New("the server refuses this node")
)
