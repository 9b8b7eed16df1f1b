// Package adminapitest has what tests of the admin API and of the command need: a Caddy in this
// process, whose admin listener and command they call.
package adminapitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
)

// Address is that of the admin listener.
var Address string

// Main runs the tests of a package with features that are registered. It is for TestMain.
func Main(m *testing.M, features ...adminapi.Feature) {
	adminapi.Register(features...)
	if err := startCaddy(); err != nil {
		fmt.Fprintln(os.Stderr, "starting caddy:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func startCaddy() error {
	// Caddy cannot tell which port it was given for :0, so a free one is found first. Another
	// process may take it in between: then the start fails.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	Address = listener.Addr().String()
	if err := listener.Close(); err != nil {
		return err
	}
	persist := false
	return caddy.Run(&caddy.Config{
		Admin:   &caddy.AdminConfig{Listen: Address, Config: &caddy.ConfigSettings{Persist: &persist}},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}}}},
	})
}

// Send makes one request to the admin listener.
func Send(t *testing.T, method, uri, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+Address+uri, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(answer)
}

// ExpectFailure holds an answer to the form of errors: the status, JSON, one member "error" with
// one sentence that contains want.
func ExpectFailure(t *testing.T, response *http.Response, body string, status int, want string) {
	t.Helper()
	if response.StatusCode != status {
		t.Errorf("status %d, want %d", response.StatusCode, status)
	}
	if got := response.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	var members map[string]string
	if err := json.Unmarshal([]byte(body), &members); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	if len(members) != 1 || !strings.Contains(members["error"], want) || strings.Contains(members["error"], "\n") {
		t.Errorf("body %q, want one error with %q", body, want)
	}
}

// Larder runs `caddy larder` with the arguments, in this process and as Caddy builds it, against
// the admin listener.
func Larder(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	registered := caddycmd.Commands()["larder"]
	if registered.CobraFunc == nil {
		t.Fatal("the command is not registered")
	}
	root := &cobra.Command{Use: "caddy", SilenceUsage: true} // as in caddycmd
	cmd := &cobra.Command{Use: "larder"}
	registered.CobraFunc(cmd)
	root.AddCommand(cmd)

	var out, errOut bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetArgs(append([]string{"larder", "--address", Address}, args...))
	err = root.Execute()
	return out.String(), errOut.String(), err
}

// ExpectOneLine holds the failure of a command to its form: an error (which makes Caddy exit with
// status 1), one line on standard error with want in it, and nothing on standard output.
func ExpectOneLine(t *testing.T, stdout, stderr string, err error, want string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
	}
	if stdout != "" {
		t.Errorf("printed %q", stdout)
	}
	if strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") || !strings.Contains(stderr, want) {
		t.Errorf("standard error is %q, want one line with %q", stderr, want)
	}
}
