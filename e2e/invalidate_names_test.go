package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// What `invalidate { urls }` names by a part of the request's URL is what the client has sent, with
// its escapes: Caddy's placeholders have decoded it.
func TestInvalidateNamesWhatIsEscaped(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, proxied(block(`invalidate /products/* {
		urls /list/{path.1} /orig/{http.request.orig_uri.path.1}/end /file/{file} /q?of={query.of}
	}`, `invalidate /all/* {
		urls /copy{path}
	}`)), o)
	for _, name := range []string{"7", "caf%C3%A9", "a%20b", "50%25", "a%3Fb", "a%2Fb", "x%23y", "a%2fb", "%2541", "a&b", "a+b"} {
		gone := []string{"/list/" + name, "/orig/" + name + "/end", "/copy/all/" + name}
		if !strings.Contains(strings.ToLower(name), "%2f") { // the file is what stands behind the last slash
			gone = append(gone, "/file/"+name)
		}
		if name != "a&b" { // in a query that is two parameters
			gone = append(gone, "/q?of="+name)
		}
		for _, path := range gone {
			in.rawGet(path)
		}
		for _, path := range []string{"/products/" + name + "?of=" + name, "/all/" + name} {
			in.raw("POST "+path+" HTTP/1.1\nHost: "+strings.TrimPrefix(in.url(""), "http://")+"\nContent-Length: 0\nConnection: close\n\n").want(t, 200, "", "")
		}
		for _, path := range gone {
			if a := in.rawGet(path); a.isHit() {
				t.Errorf("%s is answered by %q", path, a.cacheStatus())
			}
		}
	}
}

// A tag that an operator adds stands before the origin's: 128 of these leave it its place.
func TestOwnTagsStandBeforeTheOrigins(t *testing.T) {
	many := "t"
	for i := range 199 {
		many += fmt.Sprint(" t", i)
	}
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Surrogate-Key", many))
	in := start(t, proxied(block("tags {\nadd site-{host}\n}")), o)
	in.get("/").want(t, http.StatusOK, "", "Larder; fwd=uri-miss; stored")
	if n := in.purge(`{"tags":["site-localhost"],"dry_run":true}`); n != 1 {
		t.Errorf("a purge of the operator's tag matched %d", n)
	}
	if l := in.entries(""); len(l.Entries) == 1 && (len(l.Entries[0].Tags) != 128 || !slices.Contains(l.Entries[0].Tags, "t")) {
		t.Errorf("%d tags", len(l.Entries[0].Tags))
	}
}
