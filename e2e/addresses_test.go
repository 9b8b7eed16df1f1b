package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// renewable is a transport that leaves all its connections behind where an http.Transport closes
// those that are idle: one that is still being dialled may have been taken by a server that goes,
// which would answer a later request by its own configuration.
type renewable struct {
	current atomic.Pointer[http.Transport]
}

func newRenewable(first *http.Transport) *renewable {
	n := new(renewable)
	n.current.Store(first)
	return n
}

// RoundTrip implements http.RoundTripper.
func (n *renewable) RoundTrip(r *http.Request) (*http.Response, error) {
	return n.current.Load().RoundTrip(r)
}

// CloseIdleConnections is what http.Client calls by the method of its own with this name.
func (n *renewable) CloseIdleConnections() {
	last := n.current.Load()
	n.current.Store(last.Clone())
	last.CloseIdleConnections()
}

// awaitHandOver waits until the configuration that goes has closed its listeners at addresses where
// the new one listens too, as load does for that of the instance. Caddy returns when the goroutines
// that do this have begun, and counts a listener as gone before it closes it. Until then the kernel
// gives the old servers some of the connections that are new, and resets them.
func awaitHandOver(t *testing.T, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		eventually(t, "the configuration that goes has closed its listener", func() bool {
			return caddy.ListenerUsage("tcp", address) <= 1 && listening(t, address) <= 1
		})
	}
}

// awaitAdmin waits until the admin API answers. The goroutine that serves it asks for the latest
// server of all. If another configuration were loaded before that, the new server would listen for
// both, and the old listener would never be closed.
func awaitAdmin(t *testing.T, address string) {
	t.Helper()
	eventually(t, "the admin API answers", func() bool {
		resp, err := http.Get("http://" + address + "/config/")
		return err == nil && resp.Body.Close() == nil
	})
}

// listening is how many sockets listen at an address, as far as the system tells: 0 where it does
// not.
func listening(t *testing.T, address string) (count int) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	const every4, every6 = "00000000", "00000000000000000000000000000000" // in the kernel's form
	at := map[string]bool{every4: true, every6: true}
	if host != "" {
		ips, err := net.LookupIP(host)
		if err != nil {
			t.Fatal(err)
		}
		at = make(map[string]bool)
		for _, ip := range ips {
			at[kernelForm(ip)] = true
		}
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for _, local := range listeners(file) {
			if ip, its, _ := strings.Cut(local, ":"); at[ip] && its == fmt.Sprintf("%04X", number) {
				count++
			}
		}
	}
	return count
}

// listeners are the addresses in a table of the kernel's at which sockets listen. They come first
// in it. What comes after them is not read, which are all connections that there are or were a
// minute ago.
func listeners(file string) (addresses []string) {
	table, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer table.Close()
	const listen = "0A"
	for lines := bufio.NewScanner(table); lines.Scan(); {
		switch fields := strings.Fields(lines.Text()); {
		case len(fields) < 4 || fields[3] == "st": // the heading
		case fields[3] == listen:
			addresses = append(addresses, fields[1])
		default:
			return addresses
		}
	}
	return addresses
}

// kernelForm is an address as /proc/net has it: words of 32 bits in the order of the machine.
func kernelForm(ip net.IP) (text string) {
	if four := ip.To4(); four != nil {
		ip = four
	}
	for word := range slices.Chunk(ip, 4) {
		text += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(word))
	}
	return text
}

// handedOut are the ports that freePort has returned.
var handedOut sync.Map

// freePort returns a port that nothing listens at. It is none of those that the kernel gives to
// connections and to listeners at port 0, nor of those that the tests of fleet/redis use: one of
// them might have it before it is used.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + rand.IntN(10_000)
		l, err := net.Listen("tcp", fmt.Sprintf("localhost:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		if _, taken := handedOut.LoadOrStore(port, true); !taken {
			return port
		}
	}
	t.Fatal("no free port from 10000 to 19999")
	return 0
}
