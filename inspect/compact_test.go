package inspect

import (
	"errors"
	"testing"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

func TestCompactAnswer(t *testing.T) {
	use(t, &fakeCache{})
	const want = `{"zones":{"default":{"before":1073741824,"after":104857600},"shop":{"before":10485760,"after":10485760}}}` + "\n"
	if response, body := adminapitest.Send(t, "POST", "/larder/compact", ""); response.StatusCode != 200 || body != want {
		t.Errorf("answer %d %q, want %q", response.StatusCode, body, want)
	}
	if out, _, err := adminapitest.Larder(t, "compact"); err != nil || out != "default: 100.0 MiB, was 1.0 GiB\nshop: 10.0 MiB, was 10.0 MiB\n" {
		t.Errorf("printed %q, %v", out, err)
	}
	if out, _, err := adminapitest.Larder(t, "compact", "--zone", "shop"); err != nil || out != "shop: 10.0 MiB, was 10.0 MiB\n" {
		t.Errorf("of a zone: printed %q, %v", out, err)
	}
}

func TestCompactFails(t *testing.T) {
	use(t, &fakeCache{err: ErrNoFile})
	response, body := adminapitest.Send(t, "POST", "/larder/compact", "")
	adminapitest.ExpectFailure(t, response, body, 400, "there is no disk tier")
	use(t, &fakeCache{err: errors.New("no space left on device")})
	response, body = adminapitest.Send(t, "POST", "/larder/compact", "")
	adminapitest.ExpectFailure(t, response, body, 503, "those stay as they are: no space left on device")
	use(t, &fakeCache{})
	response, body = adminapitest.Send(t, "POST", "/larder/compact?zone=shp", "")
	adminapitest.ExpectFailure(t, response, body, 400, "there is no zone")
	response, body = adminapitest.Send(t, "GET", "/larder/compact", "")
	adminapitest.ExpectFailure(t, response, body, 405, "send POST")
}
