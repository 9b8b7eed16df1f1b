package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// warnings loads a site and returns what it has larder warn of, each as its message, server and
// route.
func warnings(t *testing.T, s setup, o *origin) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "larder.log")
	s.global += "\nlog larder {\noutput file " + file + "\nformat json\ninclude larder\nlevel WARN\n}"
	start(t, s, o)
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		var entry struct{ Msg, Server, Route string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, entry.Server+" "+entry.Route+": "+entry.Msg)
	}
	return all
}

const password = "\nbob $2a$04$n.WBdYHwdZjzsaHyYPIiLuMi8TGOACtIpTMO5BYRaM9ZJ2XBTHZte\n}\n"

// asking is what forward_auth is short for, with a matcher of its own for a yes and the client's
// method.
func asking(yes string) string {
	return "route {\nreverse_proxy {{origin}} {\nrewrite /auth\n@yes " + yes +
		"\nhandle_response @yes {\nrequest_header X-User {rp.header.X-User}\n}\n}\n}\n"
}

// TestCacheInFrontOfAuthenticationIsWarnedOf: with `order larder before rewrite` an anonymous
// visitor gets the page that a member has fetched, if the origin calls it public. That is the
// operator's order, so it is followed, but not without a word.
func TestCacheInFrontOfAuthenticationIsWarnedOf(t *testing.T) {
	const before, after = "order larder before rewrite", ""
	basicAuth := "basic_auth {" + password
	forwardAuth := "forward_auth {{origin}} {\nuri /auth\ncopy_headers X-User\n}\n"
	proxy := "reverse_proxy {{origin}}\n"
	for _, tc := range []struct {
		name, order, site string
		warned            string // what the warning names; empty for none
	}{
		{"before rewrite, basic_auth", before, "larder\n" + basicAuth + proxy, "basic_auth"},
		{"before rewrite, basic_auth for some", before, "larder\nbasic_auth /private/* {" + password + proxy, "basic_auth"},
		{"before rewrite, forward_auth", before, "larder\n" + forwardAuth + proxy, "forward_auth"},
		{"forward_auth that asks with HEAD", before, "larder\n" + strings.Replace(forwardAuth, "uri /auth", "uri /auth\nmethod HEAD", 1) + proxy, "forward_auth"},
		{"reverse_proxy that takes a 204 for a yes", before, "larder\n" + asking("status 204") + proxy, "forward_auth"},
		{"reverse_proxy that takes a field for a yes", before, "larder\n" + asking("header X-User *") + proxy, "forward_auth"},
		{"reverse_proxy that goes on after a 404", before, "larder\n" + asking("status 404") + proxy, ""},
		{"above it in a route", after, "route {\nlarder\n" + basicAuth + proxy + "}", "basic_auth"},
		{"it stands in a handle", after, "larder\nhandle /private/* {\n" + basicAuth + proxy + "}\nhandle {\n" + proxy + "}", "basic_auth"},
		{"by default, basic_auth", after, "larder\n" + basicAuth + proxy, ""},
		{"by default, forward_auth", after, "larder\n" + forwardAuth + proxy, ""},
		{"below it in a route", after, "route {\n" + basicAuth + "larder\n" + proxy + "}", ""},
		{"in another handle", after, "handle /private/* {\n" + basicAuth + proxy + "}\nhandle {\nlarder\n" + proxy + "}", ""},
		{"none", before, "larder\n" + proxy, ""},
		{"a reverse_proxy that answers", before, "larder\nreverse_proxy {{origin}} {\nmethod GET\nhandle_response {\nrespond ok\n}\n}", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := warnings(t, setup{global: tc.order, site: tc.site}, newOrigin(t, numbered()))
			if tc.warned == "" {
				if len(got) > 0 {
					t.Errorf("warned in vain: %q", got)
				}
				return
			}
			if len(got) != 1 || !strings.Contains(got[0], "larder stands in front of "+tc.warned) ||
				!strings.HasPrefix(got[0], "srv0 routes/0/handle/0/routes/") || !strings.Contains(got[0], "(localhost)") {
				t.Errorf("warnings %q, want one that names %s, the server and the route", got, tc.warned)
			}
		})
	}
}
