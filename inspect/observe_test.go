package inspect

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

// seen is an Observation that was made several times.
type seen struct {
	Observation
	cookies string // with spaces between
	times   int
}

func collect(all []seen) *Observations {
	o := NewObservations()
	for _, s := range all {
		s.Cookies = strings.Fields(s.cookies)
		if s.URL == "" {
			s.URL = "https://shop.example/a/b"
		}
		for range s.times {
			o.Add(time.Unix(1e9, 0), &s.Observation)
		}
	}
	return o
}

func TestVerdicts(t *testing.T) {
	agreeing := Observation{Would: "hit", Compared: true, Bytes: 1000}
	differing := Observation{Would: "hit", Compared: true, Differs: "body", Bytes: 1000}
	miss := Observation{Would: "miss", Bytes: 1000}
	for name, tc := range map[string]struct {
		seen             []seen
		verdict          Verdict
		because, advised string // parts
	}{
		"nothing twice": {[]seen{{miss, "", 3}}, VerdictNothing, "No URL was asked for twice", ""},
		"all agree":     {[]seen{{miss, "", 1}, {agreeing, "", 9}}, VerdictServe, "Of 10 requests 9 would have been saved, and none of the 9 that were compared differs.", ""},
		"no lifetime":   {[]seen{{Observation{Would: "miss", NotStored: "no-lifetime"}, "", 9}}, VerdictNothing, "9 answers would not have been stored, mostly because of no-lifetime (9).", "`ttl 10m`"},
		"bypass":        {[]seen{{Observation{Would: "bypass", Bypass: "method"}, "", 2}}, VerdictNothing, "2 requests would have passed by the cache, mostly because of method (2).", ""},
		"an outage": {
			[]seen{{agreeing, "", 5}, {Observation{Would: "hit", Compared: true, Failed: true, Differs: "status"}, "", 2}},
			VerdictServe, "In place of 2 failures of the origin something stored would have been served.", "",
		},
		"nothing to compare": {[]seen{{Observation{Would: "collapsed"}, "", 3}}, VerdictCheck, "nothing could be compared", ""},
		"refreshes":          {[]seen{{Observation{Would: "stale", Compared: true, Refreshes: true}, "", 3}}, VerdictNothing, "", ""},
		"a field":            {[]seen{{agreeing, "", 5}, {Observation{Would: "hit", Compared: true, Differs: "X-Request-Id"}, "", 2}}, VerdictCheck, "X-Request-Id 2", "a request id"},
		"another cookie":     {[]seen{{Observation{Would: "hit", Compared: true, Differs: "Set-Cookie"}, "", 2}}, VerdictWrong, "Set-Cookie 2", ""},
		"by cookie": {
			[]seen{{agreeing, "_ga", 5}, {agreeing, "", 20}, {differing, "_ga member", 10}},
			VerdictWrong, "The page depends on a cookie: answers to requests with `member` differ", "`cookie member` in `key`",
		},
		"by two cookies": {
			[]seen{{agreeing, "", 20}, {differing, "logged_in settings", 10}, {differing, "logged_in", 1}},
			VerdictWrong, "requests with `logged_in`, `settings` differ", "`header Cookie *logged_in=*`",
		},
		"each has the cookie": {[]seen{{differing, "session", 10}}, VerdictWrong, "requests with `session` differ", "Vary: Cookie"},
		"stored for a cookie": {
			[]seen{{Observation{Would: "hit", Compared: true, Differs: "body", StoredForCookie: true}, "", 3}, {agreeing, "", 5}},
			VerdictWrong, "it was made for one visitor", "`Cache-Control: private`",
		},
		"by Authorization": {
			[]seen{{Observation{Would: "hit", Compared: true, Differs: "body", Authorized: true}, "", 3}, {agreeing, "", 5}},
			VerdictWrong, "requests with Authorization differ", "`header Authorization *`",
		},
		"by parameters": {
			[]seen{{Observation{Would: "hit", Compared: true, Differs: "body", Parameters: true}, "", 3}, {agreeing, "", 5}},
			VerdictWrong, "`query` in `key` leaves out differ", "`query ignore`",
		},
		"by time": {
			[]seen{{differing, "", 3}, {agreeing, "", 5}, {differing, "_ga", 3}, {agreeing, "_ga", 5}},
			VerdictWrong, "The differences follow no cookie", "`max_ttl`",
		},
	} {
		t.Run(name, func(t *testing.T) {
			report := collect(tc.seen).Report()
			if len(report.Groups) != 1 {
				t.Fatalf("%d groups", len(report.Groups))
			}
			g := report.Groups[0]
			if g.Verdict != tc.verdict || !strings.Contains(strings.Join(g.Because, "\n"), tc.because) ||
				!strings.Contains(strings.Join(g.Advice, "\n"), tc.advised) || (len(g.Advice) > 0) != (tc.advised != "" || tc.verdict == VerdictWrong) {
				t.Errorf("%s %q %q, want %s, %q, %q", g.Verdict, g.Because, g.Advice, tc.verdict, tc.because, tc.advised)
			}
		})
	}
}

