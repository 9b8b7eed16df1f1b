package larder_test

import (
	"strings"
	"testing"
)

func TestNoVarySearch(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60", "No-Vary-Search", `key-order, params=("utm")`))
	in := start(t, proxied("larder"), o)
	in.get("/a?id=1&utm=x").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	for _, same := range []string{"/a?id=1&utm=x", "/a?utm=y&id=1", "/a?id=1"} {
		hit := in.get(same)
		hit.want(t, 200, "1", "")
		if !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
			t.Errorf("%s: %q", same, hit.cacheStatus())
		}
	}
	in.get("/a?id=2&utm=x").want(t, 200, "2", "Larder; fwd=uri-miss; stored")
	in.get("/b?id=1&utm=x").want(t, 200, "3", "Larder; fwd=uri-miss; stored")
	o.asked(t, 3)
}

func TestNoVarySearchThatIsTakenBack(t *testing.T) {
	said := []string{"Cache-Control", "max-age=60", "No-Vary-Search", `params=("utm")`}
	answer := numbered(said...)
	o := newOrigin(t, answer)
	in := start(t, proxied("larder"), o)
	in.get("/a?utm=x").want(t, 200, "1", "")
	in.get("/a?utm=y").want(t, 200, "1", "")
	if got := in.purge(`{"all":true}`); got != 1 {
		t.Errorf("purged %d", got)
	}
	plain := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in.load(proxied("larder"), plain)
	in.get("/a?utm=x").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	in.get("/a?utm=y").want(t, 200, "2", "Larder; fwd=uri-miss; stored")
	in.get("/a?utm=x").want(t, 200, "1", "")
}
