package warm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// client makes single requests. It has no cookies, follows no redirect, and sends what it is given
// and nothing else.
type client struct {
	transport http.RoundTripper
	// timeout is how long the header may take, and each part of the body.
	timeout time.Duration
	// whole is how long an answer may take in all. A stream that never ends is stored by nothing.
	whole time.Duration
}

// newTransport connects to an address, host or host:port, or if that is empty to the host of each
// URL. Host and the name in TLS are the URL's in any case. Proxies of the environment are not used:
// the site is to be asked, and no cache in between.
func newTransport(to string, connections int) (*http.Transport, error) {
	dial := (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	t := &http.Transport{
		DialContext: dial, DisableCompression: true, ForceAttemptHTTP2: true,
		MaxIdleConns: connections, MaxIdleConnsPerHost: connections, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: 10 * time.Second,
	}
	if to == "" {
		return t, nil
	}
	host, port, err := splitTo(to)
	if err != nil {
		return nil, err
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		target := port
		if target == "" {
			var err error
			if _, target, err = net.SplitHostPort(address); err != nil {
				return nil, err
			}
		}
		return dial(ctx, network, net.JoinHostPort(host, target))
	}
	return t, nil
}

// splitTo reads the value of --to.
func splitTo(to string) (host, port string, err error) {
	if u, err := url.Parse("//" + to); err == nil && u.Host == to && u.Hostname() != "" {
		return u.Hostname(), u.Port(), nil
	}
	return "", "", fmt.Errorf("--to %s is no address; give one such as localhost:8080 or 192.0.2.1", shorten(to))
}

var (
	errStalled = errors.New("nothing came for too long")
	errEndless = errors.New("the answer did not end in time")
)

// do makes a request and has the answer read. Its errors are those of the connection and of read.
func (c *client) do(ctx context.Context, url string, header http.Header, read func(*http.Response) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(c.timeout, func() { cancel(fmt.Errorf("%w (%v)", errStalled, c.timeout)) })
	defer stalled.Stop()
	endless := time.AfterFunc(c.whole, func() { cancel(fmt.Errorf("%w (%v)", errEndless, c.whole)) })
	defer endless.Stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Header = header.Clone()
	resp, err := c.transport.RoundTrip(r)
	if err == nil {
		body := resp.Body
		resp.Body = &watchedBody{body, func() { stalled.Reset(c.timeout) }}
		err = errors.Join(read(resp), body.Close())
	}
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, errStalled) || errors.Is(cause, errEndless)) {
		return cause
	}
	return err
}

// watchedBody tells when a part of the body has come.
type watchedBody struct {
	io.ReadCloser
	came func()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.came()
	}
	return n, err
}

// answer is what came of a request.
type answer struct {
	status int
	header http.Header
	bytes  int64 // of the body
	err    error // no answer, or not a whole one
}

// smallBody is up to which length a body is read although nothing comes of it, so that its
// connection can be used again.
const smallBody = 256 << 10

// get makes a request and reads the whole answer where that is stored, as Larder stores no part of
// one. A hit is read too: it may be a file in slices, of which some are looked up before that is
// told, and what is missing between them is fetched as it is read. A body of which the header says
// that it is not stored may be an event stream, or a film: it is read where it is small.
func (c *client) get(ctx context.Context, url string, header http.Header) (a answer) {
	a.err = c.do(ctx, url, header, func(resp *http.Response) (err error) {
		a.status, a.header = resp.StatusCode, resp.Header
		small := resp.ContentLength >= 0 && resp.ContentLength <= smallBody
		if came := judge(&a).outcome; small || came != notStored && came != failed {
			a.bytes, err = io.Copy(io.Discard, resp.Body)
		}
		return err
	})
	return a
}

// maxRedirects is how many redirects are followed in a row.
const maxRedirects = 5

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// resolve is what a Location names, in the normal form.
func resolve(from, location string) (string, error) {
	base, err := url.Parse(from)
	if err != nil {
		return "", err
	}
	target, err := base.Parse(location)
	if err != nil {
		return "", err
	}
	return normalize(target.String())
}

// statusText is a status with its words.
func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}
