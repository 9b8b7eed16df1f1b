package httpcache

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"testing"
)

// TestKeyStays: a key is what is stored finds its way back by, after a restart too.
func TestKeyStays(t *testing.T) {
	u := &url.URL{Path: "/a b", RawQuery: "b=2&a=1"}
	k := &keyed{
		Identity: Identity{
			Authority: "example.com", URL: u, Listener: Listener{Server: "s", Port: 443}, TLS: true, Dotted: true,
			Trusted: true, Branch: "b", ErrorStatus: 404,
		},
		method: "QUERY", inner: &url.URL{Path: "/c", ForceQuery: true}, added: []string{"x", ""}, content: &content{body: []byte("{}")},
		header: http.Header{
			"X-A": {"1", "2"}, "Cookie": {"a=1; c=3"}, "X-Forwarded-Proto": {"https"}, "Content-Type": {"application/json"},
		},
	}
	rules := &KeyRules{Query: QueryRules{Sort: true}, Headers: []string{"X-A", "X-B"}, Cookies: []string{"a", "b"}}
	key := rules.key(k)
	if got := hex.EncodeToString(key[:]); got != "ec885d119413ae45eb9fb83b162cce3fbcce8c387af56d1f6c4e1c4aa7690165" {
		t.Errorf("the key is %s", got)
	}
	want := "[{method [QUERY]} {scheme [https]} {host [example.com]} {server [s]} {port [443]} {path [/a%20b]} " +
		"{query [a=1&b=2]} {rewritten path [/c]} {rewritten query [?]} {X-A [1 2]} {cookie a [=1]} {add [x ]} " +
		"{X-Forwarded-Proto [https]} {dot behind the host [yes]} {claims of a trusted proxy [yes]} {branch [b]} " +
		"{status of the error [404]} {Content-Type [application/json]} " +
		"{body [2 bytes, SHA-256 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a]}]"
	if got := fmt.Sprint(rules.parts(k)); got != want {
		t.Errorf("its parts are\n%s\nwant\n%s", got, want)
	}
}
