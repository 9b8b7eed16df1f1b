package httpcache

import (
	"net/netip"
	"sync"

	"github.com/larder-cache/larder/origin"
)

// What no client waits for costs none anything, so one connection could leave any number of it
// behind: a refresh for each stale page that it asks for, or requests that outlive it. Their number
// is bounded, see maxRefreshes and maxOutliving. But any bound that one client can fill is in the
// way of all others, whose pages then get older and older. So what is free at the end is for those
// who hold little:
//
//	places taken      who gets one
//	────────────      ────────────
//	up to a half      every one
//	up to 3 quarters  one whose client holds fewer than eight
//	up to all         one whose client and whose origin hold fewer than eight
//
// Nothing is taken from what has a place. To give up a refresh that is late for another would be
// the end of all refreshes where an origin is that late for all.

// fewPlaces is how many of the places a client or an origin may hold when many are taken.
const fewPlaces = 8

// places counts those that are taken, in all and by whom.
type places struct {
	mu        sync.Mutex
	taken     int
	ofClients map[netip.Prefix]int
	ofOrigins map[*origin.Budget]int
}

// holder is for whom a place is taken.
type holder struct {
	client netip.Prefix
	origin *origin.Budget
}

// holder is for whom the request takes a place.
func (q *Request) holder() holder {
	return holder{q.network(), q.route.Budget}
}

// take takes one of most places, which has to be given back. It reports false if there is none for
// the holder.
func (ps *places) take(h holder, most int) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	switch {
	case ps.taken >= most,
		ps.taken >= most/2 && ps.ofClients[h.client] >= fewPlaces,
		ps.taken >= most/4*3 && ps.ofOrigins[h.origin] >= fewPlaces:
		return false
	case ps.ofClients == nil:
		ps.ofClients, ps.ofOrigins = make(map[netip.Prefix]int), make(map[*origin.Budget]int)
	}
	ps.taken++
	ps.ofClients[h.client]++
	ps.ofOrigins[h.origin]++
	return true
}

// give gives a place back.
func (ps *places) give(h holder) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.taken--
	countDown(ps.ofClients, h.client)
	countDown(ps.ofOrigins, h.origin)
}

func countDown[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

// network is what stands for the request's client.
func (q *Request) network() netip.Prefix { return clientNetwork(q.origin.ClientAddr()) }

// clientNetwork is what stands for a client where places are shared out: its address, or by IPv6
// the network of one end site, which may have as many addresses as it likes. Customers of a carrier
// may share such a network, as they share an address behind a NAT. What is no address stands for
// one client.
func clientNetwork(addr string) netip.Prefix {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		withPort, err := netip.ParseAddrPort(addr)
		if err != nil {
			return netip.Prefix{}
		}
		ip = withPort.Addr()
	}
	ip = ip.Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 48 // what an end site gets at most (RFC 6177)
	}
	network, _ := ip.Prefix(bits)
	return network
}
