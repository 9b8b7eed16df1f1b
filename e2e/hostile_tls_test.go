package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// startTLS starts one site twice, in clear text and with a certificate of its own.
func startTLS(t *testing.T, o *origin) (plain, secure *instance) {
	t.Helper()
	clearPort, port := freePort(t), freePort(t)
	s := setup{
		site: "respond unused",
		more: fmt.Sprintf("http://:%d {\nlarder\nreverse_proxy {{origin}}\n}\nhttps://localhost:%d, https://example.com:%d {\ntls internal\nlarder\nreverse_proxy {{origin}}\n}",
			clearPort, port, port),
		global: "skip_install_trust\nlocal_certs\nstorage file_system " + t.TempDir(),
	}
	plain = start(t, s, o)
	plain.port = clearPort
	if err := loadCaddyfile(t, strings.Replace(plain.file, "auto_https off", "auto_https disable_redirects", 1)); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"}, // the certificate is the test's own
	}
	t.Cleanup(transport.CloseIdleConnections)
	copied := *plain
	secure = &copied
	secure.port = port
	secure.client = &http.Client{Transport: overTLS{transport}, CheckRedirect: plain.client.CheckRedirect, Timeout: 20 * time.Second}
	eventually(t, "the certificate is made", func() bool {
		conn, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", port), transport.TLSClientConfig.Clone())
		return err == nil && conn.Close() == nil
	})
	return plain, secure
}

// overTLS sends what is made for http by https.
type overTLS struct{ *http.Transport }

func (o overTLS) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme = "https"
	return o.Transport.RoundTrip(r)
}
