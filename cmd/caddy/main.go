// Command caddy is a stock Caddy with Larder built in.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/larder-cache/larder"
)

func main() { caddycmd.Main() }
