package adminapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
	"github.com/larder-cache/larder/adminapi/adminapitest"
)

// TestMain registers one feature, whose endpoints answer what the tests need.
func TestMain(m *testing.M) {
	adminapitest.Main(m, adminapi.Feature{
		Endpoints: []adminapi.Endpoint{
			{Method: http.MethodGet, Path: "/larder/things/{name}", Answer: answerThing},
			{Method: http.MethodPost, Path: "/larder/change", Answer: answerChange},
		},
		Commands: []func(*adminapi.Client) *cobra.Command{thingCommand, fileCommand},
	})
}

func answerThing(r *http.Request) (any, error) {
	var size string
	if err := adminapi.ReadParams(r, adminapi.TextParam("size", &size, adminapi.Tag)); err != nil {
		return nil, err
	}
	switch name := r.PathValue("name"); name {
	case "none":
		return nil, adminapi.NotFound(errors.New("there is none; send another name"))
	case "unencodable":
		return func() {}, nil
	default:
		return map[string]string{"name": name, "size": size}, nil
	}
}

func answerChange(r *http.Request) (any, error) {
	body, err := adminapi.ReadBody(r, "send it in two")
	if err != nil {
		return nil, err
	}
	var to []string
	if err := adminapi.DecodeObject(body, `{"to":["a"]}`, adminapi.ListField("to", &to, adminapi.Host)); err != nil {
		return nil, adminapi.BadRequest(err)
	}
	return to, nil
}

func thingCommand(api *adminapi.Client) *cobra.Command {
	var name string
	cmd := &cobra.Command{Use: "thing", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		var answer json.RawMessage
		if err := api.Call(http.MethodGet, "/larder/things/"+name, nil, &answer); err != nil {
			return err
		}
		return adminapi.PrintJSON(cmd.OutOrStdout(), answer)
	}}
	cmd.Flags().StringVar(&name, "name", "a%2Fb", "")
	return cmd
}

func fileCommand(api *adminapi.Client) *cobra.Command {
	return &cobra.Command{Use: "file", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		file, err := api.File(args)
		if err == nil {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), file)
		}
		return err
	}}
}

