package inspect

import (
	"testing"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

func TestStatsAnswer(t *testing.T) {
	use(t, &fakeCache{})
	response, body := adminapitest.Send(t, "GET", "/larder/stats", "")
	const want = `{"in_flight":0,"memory":{"budget":3,"bytes":2,"entries":1}}` + "\n"
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/json" || body != want {
		t.Errorf("answer %d %q", response.StatusCode, body)
	}
}

func TestStatsCommand(t *testing.T) {
	use(t, &fakeCache{})
	stdout, stderr, err := adminapitest.Larder(t, "stats")
	const want = `{
  "in_flight": 0,
  "memory": {
    "budget": 3,
    "bytes": 2,
    "entries": 1
  }
}
`
	if err != nil || stdout != want || stderr != "" {
		t.Errorf("printed %q and %q, %v", stdout, stderr, err)
	}
}
