package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// C28a: the port that a connection came in by does not tell two sites apart whose servers have the
// same one at different addresses, and behind the PROXY protocol it is what the header says.

// askAt sends a request for host to an address, behind a preamble, over a connection of its own. As
// instance.do it asks again for what a server that goes in a reload has dropped.
func askAt(t *testing.T, address, preamble, method, host, path string) *answer {
	t.Helper()
	a, err := tryAt(address, preamble, method, host, path)
	for attempt := 1; err != nil && attempt < 3 && method == http.MethodGet; attempt++ {
		a, err = tryAt(address, preamble, method, host, path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tryAt(address, preamble, method, host, path string) (*answer, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", preamble, method, path, host); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return &answer{Response: resp, body: string(body), err: err}, nil
}

// named answers with the name of the site that a reverse_proxy stands in.
func named(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=60")
	_, _ = io.WriteString(w, r.Header.Get("X-Site"))
}

// twoSites is a public site for any Host and an internal one, with a line of their own each.
func twoSites(public int, publicLine string, internal int, internalLine string) string {
	const site = "%s:%d {\n%s\nlarder\nreverse_proxy {{origin}} {\nheader_up X-Site %s\n}\n}\n"
	return fmt.Sprintf(site, "http://", public, publicLine, "public") + fmt.Sprintf(site, "http://internal.test", internal, internalLine, "internal")
}

// wantApart fails the test unless who asks the public site for the internal one's host reads,
// poisons and drops nothing of it.
func wantApart(t *testing.T, in *instance, host string, public, internal func(method, path string) *answer) {
	t.Helper()
	internal("GET", "/read").want(t, 200, "internal", "Larder; fwd=uri-miss; stored")
	public("GET", "/read").want(t, 200, "public", "Larder; fwd=uri-miss; stored")
	public("GET", "/poison").want(t, 200, "public", "Larder; fwd=uri-miss; stored")
	internal("GET", "/poison").want(t, 200, "internal", "Larder; fwd=uri-miss; stored")
	public("POST", "/read").want(t, 200, "public", "")
	if a := internal("GET", "/read"); !a.isHit() || a.body != "internal" {
		t.Errorf("after a POST to the public site: %q %q", a.body, a.cacheStatus())
	}
	if a := public("GET", "/read"); a.isHit() {
		t.Errorf("the POST left %q", a.cacheStatus())
	}
	if n := in.purge(fmt.Sprintf(`{"hosts":[%q]}`, host)); n != 4 {
		t.Errorf("a purge matched %d, want what both sites have", n)
	}
}

func TestSitesAtTwoAddressesOfOnePort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("the loopback interface has one address only: %v", err)
	}
	_ = l.Close()
	o := newOrigin(t, named)
	port := freePort(t)
	s := setup{site: "respond unused", more: twoSites(port, "bind 127.0.0.1", port, "bind 127.0.0.2")}
	in := start(t, s, o)
	host := fmt.Sprintf("internal.test:%d", port)
	at := func(ip string) func(method, path string) *answer {
		return func(method, path string) *answer {
			return askAt(t, fmt.Sprintf("%s:%d", ip, port), "", method, host, path)
		}
	}
	public, internal := at("127.0.0.1"), at("127.0.0.2")
	internal("GET", "/kept")
	s.more = fmt.Sprintf("http://127.0.0.1:%d {\nrespond first\n}\n", freePort(t)) + s.more
	in.load(s, o) // Caddy numbers its servers anew
	if a := internal("GET", "/kept"); !a.isHit() {
		t.Errorf("after a reload with another site: %q", a.cacheStatus())
	}
	in.purge(`{"all":true}`)
	wantApart(t, in, host, public, internal)
}

func TestSitesBehindTheProxyProtocol(t *testing.T) {
	o := newOrigin(t, named)
	one, other := freePort(t), freePort(t)
	in := start(t, setup{
		global: "servers {\nlistener_wrappers {\nproxy_protocol {\nallow 127.0.0.0/8 ::1/128\n}\n}\n}",
		site:   "respond unused", more: twoSites(one, "", other, ""),
	}, o)
	at := func(port int) func(method, path string) *answer {
		return func(method, path string) *answer {
			return askAt(t, fmt.Sprintf("localhost:%d", port), "PROXY TCP4 1.2.3.4 10.0.0.1 5555 80\r\n", method, "internal.test", path)
		}
	}
	wantApart(t, in, "internal.test", at(one), at(other))
}
