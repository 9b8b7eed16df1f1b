// Command server is the Caddy that the bench measures: stock Caddy, Larder and the ceiling in one
// build, so that the ceiling, plain reverse_proxy and Larder differ in their configuration alone.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/larder-cache/larder"
	_ "github.com/larder-cache/larder/bench/ceiling"
)

func main() { caddycmd.Main() }
