package purge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

// In a fleet the answer to a purge says how far it reaches, with empty lists where there is nobody
// to name.
func TestPurgeInAFleet(t *testing.T) {
	for _, tc := range []struct {
		name, body, want, sentence string
		reach                      Reach
	}{
		{
			"everywhere", `{"all":true}`,
			`{"matched":3,"soft":false,"dry_run":false,"nodes":5,"fenced":[],"uncertain":[]}`,
			"purged 3 responses; it holds on 5 nodes\n",
			Reach{Nodes: 5},
		},
		{
			"alone", `{"all":true}`,
			`{"matched":3,"soft":false,"dry_run":false,"nodes":1,"fenced":[],"uncertain":[]}`,
			"purged 3 responses; it holds on 1 node\n",
			Reach{Nodes: 1},
		},
		{
			"but for some", `{"all":true}`,
			`{"matched":3,"soft":false,"dry_run":false,"nodes":2,"fenced":["a","b"],"uncertain":["c"]}`,
			"purged 3 responses; it holds on 2 nodes; gave no answer and were waited out: a b; may answer from older content: c\n",
			Reach{Nodes: 2, Fenced: []string{"a", "b"}, Uncertain: []string{"c"}},
		},
		{
			"names that a terminal would act on", `{"all":true}`,
			`{"matched":3,"soft":false,"dry_run":false,"nodes":2,"fenced":["a\u001b[2J"],"uncertain":["b\n"]}`,
			`purged 3 responses; it holds on 2 nodes; gave no answer and were waited out: a\x1b[2J; may answer from older content: b\x0a` + "\n",
			Reach{Nodes: 2, Fenced: []string{"a\x1b[2J"}, Uncertain: []string{"b\n"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			use(t, &fakeCache{matched: 3, reach: &tc.reach})
			if response, body := adminapitest.Send(t, "POST", "/larder/purge", tc.body); response.StatusCode != 200 || body != tc.want+"\n" {
				t.Errorf("answer %d %q, want %q", response.StatusCode, body, tc.want)
			}
			if out, _, err := adminapitest.Larder(t, "purge", "--all"); err != nil || out != tc.sentence {
				t.Errorf("%q, %v; want %q", out, err, tc.sentence)
			}
		})
	}
}

// Without a reply of the server the answer is an error that says where the purge holds.
func TestPurgeWithoutReply(t *testing.T) {
	use(t, &fakeCache{err: fmt.Errorf("%w: connection refused", ErrNotEverywhere)})
	response, body := adminapitest.Send(t, "POST", "/larder/purge", `{"all":true}`)
	adminapitest.ExpectFailure(t, response, body, 503, "the purge may not hold on every node; send it again: it holds on this node only: connection refused")
	if _, errOut, err := adminapitest.Larder(t, "purge", "--all"); err == nil || !strings.Contains(errOut, "it holds on this node only") {
		t.Errorf("the command says %q, %v", errOut, err)
	}
}

// Ids are this node's alone.
func TestPurgeByIDInAFleet(t *testing.T) {
	use(t, &fakeCache{err: ErrIDsInFleet})
	response, body := adminapitest.Send(t, "POST", "/larder/purge", `{"ids":["0006123456789abcfedcba9876543210"]}`)
	adminapitest.ExpectFailure(t, response, body, 400, "send the URL of the entry")
}
