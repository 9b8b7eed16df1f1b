package larder

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
	"github.com/larder-cache/larder/store"
)

// goModule is the Go module that Larder is.
const goModule = "github.com/larder-cache/larder"

// versionFeature is `caddy larder version`, which asks no running Caddy.
func versionFeature() adminapi.Feature {
	return adminapi.Feature{Commands: []func(*adminapi.Client) *cobra.Command{versionCommand}}
}

func versionCommand(*adminapi.Client) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Prints the versions of Larder, Caddy, Go and the disk tier's file in this build",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, _ := caddy.Version()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "larder %s\ncaddy %s\n%s %s/%s\nlarder.db schema %d\n",
				cmp.Or(buildVersion(), "unknown"), server, runtime.Version(), runtime.GOOS, runtime.GOARCH, store.SchemaVersion)
			return err
		},
	}
}

// buildVersion is the version of Larder in this build.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	if info.Main.Path == goModule {
		return info.Main.Version
	}
	for _, dependency := range info.Deps {
		if dependency.Path == goModule {
			return dependency.Version
		}
	}
	return ""
}
