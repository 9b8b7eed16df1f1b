//go:build unix

package redis

import (
	"net"
	"sync"
	"testing"
)

// proxy is a way to a server that can be silent or broken.
type proxy struct {
	listener net.Listener

	mu    sync.Mutex
	to    string
	mute  [2]chan struct{} // of what is sent, of replies: where there is one, nothing goes on until it is closed
	conns map[net.Conn]bool
	came  int // how often something came from a client
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: l, to: to, conns: map[net.Conn]bool{}}
	go p.accept()
	t.Cleanup(func() {
		_ = l.Close()
		p.silence(false, false)
		p.reset()
	})
	return p
}

func (p *proxy) url() string { return "redis://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		to := p.to
		p.mu.Unlock()
		server, err := net.Dial("tcp", to)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		go p.carry(client, server, 0)
		go p.carry(server, client, 1)
	}
}

// carry copies until either end has gone.
func (p *proxy) carry(from, to net.Conn, way int) {
	defer func() {
		_, _ = from.Close(), to.Close()
		p.mu.Lock()
		delete(p.conns, from)
		p.mu.Unlock()
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if way == 0 && n > 0 {
			p.mu.Lock()
			p.came++
			p.mu.Unlock()
		}
		p.hold(way)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// reads is how often something came from a client.
func (p *proxy) reads() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.came
}

// hold waits while nothing comes through.
func (p *proxy) hold(way int) {
	p.mu.Lock()
	mute := p.mute[way]
	p.mu.Unlock()
	if mute != nil {
		<-mute
	}
}

// silence has nothing come through any more, or again what was held.
func (p *proxy) silence(requests, replies bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for way, on := range []bool{requests, replies} {
		switch {
		case on && p.mute[way] == nil:
			p.mute[way] = make(chan struct{})
		case !on && p.mute[way] != nil:
			close(p.mute[way])
			p.mute[way] = nil
		}
	}
}

// reset ends all connections with a RST.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

// lead has new connections go elsewhere. Those that there are stay.
func (p *proxy) lead(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to
}
