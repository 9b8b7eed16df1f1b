package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestDebug asks with the secret, with a wrong one and with none. The field never reaches the
// origin, and no key has it.
func TestDebug(t *testing.T) {
	t.Setenv("LARDER_DEBUG", "open sesame")
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header["Larder-Debug"] != nil {
			t.Errorf("the origin got Larder-Debug: %q", r.Header["Larder-Debug"])
		}
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/own" {
			w.Header().Set("Cache-Control", "no-store")
		}
	})
	s := setup{
		options: "debug {env.LARDER_DEBUG}",
		site:    "route {\n" + block("status off", "key {\nheader Larder-Debug\n}") + "\nerror /error 410\nreverse_proxy {{origin}}\n}",
	}
	in := start(t, s, o)
	secret := []string{"Larder-Debug", "open sesame"}
	for _, tc := range []struct {
		method, path string
		status       int
		says         string // in Cache-Status
		explains     string // in Larder-Explain
	}{
		{"GET", "/", 200, "Larder; fwd=uri-miss; stored; key=\"GET http://", "how was it answered? from the origin"},
		{"GET", "/", 200, "Larder; hit; ttl=", "how was it answered? from the store, fresh"},
		{"POST", "/own", 200, "Larder; fwd=bypass; detail=method", "Bypass: "},
		{"GET", "/own", 200, "detail=no-store", "no-store"},
		{"GET", "/error", 410, "", "how was it answered? "},
	} {
		a := in.do(tc.method, tc.path, "", secret...)
		if got := a.Header.Get("Larder-Explain"); a.StatusCode != tc.status || !strings.Contains(a.cacheStatus(), tc.says) || !strings.Contains(got, tc.explains) {
			t.Errorf("%s %s: %d, Cache-Status %q, Larder-Explain %q", tc.method, tc.path, a.StatusCode, a.cacheStatus(), got)
		}
	}
	for _, header := range [][]string{nil, {"Larder-Debug", "open sesam"}, {"Larder-Debug", ""}} {
		for _, path := range []string{"/", "/own"} {
			a := in.get(path, header...)
			if a.Header["Larder-Explain"] != nil || a.cacheStatus() != "" {
				t.Errorf("%s with %q: Cache-Status %q, Larder-Explain %q", path, header, a.cacheStatus(), a.Header["Larder-Explain"])
			}
		}
	}
	o.asked(t, 6) // / once, /own each time
}

// TestNoDebug takes the field out where no secret is configured, too.
func TestNoDebug(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header["Larder-Debug"] != nil {
			t.Errorf("the origin got %q", r.Header["Larder-Debug"])
		}
	})
	in := start(t, proxied("larder"), o)
	for _, method := range []string{"GET", "POST"} {
		if a := in.do(method, "/", "", "Larder-Debug", ""); a.Header["Larder-Explain"] != nil {
			t.Errorf("%s: %q", method, a.Header["Larder-Explain"])
		}
	}
}

// TestDebugSecretOfWhatTheMatcherKeepsOut has the line of the pages keep the secret from the origin
// where a matcher keeps the request from larder, which tells nothing of it then.
func TestDebugSecretOfWhatTheMatcherKeepsOut(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header["Larder-Debug"] != nil {
			t.Errorf("%s: the origin got %q", r.Header["Cookie"], r.Header["Larder-Debug"])
		}
		w.Header().Set("Cache-Control", "max-age=60")
	})
	in := start(t, setup{
		options: "debug sesame",
		site:    "@guests not header Cookie *\nlarder @guests\nreverse_proxy {{origin}} {\nheader_up -Larder-Debug\n}",
	}, o)
	for _, cookie := range []string{"", "sid=1"} {
		header := []string{"Larder-Debug", "sesame"}
		if cookie != "" {
			header = append(header, "Cookie", cookie)
		}
		a := in.get("/", header...)
		if told := a.Header["Larder-Explain"] != nil && a.cacheStatus() != ""; told != (cookie == "") {
			t.Errorf("cookie %q: Cache-Status %q, Larder-Explain %q", cookie, a.cacheStatus(), a.Header["Larder-Explain"])
		}
	}
	o.asked(t, 2)
}

// TestDebugSecretFromNowhere refuses a placeholder that stands for nothing.
func TestDebugSecretFromNowhere(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, answering(200)))
	err := in.tryLoad(setup{options: "debug {env.LARDER_NOT_SET}", site: "larder\nrespond hello"}, nil)
	if err == nil || !strings.Contains(err.Error(), "debug: ") {
		t.Errorf("error %v", err)
	}
}

// TestLogsNameTheKey has the access log name the key, the same one for the same request after a
// restart, and the log at DEBUG tell each decision.
func TestLogsNameTheKey(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	log, file := newAccessLog(t), filepath.Join(t.TempDir(), "debug.log")
	s := setup{
		global: "log debugged {\noutput file " + file + "\nlevel DEBUG\ninclude http.handlers.larder\n}",
		site:   log.directive() + "larder\nreverse_proxy {{origin}}",
	}
	in := start(t, s, o)
	key := func(method, path string) string {
		in.do(method, path, "")
		key, _ := log.entry(t, method, path)["larder_key"].(string)
		return key
	}
	one, other, head, post := key("GET", "/one"), key("GET", "/other"), key("HEAD", "/one"), key("POST", "/one")
	if len(one) != 16 || one == other || head != one || post != "" {
		t.Errorf("keys %q %q %q %q", one, other, head, post)
	}
	eventually(t, "the decision in the log", func() bool {
		text, _ := os.ReadFile(file)
		return strings.Contains(string(text), `"msg":"decided"`) && strings.Contains(string(text), `"outcome":"hit"`) &&
			strings.Contains(string(text), `"key":"`+one+`"`)
	})
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	in.load(s, o)
	if again := key("GET", "/one?"); again == one || len(again) != 16 {
		t.Errorf("another URL has the key %q", again)
	}
	in.get("/one")
	text, err := os.ReadFile(log.file)
	if err != nil || strings.Count(string(text), one) != 3 {
		t.Errorf("%v: the key stands %d times in the access log", err, strings.Count(string(text), one))
	}
}
