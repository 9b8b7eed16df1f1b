package fleettest

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/larder-cache/larder/fleet"
)

// Server is what the Engines of a fleet share. It does one step at a time.
type Server struct {
	mu       sync.Mutex
	clock    func() time.Time
	fault    func(Call) Fault
	history  int
	replicas int
	readOnly bool

	data      data
	run       int // of the server: it was started, or promoted, for the run'th time
	epochs    int // so many were made
	records   int // so many were appended
	grown     chan struct{}
	listeners map[*listener]string
}

// data is what a server can lose.
type data struct {
	epoch   string
	run     int // in which the newest term began
	since   time.Time
	gen     fleet.Generation
	id      string // of the record there
	mark    fleet.Generation
	nodes   map[string]fleet.Node
	log     []fleet.Record
	hasLog  bool
	bytes   int64 // of the log
	records map[place]expiring
	rows    map[string]map[string][]byte
	chunks  map[chunk]expiring
	leases  map[string]lease
}

// listener is a call of Listen. Its channel is closed when its connection is lost.
type listener struct {
	messages chan message
}

type message struct {
	key  string
	data []byte
}

// Fault is what happens to a call on its way.
type Fault struct {
	Delay      time.Duration // before the server does it
	Err        error         // instead of being done
	ReplyDelay time.Duration // after it
	ReplyErr   error         // in place of the reply: it was done
}

// Call is what a fault is chosen by.
type Call struct {
	Client int // in the order of NewEngine, from 0
	Method string
}

// ErrLost is the error of a connection, for those who need one.
var ErrLost = errors.New("the connection was lost")

// NewServer returns an empty server that keeps 100,000 records of the log.
func NewServer() *Server {
	return &Server{
		clock: time.Now, fault: func(Call) Fault { return Fault{} }, history: 100_000,
		data: emptyData(), run: 1, grown: make(chan struct{}), listeners: map[*listener]string{},
	}
}

func emptyData() data {
	return data{
		nodes: map[string]fleet.Node{}, records: map[place]expiring{}, rows: map[string]map[string][]byte{},
		chunks: map[chunk]expiring{}, leases: map[string]lease{},
	}
}

// SetFault has each call ask what happens to it. Many goroutines ask.
func (s *Server) SetFault(fault func(Call) Fault) { s.change(func() { s.fault = fault }) }

// SetClock gives the server a clock of its own.
func (s *Server) SetClock(clock func() time.Time) { s.change(func() { s.clock = clock }) }

// SetHistory bounds the log, as fleet.HistoryBytes does.
func (s *Server) SetHistory(records int) { s.change(func() { s.history = records }) }

// SetReplicas says how many replicas have each record at once.
func (s *Server) SetReplicas(n int) { s.change(func() { s.replicas = n }) }

// SetReadOnly has the server refuse each write with fleet.ErrReadOnly.
func (s *Server) SetReadOnly(on bool) { s.change(func() { s.readOnly = on }) }

// Flush loses all content, as FLUSHALL or a start without a file does.
func (s *Server) Flush() { s.change(func() { s.data = emptyData() }) }

// Restart starts the server anew with all that it holds.
func (s *Server) Restart() { s.change(s.restart) }

// LoseNodes loses the list of nodes, and the epoch with it.
func (s *Server) LoseNodes() {
	s.change(func() {
		s.data.epoch, s.data.run, s.data.since, s.data.gen, s.data.mark = "", 0, time.Time{}, 0, 0
		s.data.nodes = map[string]fleet.Node{}
	})
}

// LoseLog loses the log, and neither the list of nodes nor the epoch.
func (s *Server) LoseLog() {
	s.change(func() { s.data.log, s.data.hasLog, s.data.bytes = nil, false, 0 })
}

// Trim loses all records of the log but the newest.
func (s *Server) Trim(records int) { s.change(func() { s.data.trim(records) }) }

// Disconnect ends each Listen.
func (s *Server) Disconnect() { s.change(s.disconnect) }

// Remove removes the record at a generation.
func (s *Server) Remove(g fleet.Generation) {
	s.change(func() {
		s.data.log = slices.DeleteFunc(slices.Clone(s.data.log), func(r fleet.Record) bool {
			if r.Generation == g {
				s.data.bytes -= size(r)
			}
			return r.Generation == g
		})
	})
}

// PutBack returns a function that puts what the server holds now in the place of what it holds
// then, without a start: a backup that is loaded.
func (s *Server) PutBack() (back func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.data.clone()
	return func() { s.change(func() { s.data = kept.clone() }) }
}

// Snapshot returns a function that puts what the server holds now in the place of what it holds
// then, as the promotion of a replica does that has not got the newest writes.
func (s *Server) Snapshot() (promote func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.data.clone()
	return func() {
		s.change(func() {
			s.data = kept.clone()
			s.restart()
		})
	}
}

func (s *Server) restart() {
	s.run++
	s.disconnect()
}

func (s *Server) disconnect() {
	for l := range s.listeners {
		close(l.messages)
	}
	clear(s.listeners)
}

// change does what is not a step of a client.
func (s *Server) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// now is what the server's clock says, in the microseconds that a server keeps.
func (s *Server) now() time.Time { return time.UnixMicro(s.clock().UnixMicro()) }

func (d *data) trim(records int) {
	gone := max(0, len(d.log)-records)
	for _, r := range d.log[:gone] {
		d.bytes -= size(r)
	}
	d.log = slices.Clone(d.log[gone:])
}

// size is about what a record takes of a server.
func size(r fleet.Record) int64 { return int64(len(r.Data)) + 64 }

// clone copies as deep as anything is changed in place.
func (d *data) clone() data {
	c := *d
	c.nodes, c.records, c.chunks = maps.Clone(d.nodes), maps.Clone(d.records), maps.Clone(d.chunks)
	c.log = slices.Clone(d.log)
	c.rows = map[string]map[string][]byte{}
	for key, rows := range d.rows {
		c.rows[key] = maps.Clone(rows)
	}
	c.leases = map[string]lease{}
	for key, l := range d.leases {
		l.waiting = maps.Clone(l.waiting)
		c.leases[key] = l
	}
	return c
}
