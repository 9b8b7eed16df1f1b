package inspect

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

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
	if response, body := adminapitest.Send(t, "GET", "/larder/fleet", ""); response.StatusCode != 200 || body != want {
		t.Errorf("answer %d %q, want %q", response.StatusCode, body, want)
	}
	const table = "NAME   VERSION  ADDRESS    STATE    LAST BEAT  LAG\n" +
		"one *  v1.0.0   192.0.2.1  passing  1.2s ago   0\n" +
		"-      -        -          lost     0s ago     2\n" +
		"-      -        -          joining  0s ago     -\n"
	if out, _, err := adminapitest.Larder(t, "fleet"); err != nil || out != table {
		t.Errorf("%v\n%s\nwant\n%s", err, out, table)
	}
	if out, _, err := adminapitest.Larder(t, "fleet", "--json"); err != nil || !strings.Contains(out, "\n      \"name\": \"one\",\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestNoFleet(t *testing.T) {
	use(t, &fakeCache{err: ErrNoFleet})
	response, body := adminapitest.Send(t, "GET", "/larder/fleet", "")
	adminapitest.ExpectFailure(t, response, body, 404, "write shared in the global option larder")
	use(t, &fakeCache{err: errors.New("connection refused")})
	response, body = adminapitest.Send(t, "GET", "/larder/fleet", "")
	adminapitest.ExpectFailure(t, response, body, 503, "the nodes could not be read: connection refused")
	use(t, &fakeCache{})
	if _, body := adminapitest.Send(t, "GET", "/larder/fleet", ""); !strings.Contains(body, `"nodes":[]`) {
		t.Errorf("without nodes: %s", body)
	}
	response, body = adminapitest.Send(t, "POST", "/larder/fleet", "")
	adminapitest.ExpectFailure(t, response, body, 405, "send GET")
}
