package dashboard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
)

// firstAnswer is how long the admin API may take for the first answer.
const firstAnswer = 10 * time.Second

// Feature returns the command of this package.
func Feature() adminapi.Feature {
	return adminapi.Feature{Commands: []func(*adminapi.Client) *cobra.Command{dashboardCommand}}
}

func dashboardCommand(api *adminapi.Client) *cobra.Command {
	var listen string
	var remote bool
	cmd := &cobra.Command{
		Use:   "dashboard [--listen localhost:0]",
		Short: "Serves a page that shows what the cache does",
		Long: `
Serves the dashboard, a page in front of the admin API of a running Caddy, until
Ctrl-C ends it. The URL that it prints has a token, without which nothing is
answered; the token ends with the command. It listens on a loopback address: to
see the dashboard of another machine, forward a port with ssh -L.`,
		Example: `  $ caddy larder dashboard
  $ caddy larder dashboard --listen localhost:8090 --address localhost:2020`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			admin, err := api.Address()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return run(ctx, cmd.OutOrStdout(), admin, listen, remote)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "localhost:0", "The address to serve the page at; port 0 takes a free one")
	cmd.Flags().BoolVar(&remote, "allow-remote", false,
		"Let --listen be an address that other machines can reach; URL and token then travel unencrypted")
	return cmd
}

// run serves until ctx ends.
func run(ctx context.Context, out io.Writer, admin, listen string, remote bool) error {
	transport, err := adminapi.Transport(admin)
	if err != nil {
		return err
	}
	if err := reach(ctx, transport, admin); err != nil {
		return err
	}
	listener, err := Listen(listen, remote)
	if err != nil {
		return err
	}
	hosts, anyAddress := ownHosts(listen)
	if at := listener.Addr().(*net.TCPAddr); !anyAddress {
		hosts = append(hosts, at.IP.String()) // as announce prints it
	}
	server := New(Options{Admin: transport, Address: admin, Hosts: hosts, AnyAddress: anyAddress})
	if err := announce(out, server, listener.Addr().(*net.TCPAddr)); err != nil {
		return errors.Join(err, listener.Close())
	}
	return server.Serve(ctx, listener)
}

// reach fails where the page would have nothing to show: no Caddy answers, or one without Larder. A
// Caddy whose configuration has no larder yet is no failure.
func reach(ctx context.Context, transport http.RoundTripper, admin string) error {
	ctx, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/larder/stats", nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return adminapi.NoAnswer(admin, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusServiceUnavailable {
		return nil
	}
	return adminapi.NewCallError(admin, response)
}

// announce prints the URL. A server that listens on all addresses is told by the one that this
// machine reaches it at.
func announce(out io.Writer, server *Server, at *net.TCPAddr) error {
	others := ""
	if at.IP.IsUnspecified() {
		at = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: at.Port}
		others = "Other machines put an address of this one in place of 127.0.0.1.\n"
	}
	_, err := fmt.Fprintf(out, "The dashboard is at %s\n%sCtrl-C ends it.\n", server.URL(at), others)
	return err
}
