package dashboard

import (
	"fmt"
	"net"
)

// Listen listens on a TCP address. It refuses one that other machines can reach, unless remote says
// that they may.
func Listen(address string, remote bool) (net.Listener, error) {
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--listen takes an address like localhost:0: %w", err)
	}
	if !remote && !resolved.IP.IsLoopback() {
		return nil, fmt.Errorf("--listen %s can be reached from other machines, where the token is enough to purge; "+
			"give a loopback address such as localhost:0, or add --allow-remote", address)
	}
	return net.ListenTCP("tcp", resolved)
}

// ownHosts returns what Host may be for a server that listens on an address, as Options has it.
func ownHosts(address string) (hosts []string, anyAddress bool) {
	host := hostname(address)
	ip := net.ParseIP(host)
	if host == "" || (ip != nil && ip.IsUnspecified()) {
		return nil, true
	}
	return []string{host}, false
}