func TestAnswers(t *testing.T) {
	for _, tc := range []struct{ method, uri, body, want string }{
		{"GET", "/larder/things/a?size=1%262", "", `{"name":"a","size":"1&2"}` + "\n"},
		{"HEAD", "/larder/things/a", "", ""},
		{"POST", "/larder/change", `{"to":["A.test","b:1"]}`, `["a.test","b:1"]` + "\n"},
	} {
		t.Run(tc.method+tc.uri, func(t *testing.T) {
			response, body := adminapitest.Send(t, tc.method, tc.uri, tc.body)
			if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/json" || body != tc.want {
				t.Errorf("answer %d %q %q, want %q", response.StatusCode, response.Header.Get("Content-Type"), body, tc.want)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	const known = "no such path; send GET /larder/things/{name} or POST /larder/change"
	for _, tc := range []struct {
		method, uri, body string
		status            int
		want              string
	}{
		{"GET", "/larder/", "", 404, known},
		{"POST", "/larder/changes", "", 404, known},
		{"GET", "/larder/things/a/b", "", 404, known},
		{"GET", "/larder/things/none", "", 404, "there is none; send another name"},
		{"GET", "/larder/things/unencodable", "", 500, "encoding the answer"},
		{"POST", "/larder/things/a", "", 405, "method \"POST\" is not allowed here; send GET"},
		{"PURGE", "/larder/change", "", 405, "method \"PURGE\" is not allowed here; send POST"},
		{"GET", "/larder/things/a?sizes=1", "", 400, "unknown parameter \"sizes\"; send size"},
		{"GET", "/larder/things/a?size=1&size=2", "", 400, "parameter \"size\" stands twice"},
		{"GET", "/larder/things/a?size=", "", 400, "size: the value is empty"},
		{"GET", "/larder/things/a?size=a+b", "", 400, "size: \"a b\" is not a tag"},
		{"GET", "/larder/things/a?size=%zz", "", 400, "malformed"},
		{"POST", "/larder/change", "[]", 400, `the body is not a JSON object; send one such as {"to":["a"]}`},
		{"POST", "/larder/change", `{"from":[]}`, 400, `unknown field "from"; send to`},
		{"POST", "/larder/change", strings.Repeat(" ", 1<<20+1), 413, "the body is larger than 1 MiB; send it in two"},
	} {
		t.Run(tc.method+tc.uri, func(t *testing.T) {
			response, body := adminapitest.Send(t, tc.method, tc.uri, tc.body)
			adminapitest.ExpectFailure(t, response, body, tc.status, tc.want)
		})
	}
}

func TestAddress(t *testing.T) {
	const want = "{\n  \"name\": \"a/b\",\n  \"size\": \"\"\n}\n"
	file := filepath.Join(t.TempDir(), "caddy.json")
	if err := os.WriteFile(file, []byte(`{"admin":{"listen":"`+adminapitest.Address+`"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"by flag":          {"thing"},
		"by configuration": {"thing", "--address", "", "--config", file},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, err := adminapitest.Larder(t, args...)
			if err != nil || stdout != want || stderr != "" {
				t.Errorf("printed %q and %q, %v", stdout, stderr, err)
			}
		})
	}
}

// TestCommandFails holds every failure to an error (which makes Caddy exit with status 1), one line
// on standard error, and nothing on standard output.
func TestCommandFails(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"unknown subcommand", []string{"clear"}, `caddy larder has no command "clear"; caddy larder --help lists`},
		{"misspelt subcommand", []string{"thimg"}, `caddy larder has no command "thimg"; did you mean thing?`},
		{"argument", []string{"thing", "all"}, `thing takes no "all"; write caddy larder thing`},
		{"misspelt subcommand with a flag", []string{"thimg", "--name", "a"}, `caddy larder has no command "thimg"; did you mean thing?`},
		{"unknown flag", []string{"thing", "--everything"}, `caddy larder thing has no flag "--everything"; caddy larder thing --help lists those that there are`},
		{"misspelt flag", []string{"thing", "--nxme", "a"}, `caddy larder thing has no flag "--nxme"; did you mean --name? caddy larder thing --help lists`},
		{"longer flag", []string{"thing", "--names=a"}, `caddy larder thing has no flag "--names"; did you mean --name?`},
		{"flag of all commands", []string{"thing", "--addressx", "a"}, `caddy larder thing has no flag "--addressx"; did you mean --address?`},
		{"flag with one dash", []string{"thing", "-name", "a"}, `caddy larder thing has no flag "-name"; did you mean --name?`},
		{"flag of the command itself", []string{"--hepl"}, `caddy larder has no flag "--hepl"; did you mean --help?`},
		{"no such configuration", []string{"thing", "--address", "", "--config", "missing.json"}, "missing.json"},
		{"bad address", []string{"thing", "--address", "127.0.0.1:1-2"}, `--address "127.0.0.1:1-2" is no address of an admin API`},
		{"no port", []string{"thing", "--address", "localhost:x"}, "is no address of an admin API"},
		{"no Caddy there", []string{"thing", "--address", "127.0.0.1:1"}, "no Caddy answers at 127.0.0.1:1; start it, or give the address"},
		{"refused", []string{"thing", "--name", "none"}, "Error: there is none; send another name\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stdout, stderr, err := adminapitest.Larder(t, tc.args...)
			adminapitest.ExpectOneLine(t, stdout, stderr, err, tc.want)
		})
	}
}

func TestBareCommandPrintsHelp(t *testing.T) {
	stdout, _, err := adminapitest.Larder(t)
	if err != nil || !strings.Contains(stdout, "Available Commands:") || !strings.Contains(stdout, "\n  thing ") {
		t.Errorf("printed %q, %v", stdout, err)
	}
}

// TestFileOfACommand: --config names the file that a command is about, as with Caddy's own
// commands. A file that nobody has named would be changed by migrate --write.
func TestFileOfACommand(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "Caddyfile"},
		{[]string{"a.conf"}, "a.conf"},
		{[]string{"--config", "b.conf"}, "b.conf"},
		{[]string{"-c", "b.conf"}, "b.conf"},
	} {
		stdout, _, err := adminapitest.Larder(t, append([]string{"file"}, tc.args...)...)
		if err != nil || stdout != tc.want+"\n" {
			t.Errorf("%q: %q, %v; want %q", tc.args, stdout, err, tc.want)
		}
	}
	stdout, stderr, err := adminapitest.Larder(t, "file", "a.conf", "--config", "b.conf")
	adminapitest.ExpectOneLine(t, stdout, stderr, err, `two files are named, "a.conf" and "b.conf"; name one`)
}
