package e2e

import (
	"io"
	"net/http"
	"testing"
)

// pageOrigin answers /auth with the role that the client claims, or with the status that it names,
// and everything else with the page that X-Page names, which is fresh for a minute.
func pageOrigin(t *testing.T) *origin {
	return newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		role := r.Header.Get("X-Role")
		switch {
		case r.URL.Path == "/auth" && role == "nobody":
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Path == "/auth" && role == "stranger":
			w.WriteHeader(http.StatusGone)
		case r.URL.Path == "/auth":
			w.Header().Set("X-Role", role)
		default:
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, r.Header.Get("X-Page"))
		}
	})
}

// cachedPage is a cached page.
func cachedPage(name string) string {
	return "larder\nreverse_proxy {{origin}} {\nheader_up X-Page " + name + "\n}"
}

// C8c: the routes of handle_response answer by what a response says, so two of them have two
// answers to one request. A guest got the member's page.
func TestResponseRoutesHaveKeysOfTheirOwn(t *testing.T) {
	in := start(t, setup{site: `route {
		@direct header X-Direct *
		handle @direct {
			` + cachedPage("direct") + `
		}
		reverse_proxy {{origin}} {
			rewrite /auth
			@member header X-Role member
			@guest header X-Role guest
			@error status 4xx
			handle_response @member {
				` + cachedPage("member") + `
			}
			handle_response @guest {
				` + cachedPage("guest") + `
			}
			handle_response @error {
				` + cachedPage("{rp.status_code}") + `
			}
		}
	}`}, pageOrigin(t))
	for range 2 {
		for _, tc := range []struct{ name, value, want string }{
			{"X-Role", "member", "member"},
			{"X-Role", "guest", "guest"},
			{"X-Role", "nobody", "404"},
			{"X-Role", "stranger", "410"},
			{"X-Direct", "1", "direct"},
		} {
			in.get("/", tc.name, tc.value).want(t, 200, tc.want, "")
		}
	}
	if a := in.get("/", "X-Role", "guest"); !a.isHit() {
		t.Errorf("the guest's page again: %q", a.cacheStatus())
	}
	if n := in.purge(`{"urls":["` + in.url("/") + `"]}`); n != 5 {
		t.Errorf("%d purged, want 5", n)
	}
}

// The same for the routes of intercept, which answer in place of a response that larder itself may
// have stored.
func TestInterceptedResponsesHaveKeysOfTheirOwn(t *testing.T) {
	o := newOrigin(t, answering(http.StatusNotFound, "Cache-Control", "max-age=60"))
	in := start(t, setup{site: `route {
		intercept {
			@missing status 404
			handle_response @missing {
				larder
				respond x
			}
		}
		larder
		reverse_proxy {{origin}}
	}`}, o)
	for range 3 {
		in.get("/").want(t, 200, "x", "")
	}
	o.asked(t, 1)
}

// A larder behind forward_auth is reached by a route for its 2xx, and has the keys of every other.
func TestBehindForwardAuthKeysAreTheSame(t *testing.T) {
	in := start(t, setup{site: `route {
		@private header X-Role *
		forward_auth @private {{origin}} {
			uri /auth
		}
		` + cachedPage("any") + `
	}`}, pageOrigin(t))
	in.get("/", "X-Role", "member").want(t, 200, "any", "Larder; fwd=uri-miss; stored")
	if a := in.get("/"); !a.isHit() {
		t.Errorf("without forward_auth: %q", a.cacheStatus())
	}
}

// C8c, and of two larders one behind the other: what stands between them changes the answer of the
// one in front. That one was answered from what the other had stored.
func TestLarderBehindAnotherHasKeysOfItsOwn(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, setup{site: `route {
		larder
		header {
			Cache-Control private
			X-Between yes
			defer
		}
		larder
		reverse_proxy {{origin}}
	}`}, o)
	for n := range 3 {
		a := in.get("/")
		a.want(t, 200, "1", "")
		if got := a.Header.Get("Cache-Control") + a.Header.Get("X-Between"); got != "privateyes" {
			t.Errorf("request %d: %q, %q", n, got, a.cacheStatus())
		}
	}
	o.asked(t, 1)
}
