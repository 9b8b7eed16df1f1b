package purge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// newMethod answers for a cache, and needs a token.
func newMethod(cache Cache) (*Method, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	return &Method{
		Fields: []string{"Xkey"}, Cache: cache, Logger: zap.New(core), Refusals: new(Refusals),
		Token: func(*http.Request) (string, error) { return "hush", nil },
	}, logs
}

func serve(m *Method, call *Call, now time.Time) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	m.Serve(w, call, now)
	return w
}

// TestMethodAnswersAsTheAdminAPI: with what a fleet says, and with 503 where the purge may not
// hold.
func TestMethodAnswersAsTheAdminAPI(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cache  fakeCache
		status int
		want   string
	}{
		{"matched", fakeCache{matched: 3}, 200, `{"matched":3,"soft":false,"dry_run":false}`},
		{"nothing matched", fakeCache{}, 200, `{"matched":0,"soft":false,"dry_run":false}`},
		{"a fleet", fakeCache{matched: 1, reach: &Reach{Nodes: 2, Fenced: []string{"a"}}}, 200, `{"matched":1,"soft":false,"dry_run":false,"nodes":2,"fenced":["a"],"uncertain":[]}`},
		{"not durable", fakeCache{err: errors.New("disk full")}, 503, `{"error":"the purge could not be made durable; send it again: disk full"}`},
		{"not everywhere", fakeCache{err: fmt.Errorf("%w: no reply", ErrNotEverywhere)}, 503, `{"error":"the purge may not hold on every node; send it again: it holds on this node only: no reply"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, _ := newMethod(&tc.cache)
			w := serve(m, newCall("/", "xkey", "a", ownField, "hush"), time.Now())
			if w.Code != tc.status || w.Body.String() != tc.want+"\n" {
				t.Errorf("answer %d %s, want %d %s", w.Code, w.Body, tc.status, tc.want)
			}
		})
	}
}

// TestPurgeOfASenderThatLeaves: plugins wait for a second or less, and a fleet may take longer.
func TestPurgeOfASenderThatLeaves(t *testing.T) {
	cache := new(fakeCache)
	m, _ := newMethod(cache)
	call := newCall("/", ownField, "hush")
	ctx, leave := context.WithCancel(t.Context())
	leave()
	call.Request = call.WithContext(ctx)
	if w := serve(m, call, time.Now()); w.Code != http.StatusOK || cache.ctxErr != nil {
		t.Errorf("answer %d, the purge ends with %v", w.Code, cache.ctxErr)
	}
}

// TestNothingIsRevealed: the answer to one who may not purge is the same to the byte, whatever is
// asked for and however much of the token is right, and the cache is not asked.
func TestNothingIsRevealed(t *testing.T) {
	cache := &fakeCache{matched: 3, err: errors.New("disk full")}
	for _, allow := range [][]netip.Prefix{nil, {netip.MustParsePrefix("10.0.0.0/8")}} {
		var first string
		for _, call := range []*Call{
			newCall("/a"),
			newCall("/a*b"),
			newCall("/", "xkey", "a"),
			newCall("/", "xkey", "\xff", "Purge-Method", "fuzzy"),
			newCall("/", ownField, "hus"),
			newCall("/", ownField, "hush "),
			newCall("/", ownField, "hushh"),
			newCall("/", "Authorization", "Bearer Hush"),
			newCall("/", "Authorization", "hush"),
		} {
			m, logs := newMethod(cache)
			m.Allow = allow
			w := serve(m, call, time.Now())
			header, err := json.Marshal(w.Header())
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(w.Code, string(header), w.Body.String())
			if first == "" {
				first = got
			}
			if got != first {
				t.Errorf("the answers differ:\n%s\n%s", first, got)
			}
			if lines := logs.FilterMessage("a PURGE was refused").Len(); lines != 1 {
				t.Errorf("%d lines", lines)
			}
		}
	}
	if len(cache.purges) > 0 {
		t.Errorf("purged %+v", cache.purges)
	}
}

// TestTokenThatIsMissing: no request has it, and the log says why.
func TestTokenThatIsMissing(t *testing.T) {
	for _, err := range []error{nil, errors.New("no such placeholder")} {
		m, logs := newMethod(new(fakeCache))
		m.Token = func(*http.Request) (string, error) { return "", err }
		for _, call := range []*Call{newCall("/"), newCall("/", ownField, ""), newCall("/", "Authorization", "Bearer ")} {
			if w := serve(m, call, time.Now()); w.Code != http.StatusUnauthorized {
				t.Errorf("answer %d", w.Code)
			}
		}
		if said := strings.Contains(fmt.Sprint(logs.All()[0].ContextMap()), "no such placeholder"); said != (err != nil) {
			t.Errorf("logged %v", logs.All()[0].ContextMap())
		}
	}
}

func TestAllow(t *testing.T) {
	allow := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	for text, want := range map[string]bool{
		"192.0.2.7": true, "192.0.3.7": false, "::ffff:192.0.2.7": true, "2001:db8::1": true, "2001:db8::1%eth0": true, "2001:db9::1": false,
		"::192.0.2.7": false,
	} {
		if got := allows(allow, netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if allows(allow, netip.Addr{}) {
		t.Error("a client without an address may purge")
	}
}

// TestPagesDoNotPurge: a page that has its host resolve to this server is at an allowed address.
func TestPagesDoNotPurge(t *testing.T) {
	m := &Method{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Logger: zap.NewNop()}
	for _, field := range []string{"Origin", "Sec-Fetch-Site"} {
		call := newCall("/a", field, "http://rebind.example")
		if got := m.Foresee(call); got.Status != http.StatusForbidden || !strings.Contains(got.Err.Error(), "web page") {
			t.Errorf("%s: %+v", field, got)
		}
	}
	if got := m.Foresee(newCall("/a")); got.Status != http.StatusOK {
		t.Errorf("of a program: %+v", got)
	}
	if got := m.Foresee(newCall("/a", "Sec-Fetch-Mode", "cors")); got.Status != http.StatusOK {
		t.Errorf("of Node's fetch, which was refused: %+v", got)
	}
	m.Token = func(*http.Request) (string, error) { return "secret", nil }
	if got := m.Foresee(newCall("/a", "Origin", "http://example.com", "X-Purge-Token", "secret")); got.Status != http.StatusOK {
		t.Errorf("with the token: %+v", got)
	}
}

// TestBodyOfUnknownLength: HTTP/2 needs no Content-Length, and what the body says is not read.
func TestBodyOfUnknownLength(t *testing.T) {
	call := newCall("/a")
	call.ContentLength = -1
	if got := (&Method{Logger: zap.NewNop()}).Foresee(call); got.Status != http.StatusBadRequest {
		t.Errorf("%+v", got)
	}
}

// TestRefusals: ten at once, then one every six seconds, for each address and each network of IPv6.
func TestRefusals(t *testing.T) {
	var f Refusals
	now := time.Unix(1_700_000_000, 0)
	told := func(address string, at time.Duration) (n int) {
		for range 100 {
			if f.count(netip.MustParseAddr(address), now.Add(at)) == 0 {
				n++
			}
		}
		return n
	}
	for _, step := range []struct {
		address string
		at      time.Duration
		want    int
	}{
		{"192.0.2.7", 0, 10},
		{"::ffff:192.0.2.7", 0, 0},
		{"192.0.2.8", 0, 10},
		{"192.0.2.7", 5 * time.Second, 0},
		{"192.0.2.7", 6 * time.Second, 1},
		{"192.0.2.7", 30 * time.Second, 4},
		{"192.0.2.7", time.Hour, 10},
		{"2001:db8::1", 0, 10},
		{"2001:db8::2", 0, 0},
		{"2001:db8:0:1::1", 0, 10},
	} {
		if got := told(step.address, step.at); got != step.want {
			t.Errorf("%s after %v: %d, want %d", step.address, step.at, got, step.want)
		}
	}
	if wait := f.count(netip.MustParseAddr("192.0.2.8"), now); wait != refusalEvery {
		t.Errorf("to wait %v", wait)
	}
}

// TestRefusalsAreBounded: what is remembered of addresses is bounded, and those of just before are
// not forgotten.
func TestRefusalsAreBounded(t *testing.T) {
	var f Refusals
	now := time.Unix(1_700_000_000, 0)
	first := netip.MustParseAddr("192.0.2.7")
	for range refusalsAtOnce {
		f.count(first, now)
	}
	for i := range 10 * refusalAddresses {
		f.count(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
		if i == refusalAddresses && f.count(first, now) == 0 {
			t.Error("the first is forgotten")
		}
	}
	if n := len(f.latest) + len(f.before); n > 2*refusalAddresses {
		t.Errorf("%d are remembered", n)
	}
}

func TestForesee(t *testing.T) {
	cache := new(fakeCache)
	m, _ := newMethod(cache)
	for _, tc := range []struct {
		call   *Call
		status int
	}{
		{newCall("/"), 401}, {newCall("/a*b", ownField, "hush"), 400}, {newCall("/", ownField, "hush"), 200},
	} {
		seen := m.Foresee(tc.call)
		if seen.Status != tc.status || (seen.Err == nil) != (tc.status == 200) || seen.Selectors.Empty() == (tc.status == 200) {
			t.Errorf("%+v, want %d", seen, tc.status)
		}
	}
	if len(cache.purges) > 0 {
		t.Errorf("purged %+v", cache.purges)
	}
}
