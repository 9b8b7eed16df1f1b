package e2e

import (
	"io"
	"net/http"
	"testing"
)

// C8b: what an error route answers to a URL is not stored as the page, nor the other way round, and
// not as the page of another error. A POST that fails drops nothing by what the route answers. So
// it is where both come to one directive.
func TestErrorRoutesHaveKeysOfTheirOwn(t *testing.T) {
	const fails = "@503 header X-Fail 503\nerror @503 503\n@403 header X-Fail 403\nerror @403 403\n"
	const larder, says = "larder\nreverse_proxy {{origin}}", "request_header X-Error {err.status_code}\n"
	for name, s := range map[string]setup{
		"a directive each": {site: "route {\n" + fails + larder + "\n}\nhandle_errors {\n" + says + larder + "\n}"},
		"one in a named route": {
			routes: "&(page) {\nroute {\n" + larder + "\n}\n}",
			site:   "route {\n" + fails + "invoke page\n}\nhandle_errors {\n" + says + "invoke page\n}",
		},
	} {
		t.Run(name, func(t *testing.T) { expectErrorPagesApart(t, s) })
	}
}

func expectErrorPagesApart(t *testing.T, s setup) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.Header.Get("X-Error")+" page")
	})
	in := start(t, s, o)
	for range 2 {
		in.get("/", "X-Fail", "503").want(t, 200, "503 page", "")
		in.get("/").want(t, 200, " page", "")
		in.get("/", "X-Fail", "403").want(t, 200, "403 page", "")
	}
	if a := in.get("/", "X-Fail", "503"); !a.isHit() {
		t.Errorf("the error page again: %q", a.cacheStatus())
	}
	o.asked(t, 3)
	in.do(http.MethodPost, "/", "", "X-Fail", "503").want(t, 200, "503 page", "")
	if a := in.get("/"); !a.isHit() {
		t.Errorf("after a POST that failed: %q", a.cacheStatus())
	}
	if n := in.purge(`{"urls":["` + in.url("/") + `"]}`); n != 3 {
		t.Errorf("%d purged, want the page and two error pages", n)
	}
}
