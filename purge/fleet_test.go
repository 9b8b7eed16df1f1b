package purge

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
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
	} {
		t.Run(tc.name, func(t *testing.T) {
			use(t, &fakeCache{matched: 3, reach: &tc.reach})
			if response, body := send(t, "POST", "/larder/purge", tc.body); response.StatusCode != 200 || body != tc.want+"\n" {
				t.Errorf("answer %d %q, want %q", response.StatusCode, body, tc.want)
			}
			if out, _, err := larder(t, "purge", "--all", "--address", adminAddress); err != nil || out != tc.sentence {
				t.Errorf("%q, %v; want %q", out, err, tc.sentence)
			}
		})
	}
}

// Without a reply of the server the answer is an error that says where the purge holds.
func TestPurgeWithoutReply(t *testing.T) {
	use(t, &fakeCache{err: fmt.Errorf("%w: connection refused", ErrNotEverywhere)})
	response, body := send(t, "POST", "/larder/purge", `{"all":true}`)
	expectFailure(t, response, body, 503, "the purge may not hold on every node; send it again: it holds on this node only: connection refused")
	if _, errOut, err := larder(t, "purge", "--all", "--address", adminAddress); err == nil || !strings.Contains(errOut, "it holds on this node only") {
		t.Errorf("the command says %q, %v", errOut, err)
	}
}

func TestFleetAnswer(t *testing.T) {
	use(t, &fakeCache{fleet: Fleet{Name: "larder", Epoch: "e", Tail: 12, Nodes: []Node{
		{ID: "1", Name: "one", Version: "v1.0.0", Address: "192.0.2.1", State: "passing", This: true, LastBeat: time.Unix(0, 0).UTC(), Silent: 1200, Applied: 12},
		{ID: "2", State: "lost", LastBeat: time.Unix(0, 0).UTC(), Applied: 10, Lag: 2},
		{ID: "3", State: "joining", LastBeat: time.Unix(0, 0).UTC(), Lag: -1},
	}}})
	const want = `{"name":"larder","epoch":"e","tail":12,"nodes":[` +
		`{"id":"1","name":"one","version":"v1.0.0","address":"192.0.2.1","state":"passing","this":true,"last_beat":"1970-01-01T00:00:00Z","silent_ms":1200,"applied":12,"lag":0},` +
		`{"id":"2","name":"","version":"","address":"","state":"lost","this":false,"last_beat":"1970-01-01T00:00:00Z","silent_ms":0,"applied":10,"lag":2},` +
		`{"id":"3","name":"","version":"","address":"","state":"joining","this":false,"last_beat":"1970-01-01T00:00:00Z","silent_ms":0,"applied":0,"lag":-1}]}` + "\n"
	if response, body := send(t, "GET", "/larder/fleet", ""); response.StatusCode != 200 || body != want {
		t.Errorf("answer %d %q, want %q", response.StatusCode, body, want)
	}
	const table = "NAME   VERSION  ADDRESS    STATE    LAST BEAT  LAG\n" +
		"one *  v1.0.0   192.0.2.1  passing  1.2s ago   0\n" +
		"-      -        -          lost     0s ago     2\n" +
		"-      -        -          joining  0s ago     -\n"
	if out, _, err := larder(t, "fleet", "--address", adminAddress); err != nil || out != table {
		t.Errorf("%v\n%s\nwant\n%s", err, out, table)
	}
	if out, _, err := larder(t, "fleet", "--json", "--address", adminAddress); err != nil || !strings.Contains(out, "\n      \"name\": \"one\",\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestNoFleet(t *testing.T) {
	use(t, &fakeCache{err: ErrNoFleet})
	response, body := send(t, "GET", "/larder/fleet", "")
	expectFailure(t, response, body, 404, "write shared in the global option larder")
	use(t, &fakeCache{err: errors.New("connection refused")})
	response, body = send(t, "GET", "/larder/fleet", "")
	expectFailure(t, response, body, 503, "the nodes could not be read: connection refused")
	use(t, &fakeCache{})
	if _, body := send(t, "GET", "/larder/fleet", ""); !strings.Contains(body, `"nodes":[]`) {
		t.Errorf("without nodes: %s", body)
	}
	response, body = send(t, "POST", "/larder/fleet", "")
	expectFailure(t, response, body, 405, "send GET")
}
