package rfc9111_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/larder-cache/larder/rfc9111"
)

// A response that is fresh for a minute, and may be used for five more while it is renewed. Time is
// a parameter: nothing here reads a clock.
func ExamplePolicy() {
	arrived := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	response := &rfc9111.Exchange{
		Method: http.MethodGet, Status: http.StatusOK,
		Header: http.Header{
			"Date":          {arrived.Format(http.TimeFormat)},
			"Cache-Control": {"max-age=60, stale-while-revalidate=300"},
		},
		RequestTime: arrived, ResponseTime: arrived,
	}

	var policy rfc9111.Policy // RFC 9111 for a shared cache, and nothing else
	fmt.Println(policy.Storable(response) == rfc9111.Storable)

	f := policy.Freshness(response)
	for _, later := range []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute} {
		now := arrived.Add(later)
		use, _ := f.Use(rfc9111.RequestDirectives{}, now, rfc9111.Valid)
		fmt.Println(later, "age", f.Age(now), "left", f.TTL(now), use)
	}
	// Output:
	// true
	// 30s age 30s left 30s fresh
	// 2m0s age 2m0s left -1m0s refresh
	// 10m0s age 10m0s left -9m0s validate
}

// What the operator adds: ten minutes for what states no lifetime, one for a 404.
func ExampleStatusTTL() {
	policy := rfc9111.Policy{TTL: []rfc9111.StatusTTL{
		{Duration: time.Minute, Statuses: []rfc9111.StatusClass{404}},
		{Duration: 10 * time.Minute},
	}}
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, status := range []int{200, 404, 500} {
		f := policy.Freshness(&rfc9111.Exchange{Method: http.MethodGet, Status: status, Header: http.Header{}, RequestTime: now, ResponseTime: now})
		fmt.Println(status, f.Lifetime, f.Source)
	}
	// Output:
	// 200 10m0s ttl
	// 404 1m0s ttl
	// 500 0s none
}
