package larder

import (
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// TestBranches: the routes for responses are told apart by what they match, and what stands in none
// of them, or also in none, has no branch.
func TestBranches(t *testing.T) {
	handlers := func(list ...caddyhttp.MiddlewareHandler) caddyhttp.RouteList {
		return caddyhttp.RouteList{{Handlers: list}}
	}
	responses := func(status int, list ...caddyhttp.MiddlewareHandler) []caddyhttp.ResponseHandler {
		match := &caddyhttp.ResponseMatcher{StatusCode: []int{status}}
		return []caddyhttp.ResponseHandler{{Match: match, Routes: handlers(list...)}}
	}
	main, of404, of410, within, intercepted, named, shared := new(Handler), new(Handler), new(Handler), new(Handler), new(Handler), new(Handler), new(Handler)
	proxy := &reverseproxy.Handler{HandleResponse: append(
		responses(404, of404, &caddyhttp.Invoke{Name: "named"}, &caddyhttp.Invoke{Name: "shared"}, &reverseproxy.Handler{HandleResponse: responses(404, within)}),
		responses(410, of410, &caddyhttp.Invoke{Name: "named"})...)}
	routes := handlers(&intercept.Intercept{HandleResponse: responses(404, intercepted)}, main, &caddyhttp.Invoke{Name: "shared"}, proxy)
	server := &caddyhttp.Server{Routes: routes, NamedRoutes: map[string]*caddyhttp.Route{
		"named": &handlers(named)[0], "shared": &handlers(shared)[0],
	}}
	seen := make(map[string]string)
	for name, h := range map[string]*Handler{
		"404": of404, "410": of410, "within": within, "intercepted": intercepted, "named": named,
	} {
		b := branchIn(placesIn(server), h)
		if other, taken := seen[b]; taken || b == "" {
			t.Errorf("%s has the branch %q, as has %q", name, b, other)
		}
		seen[b] = name
	}
	for name, h := range map[string]*Handler{"main": main, "shared": shared, "none": new(Handler)} {
		if b := branchIn(placesIn(server), h); b != "" {
			t.Errorf("%s has the branch %q", name, b)
		}
	}
	places := placesIn(&caddyhttp.Server{Routes: append(handlers(of404, main), handlers(named, of410)...)})
	for n, h := range []*Handler{of404, main, named, of410, shared} {
		if got := len(inFront(places, h)); got != n%4 {
			t.Errorf("in front of the handler %d are %d", n, got)
		}
	}
	last := len(proxy.HandleResponse) - 1
	before := branchIn(placesIn(server), of404)
	proxy.HandleResponse[0], proxy.HandleResponse[last] = proxy.HandleResponse[last], proxy.HandleResponse[0]
	if after := branchIn(placesIn(server), of404); after != before {
		t.Errorf("in another order the branch is %q, and was %q", after, before)
	}
}