// TestWrongBesideManyFields: fields with names at random do not hide that a body differs.
func TestWrongBesideManyFields(t *testing.T) {
	var all []seen
	for i := range 2 * maxWords {
		all = append(all, seen{Observation{Would: "hit", Compared: true, Differs: fmt.Sprint("X-", i)}, "", 1})
	}
	all = append(all, seen{Observation{Would: "hit", Compared: true, Differs: "body"}, "", 1})
	if g := collect(all).Report().Groups[0]; g.Verdict != VerdictWrong {
		t.Errorf("%s %q", g.Verdict, g.Because)
	}
}

func TestGroups(t *testing.T) {
	for url, want := range map[string]string{
		"https://a.example/":                 "a.example/",
		"https://a.example":                  "a.example/",
		"https://a.example/?q=/x/":           "a.example/",
		"https://a.example:8443/about":       "a.example:8443/about",
		"https://a.example/product/5?x=1":    "a.example/product/*",
		"https://a.example/product/5/6":      "a.example/product/*",
		"https://a.example/style.min.css":    "a.example/*.css",
		"https://a.example/wp-content/x.css": "a.example/wp-content/*",
		"":                                   elsewhere,
		"https://a.example/" + strings.Repeat("x", 200) + "/yy": elsewhere,
	} {
		if got := groupOf(url); got != want {
			t.Errorf("%q is of %q, want %q", url, got, want)
		}
	}
}

// A flood of groups, fields and cookies takes no more memory than there is for them, and what is
// asked for often is kept apart.
func TestObservationsAreBounded(t *testing.T) {
	o := NewObservations()
	for i := range 20_000 {
		o.Add(time.Now(), &Observation{
			URL: fmt.Sprintf("https://a.example/%d/x", i), Would: "hit", Compared: true,
			Differs: fmt.Sprintf("X-%d", i), Cookies: []string{fmt.Sprintf("c%d", i)},
		})
		o.Add(time.Now(), &Observation{URL: "https://a.example/often/x", Would: "hit", Bytes: 1})
	}
	report := o.Report()
	if len(report.Groups) > maxGroups || report.Requests != 40_000 || report.SavedBytes != 20_000 {
		t.Errorf("%d groups of %d requests, %d bytes", len(report.Groups), report.Requests, report.SavedBytes)
	}
	often := report.Groups[slices.IndexFunc(report.Groups, func(g ObservedGroup) bool { return g.Group == "a.example/often/*" })]
	if often.Requests != 20_000 {
		t.Errorf("%d requests of the group that is asked for often", often.Requests)
	}
	for _, g := range report.Groups {
		if len(g.Differs) > maxWords || len(g.Examples) > maxExamples {
			t.Errorf("%s: %d words, %d examples", g.Group, len(g.Differs), len(g.Examples))
		}
	}
	for name, g := range o.groups {
		if len(g.cookies) > maxWords {
			t.Errorf("%s: %d cookies", name, len(g.cookies))
		}
	}
}

func TestObserveReport(t *testing.T) {
	use(t, &fakeCache{})
	if got := printed(t, "observe"); !strings.HasPrefix(got, "Nothing was observed.") {
		t.Errorf("before anything is: %q", got)
	}
	agreeing := Observation{Would: "hit", Compared: true, Bytes: 2048}
	differing := Observation{URL: "https://shop.example/account/", Would: "hit", Compared: true, Differs: "body", Bytes: 10}
	use(t, &fakeCache{seen: collect([]seen{
		{Observation{Would: "miss", Bytes: 2048}, "", 2}, {agreeing, "", 6}, {differing, "member", 2},
	}).Report()})
	got := printed(t, "observe")
	for _, want := range []string{
		": 10 requests. They would have been: hit 8, miss 2.\n80.0% of them would not have reached the origin.\n",
		"The origin would have had 20.0% of the requests, and sent 4.0 KiB of 16.0 KiB.\n",
		"8 answers were compared with what would have been served: 2 differ.\n",
		"GROUP                   REQUESTS  SAVED   BYTES SAVED  COMPARED  DIFFER  VERDICT\n",
		"shop.example/a/*        8         75.0%   12.0 KiB     6         0       serve\n",
		"shop.example/account/*  2         100.0%  20 B         2         2       wrong\n",
		"\nshop.example/account/*: wrong\n  2 of 2 compared answers would not have been the origin's: body 2.\n",
		"\n  differs by body: https://shop.example/account/\n  → Leave such pages to the origin",
		"\nDo not serve yet: see to shop.example/account/* first.\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the report lacks %q:\n%s", want, got)
		}
	}
	if _, body := adminapitest.Send(t, "GET", "/larder/observed?limit=1", ""); !strings.Contains(body, `"verdict":"serve"`) || strings.Contains(body, "wrong") {
		t.Errorf("the first group alone: %s", body)
	}
	response, body := adminapitest.Send(t, "GET", "/larder/observed?by=x", "")
	adminapitest.ExpectFailure(t, response, body, 400, `unknown parameter "by"; send limit or zone`)
}

// printed is what a command prints that succeeds.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, err := adminapitest.Larder(t, args...)
	if err != nil || stderr != "" {
		t.Fatalf("%v, %q", err, stderr)
	}
	return stdout
}
