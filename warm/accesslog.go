package warm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// userAgent is that of the requests of this package, unless -H says otherwise. Lines of a log that
// have it say nothing about visitors.
const userAgent = "caddy-larder-warm"

// access is a line of an access log.
type access struct {
	method, host, target string // host is empty where the format has none
	https                bool
	status               int
	agent                string
}

// counts reports whether a line is of a page that a visitor was given.
func (a *access) counts() bool {
	return a.method == "GET" && (a.status == 200 || a.status == 304) &&
		strings.HasPrefix(a.target, "/") && !strings.HasPrefix(a.agent, userAgent)
}

// url is the URL that was asked for; base is scheme and host where the line has none.
func (a *access) url(base string) string {
	switch {
	case a.host == "":
		return base + a.target
	case a.https:
		return "https://" + a.host + a.target
	}
	return "http://" + a.host + a.target
}

var errNoAccess = errors.New("is no line of an access log")

// parseAccess reads a line of Caddy's JSON log, or of the common or combined format, with the
// virtual host in front (Apache's vhost_combined) or without.
func parseAccess(line []byte) (access, error) {
	line = bytes.TrimSpace(line)
	if bytes.HasPrefix(line, []byte("{")) {
		return parseCaddyAccess(line)
	}
	return parseCommonAccess(line)
}

// caddyAccess is what is looked at of a line of Caddy's.
type caddyAccess struct {
	Request struct {
		Method string          `json:"method"`
		Host   string          `json:"host"`
		URI    string          `json:"uri"`
		TLS    json.RawMessage `json:"tls"`
		// Filters of the log may have made something else of the fields than lists.
		Headers struct {
			Proto json.RawMessage `json:"X-Forwarded-Proto"`
			Agent json.RawMessage `json:"User-Agent"`
		} `json:"headers"`
	} `json:"request"`
	Status int `json:"status"`
}

func parseCaddyAccess(line []byte) (access, error) {
	var c caddyAccess
	var otherType *json.UnmarshalTypeError
	if err := json.Unmarshal(line, &c); err != nil && !errors.As(err, &otherType) {
		return access{}, errNoAccess
	}
	r := &c.Request
	if r.Method == "" || r.Host == "" || r.URI == "" || c.Status == 0 {
		return access{}, errNoAccess
	}
	encrypted := len(r.TLS) > 0 && !bytes.Equal(r.TLS, []byte("null")) || firstValue(r.Headers.Proto) == "https"
	return access{r.Method, r.Host, r.URI, encrypted, c.Status, firstValue(r.Headers.Agent)}, nil
}

// firstValue is the first of a list of texts.
func firstValue(raw json.RawMessage) string {
	var values []string
	if len(raw) == 0 || json.Unmarshal(raw, &values) != nil || len(values) == 0 {
		return ""
	}
	return values[0]
}

// parseCommonAccess reads
//
//	192.0.2.1 - - [29/Nov/2026:03:00:00 +0000] "GET /a?b HTTP/1.1" 200 512 "https://example.com/" "agent"
//
// with example.com:443 in front of the address or without.
func parseCommonAccess(line []byte) (a access, err error) {
	before, rest, found := bytes.Cut(line, []byte(" ["))
	_, rest, closed := bytes.Cut(rest, []byte(`] "`))
	request, rest, quoted := bytes.Cut(rest, []byte(`"`))
	if !found || !closed || !quoted || bytes.ContainsRune(request, '\\') {
		return a, errNoAccess
	}
	switch names := bytes.Fields(before); len(names) {
	case 3:
	case 4:
		var port string
		a.host = string(names[0])
		if _, port, _ = strings.Cut(a.host, ":"); port == "443" {
			a.https = true
		}
	default:
		return a, errNoAccess
	}
	parts := strings.Split(string(request), " ")
	if len(parts) != 3 || !strings.HasPrefix(parts[2], "HTTP/") {
		return a, errNoAccess
	}
	a.method, a.target = parts[0], parts[1]
	code, _, _ := strings.Cut(strings.TrimPrefix(string(rest), " "), " ")
	if a.status, err = strconv.Atoi(code); err != nil {
		return a, errNoAccess
	}
	if quotes := bytes.Split(rest, []byte(`"`)); len(quotes) >= 4 {
		a.agent = string(quotes[len(quotes)-2])
	}
	return a, nil
}

// accessLogs are the logs of a job, which are counted together: they are the parts of a rotated
// one.
type accessLogs struct {
	sites    *sites
	anyHost  bool // all requests go to one place, so that the host in a log names no other
	urls     *frequency
	lines    int // of a log,
	unread   int // and of something else
	hostless int // lines that count and have no host
	others   int // lines of other sites
}

func newAccessLogs(of *sites, anyHost bool) *accessLogs {
	return &accessLogs{sites: of, anyHost: anyHost, urls: newFrequency(maxFrequencyURLs, maxFrequencyBytes)}
}

// read counts the URLs of a log.
func (l *accessLogs) read(name string, r io.Reader) error {
	in, err := inClear(r)
	if err != nil {
		return fmt.Errorf("%s %w", name, err)
	}
	lines, before := newLines(in), l.lines
	for lines.next() {
		l.take(lines)
	}
	switch {
	case lines.err != nil:
		return fmt.Errorf("reading %s: %w", name, lines.err)
	case l.lines == before && lines.number > 0:
		return fmt.Errorf("%s has no line of an access log; give Caddy's JSON log, or one in the common or combined format", name)
	case l.hostless > 0:
		return fmt.Errorf("%s has lines without a host; give it as --site https://example.com, once", name)
	}
	return nil
}

func (l *accessLogs) take(lines *lines) {
	if len(lines.line) == 0 {
		return
	}
	a, err := parseAccess(lines.line)
	if err != nil || lines.tooLong {
		l.unread++
		return
	}
	l.lines++
	if !a.counts() {
		return
	}
	base := l.sites.base()
	if a.host == "" && base == "" {
		l.hostless++
		return
	}
	normal, err := normalize(a.url(base))
	if err != nil {
		l.unread++
		return
	}
	if a.host != "" && !l.wants(siteOf(normal)) {
		l.others++
		return
	}
	l.urls.add(normal)
}

// wants reports whether the site of a line is meant.
func (l *accessLogs) wants(s site) bool {
	return l.sites.known[s] || l.anyHost && len(l.sites.known) == 0
}

// into puts the URLs into a plan, the most frequent first.
func (l *accessLogs) into(p *plan) {
	p.skipped.Lines += l.unread
	p.skipped.OtherHosts += l.others
	for _, url := range l.urls.ranked() {
		p.add(url)
	}
}
