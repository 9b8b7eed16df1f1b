package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExplainFetch answers the request in earnest, once.
func TestExplainFetch(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in := start(t, proxied("larder"), o)
	e := in.explain(map[string]any{"url": in.url("/a"), "fetch": true})
	o.asked(t, 1)
	if !strings.HasPrefix(e.Verdict, "Miss: from the origin, for this request, and stored") || e.Entry == nil || e.Entry.Status != 200 {
		t.Errorf("%s entry %+v", e, e.Entry)
	}
	if e.Entry != nil && (e.Entry.Tags == nil || e.Entry.Hits == nil) {
		t.Errorf("the entry has neither tags nor hits: %+v", e.Entry)
	}
	if last := e.Steps[len(e.Steps)-1]; last.Question != "and the next request?" || !strings.HasPrefix(last.Answer, "Hit: ") {
		t.Errorf("%s", e)
	}
	in.get("/a").want(t, 200, "1", "")
	if hit := in.get("/a"); !hit.isHit() {
		t.Errorf("Cache-Status %q", hit.cacheStatus())
	}
}

// TestExplainFetchFails: what the origin has answered is a step, also where that is nothing.
func TestExplainFetchFails(t *testing.T) {
	in := start(t, setup{site: "larder\nreverse_proxy localhost:1"}, nil)
	for range 2 { // the second one is passed on
		e := in.explain(map[string]any{"url": in.url("/a"), "fetch": true})
		const answered = "Miss: by an error, of which Caddy makes a response in front of larder."
		if e.Verdict != answered {
			t.Errorf("%s, want %s", e, answered)
		}
		for _, want := range []string{
			"what did the origin answer? nothing: the handlers behind returned an error with status 502: dial tcp",
			"connect: connection refused [",
			"how was it answered? by an error",
			"and the next request? Miss: the last response (status 502",
		} {
			if !strings.Contains(e.String(), want) {
				t.Errorf("no %q in\n%s", want, e)
			}
		}
	}
}

// TestExplainHandleResponse: with fetch the routes that a proxy has for responses are gone through.
func TestExplainHandleResponse(t *testing.T) {
	for name, site := range map[string]string{
		"reverse_proxy": "reverse_proxy {{origin}} {\n@inner header X-Inner *\nhandle_response @inner {\nlarder\nrespond ok\n}\n}",
		"intercept":     "intercept {\n@inner header X-Inner *\nhandle_response @inner {\nlarder\nrespond ok\n}\n}\nreverse_proxy {{origin}}",
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, answering(200, "X-Inner", "yes"))
			in := start(t, setup{site: site}, o)
			e := in.explain(map[string]any{"url": in.url("/a"), "fetch": true})
			if !strings.HasPrefix(e.Verdict, "Miss: from the origin, for this request, and not stored: nothing gives") || !strings.Contains(e.String(), "handle_response/0/routes") {
				t.Errorf("%s", e)
			}
			o.asked(t, 1)
			if last := e.Steps[len(e.Steps)-1]; !strings.HasPrefix(last.Answer, "Not known: it depends on an answer of the origin") {
				t.Errorf("%s", e)
			}
		})
	}
	o := newOrigin(t, answering(200, "X-Inner", "yes"))
	in := start(t, setup{site: "reverse_proxy {{origin}} {\n@inner header X-Inner *\nhandle_response @inner {\nrespond ok 203\n}\n}"}, o)
	e := in.explain(map[string]any{"url": in.url("/a"), "fetch": true})
	if want := "Not Larder's: http.handlers.static_response answers with status 203"; !strings.HasPrefix(e.Verdict, want) {
		t.Errorf("%s, want %s", e, want)
	}
}

// TestExplainReadsNoFile: of what a handler answers in Larder's place the header is enough.
func TestExplainReadsNoFile(t *testing.T) {
	folder := t.TempDir()
	file, err := os.Create(filepath.Join(folder, "large"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Truncate(1<<40), file.Close()); err != nil {
		t.Skip("no sparse files here: ", err)
	}
	in := start(t, setup{site: "root * " + folder + "\nhandle_errors {\nrespond failed 500\n}\nfile_server"}, nil)
	e := in.explain(map[string]any{"url": in.url("/large")}) // to read it takes minutes
	if want := "Not Larder's: http.handlers.file_server answers with status 200"; !strings.HasPrefix(e.Verdict, want) {
		t.Errorf("%s, want %s", e, want)
	}
}
