package purge

import (
	"net/netip"
	"sync"
	"time"
)

// A client that may not purge is told so as often as an operator with a wrong setting needs it.
const (
	refusalsAtOnce   = 10
	refusalEvery     = 6 * time.Second // one more
	refusalAddresses = 2048            // that are remembered at least, and at most twice as many
)

// Refusals bounds how often those at one address are refused with a reason and a line in the log.
// Beyond that they are told to wait. One who may purge does not wait: what is counted are refusals
// alone. A network of IPv6 counts as one address, because its clients choose theirs within it.
//
// What is remembered is bounded. Where there are too many addresses those go first that were
// refused longest ago, and begin anew. All methods may be called from any goroutine.
type Refusals struct {
	mu sync.Mutex
	// Until when an address has used up what it may have, if it used it evenly. One that is not
	// among the latest may be among those before.
	latest, before map[netip.Prefix]time.Time
}

// count counts a refusal. It returns 0 if the reason may be told, else how long the client has to
// wait.
func (f *Refusals) count(client netip.Addr, now time.Time) (wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	network := networkOf(client)
	used, known := f.latest[network]
	if !known {
		used = f.before[network]
	}
	if used.Before(now) {
		used = now
	}
	if wait = used.Sub(now) - (refusalsAtOnce-1)*refusalEvery; wait > 0 {
		return wait
	}
	if !known && len(f.latest) == refusalAddresses {
		f.before, f.latest = f.latest, nil
	}
	if f.latest == nil {
		f.latest = make(map[netip.Prefix]time.Time)
	}
	f.latest[network] = used.Add(refusalEvery)
	return 0
}

// networkOf is the zero Prefix for a client without an address: all of these count together.
func networkOf(client netip.Addr) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := 32
	if client.Is6() {
		bits = 64
	}
	network, err := client.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return network
}
