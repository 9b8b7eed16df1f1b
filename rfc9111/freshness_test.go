package rfc9111

import (
	"net/http"
	"reflect"
	"testing"
	"time"
)

func TestStatusClass(t *testing.T) {
	for _, tc := range []struct {
		text    string
		ok      bool
		matches []int
		misses  []int
	}{
		{"404", true, []int{404}, []int{400, 405, 4}},
		{"4xx", true, []int{400, 404, 499}, []int{399, 500, 4}},
		{"5xx", true, []int{500, 599}, []int{499, 600}},
		{"6xx", true, []int{600}, []int{599}},
		{"XXX", false, nil, nil},
		{"0xx", false, nil, nil},
		{"40", false, nil, nil},
		{"4x4", false, nil, nil},
		{"4000", false, nil, nil},
		{"", false, nil, nil},
		{"-04", false, nil, nil},
	} {
		t.Run(tc.text, func(t *testing.T) {
			c, err := ParseStatusClass(tc.text)
			if (err == nil) != tc.ok {
				t.Fatalf("error %v", err)
			}
			if tc.ok && c.String() != tc.text {
				t.Errorf("String() = %q", c)
			}
			for _, status := range tc.matches {
				if !c.Matches(status) {
					t.Errorf("does not match %d", status)
				}
			}
			for _, status := range tc.misses {
				if c.Matches(status) {
					t.Errorf("matches %d", status)
				}
			}
		})
	}
}

func FuzzFreshness(f *testing.F) {
	f.Add("max-age=60", "30", "Sun, 01 Mar 2026 12:00:00 GMT", "0", int64(5))
	f.Add("", "99999999999999999999", "Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", int64(1)<<40)
	f.Fuzz(func(t *testing.T, cacheControl, age, date, expires string, at int64) {
		x := &Exchange{
			Method: http.MethodGet, Status: http.StatusOK,
			Header: http.Header{
				"Cache-Control": {cacheControl}, "Age": {age}, "Date": {date}, "Expires": {expires}, "Last-Modified": {date},
			},
			RequestTime: arrival.Add(-time.Second), ResponseTime: arrival,
		}
		p := &Policy{Heuristic: true, StaleIfError: time.Minute}
		fresh := p.Freshness(x)
		now := arrival.Add(time.Duration(at%(1<<30)) * time.Second)
		if fresh.Lifetime < 0 || fresh.Lifetime > maxDelta {
			t.Errorf("lifetime %v", fresh.Lifetime)
		}
		if got := fresh.Age(now); got < 0 || got < fresh.InitialAge {
			t.Errorf("age %v, initially %v", got, fresh.InitialAge)
		}
		if keep := fresh.KeepUntil(); keep.Before(arrival) {
			t.Errorf("kept until %v", keep)
		}
		use, forward := fresh.Use(RequestDirectives{}, now, Valid)
		if (use == UseValidate || use == UseNever) == (forward == ForwardNone) {
			t.Errorf("use %v, forward %v", use, forward)
		}
		if use == UseFresh && fresh.TTL(now) <= 0 {
			t.Errorf("fresh with a ttl of %v", fresh.TTL(now))
		}
	})
}

// A clock that was far ahead when a response came, and is right now, does not keep it fresh until
// it has caught up.
func TestClockThatWasAhead(t *testing.T) {
	stored := time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)
	f := Freshness{Lifetime: time.Second, ResponseTime: stored}
	for _, tc := range []struct {
		now   time.Time
		fresh bool
	}{
		{stored, true},
		{stored.Add(-10 * time.Second), true},
		{stored.Add(-24 * time.Hour), false},
		{stored.Add(2 * time.Second), false},
	} {
		if got := f.TTL(tc.now) > 0; got != tc.fresh {
			t.Errorf("at %v: fresh %v, want %v", tc.now, got, tc.fresh)
		}
	}
}

// Judge says the same as Freshness of what may be stored, and of the rest why it may not.
func TestJudgeAgreesWithFreshness(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, cacheControl := range []string{
		"", "max-age=60", "max-age=0", "no-store", "private", "no-cache", "s-maxage=1, private=\"X-A\"", "max-age=60, stale-if-error=9",
	} {
		for _, status := range []int{200, 206, 404, 500} {
			for _, cookie := range []bool{false, true} {
				x := &Exchange{
					Method: http.MethodGet, Status: status, Header: http.Header{"Cache-Control": {cacheControl}, "Etag": {`"v1"`}},
					RequestTime: now.Add(-time.Second), ResponseTime: now, HadSetCookie: cookie,
				}
				p := new(Policy)
				got, want := p.Judge(x), p.Freshness(x)
				same := got.Reason == want.Reason && got.ResponseTime.Equal(now) && got.UsableByFollowers() == want.UsableByFollowers()
				if !same || got.Reason == Storable && !reflect.DeepEqual(got, want) {
					t.Errorf("%q, status %d, Set-Cookie %v: %+v, want %+v", cacheControl, status, cookie, got, want)
				}
			}
		}
	}
}
