package rfc9111

import "testing"

// TestOriginFailed: what an operator names for one page does not make the whole origin one that
// fails, and what asks for less to do always does.
func TestOriginFailed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy Policy
		failed []int
	}{
		{"defaults", Policy{}, []int{NoAnswer, 429, 500, 502, 503, 504}},
		{"404 named", Policy{Failures: []StatusClass{404}}, []int{NoAnswer, 429, 503}},
		{"a class", Policy{Failures: []StatusClass{5}}, []int{NoAnswer, 429, 500, 502, 503, 504}},
	} {
		want := make(map[int]bool)
		for _, status := range tc.failed {
			want[status] = true
		}
		for status := range 600 {
			if got := tc.policy.OriginFailed(status); got != want[status] {
				t.Errorf("%s: %d = %v", tc.name, status, got)
			}
		}
	}
}
