package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

const repeatsField = "Larder-Repeats"

// repeatsTo asks for a path n times and returns what each answer says of repeats.
func (in *instance) repeatsTo(path string, n int, header ...string) string {
	in.t.Helper()
	said := make([]string, n)
	for i := range n {
		a := in.get(path, header...)
		said[i] = strings.TrimSpace(fmt.Sprintf("%d %s", a.StatusCode, a.Header.Get(repeatsField)))
	}
	return strings.Join(said, ", ")
}

// TestRepeats has a client ask for a page, and another, as a looping agent does, until all who are
// to hear of it have.
func TestRepeats(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "no-store"))
	log := newAccessLog(t)
	s := setup{site: log.directive() + "header >X-Repeats {http.larder.repeats}\n" + block("repeats 2 1h") + "\nreverse_proxy {{origin}}"}
	in := start(t, s, o)
	before := in.metric("caddy_larder_repeats_total", `action="marked"`)
	if got := in.repeatsTo("/a", 2, repeatsField, "9"); got != "200, 200" {
		t.Errorf("the first two: %s", got)
	}
	if got := o.last().Header[repeatsField]; got != nil {
		t.Errorf("the origin was told %q, by the client", got)
	}
	if got := in.repeatsTo("/b", 2); got != "200, 200" {
		t.Errorf("two for another page: %s", got)
	}
	in.load(s, o) // which forgets nothing
	a := in.get("/a", repeatsField, "9")
	a.want(t, 200, "", "Larder; fwd=miss")
	if a.Header.Get(repeatsField) != "3" || a.Header.Get("X-Repeats") != "3" || o.last().Header.Get(repeatsField) != "3" {
		t.Errorf("the third: the client is told %v, the origin %q", a.Header, o.last().Header[repeatsField])
	}
	if got := log.entry(t, "GET", "/a"); got["larder_repeats"] != nil {
		t.Errorf("access log of the first: %v", got["larder_repeats"])
	}
	in.do(http.MethodHead, "/a", "")
	if got := log.entry(t, "HEAD", "/a"); got["larder_repeats"] != 4.0 {
		t.Errorf("access log of the fourth: %v", got["larder_repeats"])
	}
	eventually(t, "the metric", func() bool { return in.metric("caddy_larder_repeats_total", `action="marked"`) == before+2 })
}

// TestRepeatsBy: what tells clients apart is the operator's to say.
func TestRepeatsBy(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, proxied(block("repeats 1 1h {header.Authorization}")), o)
	for _, step := range []struct{ header, want string }{
		{"one", "200, 200 2"}, {"two", "200, 200 2"}, {"one", "200 3, 200 4"}, {"", "200, 200"},
	} {
		if got := in.repeatsTo("/", 2, "Authorization", step.header); got != step.want {
			t.Errorf("%q: %s, want %s", step.header, got, step.want)
		}
	}
}

// TestRepeatsRefused: a page for errors can make an answer of the refusal, and other clients and
// other pages are answered.
func TestRepeatsRefused(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	s := proxied(block("repeats 2 1h refuse"))
	s.site += "\nhandle_errors 429 {\nrespond \"Not again: {err.message}\" 429\n}"
	in := start(t, s, o)
	one, two := in.from(t, "127.0.0.1"), in.from(t, "127.0.0.2")
	before := in.metric("caddy_larder_repeats_total", `action="refused"`)
	if got := one.repeatsTo("/", 4); got != "200, 200, 429 3, 429 4" {
		t.Errorf("the first client: %s", got)
	}
	if got := one.repeatsTo("/other", 2) + ", " + two.repeatsTo("/", 2); got != "200, 200, 200, 200" {
		t.Errorf("another page, and another client: %s", got)
	}
	a := one.get("/")
	a.want(t, 429, "Not again: the client has asked for the same thing too often", "Larder; detail=repeats")
	if left, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || left < 3500 || left > 3600 {
		t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
	}
	o.asked(t, 2)
	eventually(t, "the metric", func() bool { return in.metric("caddy_larder_repeats_total", `action="refused"`) == before+3 })
}

// TestRepeatsPassALarderBehind: the one behind takes out what a client sends, not what the one in
// front says.
func TestRepeatsPassALarderBehind(t *testing.T) {
	for _, tc := range []struct{ front, behind, want string }{
		{block("repeats 1 1h"), "larder", "2"},
		{block("repeats 1 1h"), block("repeats 1 1h"), "2"},
		{block("status full"), "larder", ""},
		{block("observe", "repeats 1 1h"), "larder", ""},
		{"@some header X-Front 1\nlarder @some", "larder", ""},
	} {
		o := newOrigin(t, answering(200, "Cache-Control", "no-store"))
		in := start(t, setup{site: "route {\n" + tc.front + "\nheader X-Between 1\n" + tc.behind + "\nreverse_proxy {{origin}}\n}"}, o)
		in.get("/", repeatsField, "9")
		in.get("/", repeatsField, "9")
		if got := o.last().Header.Get(repeatsField); got != tc.want {
			t.Errorf("%s, then %s: the origin was told %q, want %q", tc.front, tc.behind, got, tc.want)
		}
	}
}
