package adminapi

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// Feature is a part of the admin API and of the command.
type Feature struct {
	// Endpoints are paths of the admin API. Each has a path of its own.
	Endpoints []Endpoint
	// Commands make subcommands, which call the API by the client.
	Commands []func(*Client) *cobra.Command
}

// Endpoint is one path of the admin API.
type Endpoint struct {
	// Method is GET, which allows HEAD too, or POST.
	Method string
	// Path begins with /larder/, and may have wildcards as net/http's patterns have them.
	Path string
	// Answer returns what is sent as JSON with the status 200. An error is a [caddy.APIError], as
	// BadRequest, NotFound and Unavailable make them; its text is one sentence that says what to
	// send instead.
	Answer func(r *http.Request) (any, error)
}

// Register adds features to Caddy: their endpoints as one admin router, their commands below `caddy
// larder`. It panics if another plugin has taken the names, and is called once, from an init
// function.
func Register(features ...Feature) {
	var api router
	var commands []func(*Client) *cobra.Command
	for _, f := range features {
		api.endpoints = append(api.endpoints, f.Endpoints...)
		commands = append(commands, f.Commands...)
	}
	caddy.RegisterModule(&api)
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "larder",
		Usage:     usage(commands),
		Short:     "Purges, counts and lists the responses that Larder has stored",
		CobraFunc: func(cmd *cobra.Command) { build(cmd, commands) },
	})
}
