package adminapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// Client finds and calls the admin API of a running Caddy.
type Client struct {
	address, config, adapter string // the flags
}

// Address returns the address of the admin API as Caddy writes it: localhost:2019,
// unix//run/caddy.sock. It returns an error, in one line, if neither --address nor a configuration
// that can be read says which.
func (c *Client) Address() (string, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(c.address, nil, c.config, c.adapter)
	if err != nil {
		return "", fmt.Errorf("finding the admin API: %s", oneLine(err))
	}
	return address, nil
}

// File returns the configuration file that a command is about, which asks no running Caddy: its
// argument, or that of --config, or ./Caddyfile, as with Caddy's own commands. A file in both is an
// error.
func (c *Client) File(args []string) (string, error) {
	switch {
	case len(args) > 0 && c.config != "":
		return "", fmt.Errorf("two files are named, %s and %s; name one", Quote(args[0]), Quote(c.config))
	case len(args) > 0:
		return args[0], nil
	case c.config != "":
		return c.config, nil
	}
	return "Caddyfile", nil
}

// Call sends a request and decodes the answer. Its errors are one line. That of an answer which is
// no success is a [*CallError].
func (c *Client) Call(method, uri string, body io.Reader, answer any) error {
	address, err := c.Address()
	if err != nil {
		return err
	}
	transport, err := Transport(address)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, "http://localhost"+uri, body)
	if err != nil {
		return fmt.Errorf("making the request: %s", oneLine(err))
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return NoAnswer(address, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return NewCallError(address, response)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	return nil
}

// NoAnswer is the error of a call that has no answer.
func NoAnswer(address string, err error) error {
	return fmt.Errorf("no Caddy answers at %s; start it, or give the address of its admin API by --address (%s)", address, oneLine(err))
}

// CallError is an answer of the admin API that is no success.
type CallError struct {
	Status   int    // the HTTP status
	Sentence string // of the answer, in one line
}

// Error implements error.
func (e *CallError) Error() string { return e.Sentence }

// NewCallError reads the sentence of an answer. What answers without one is not Larder.
func NewCallError(address string, response *http.Response) *CallError {
	e := &CallError{Status: response.StatusCode}
	var answer struct {
		Error string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxBodyBytes)).Decode(&answer); err == nil {
		e.Sentence = Printable(strings.Join(strings.Fields(answer.Error), " "))
	}
	if e.Sentence == "" {
		e.Sentence = fmt.Sprintf("what is at %s answers %d without a sentence; see whether it is a Caddy with Larder in it", address, e.Status)
	}
	return e
}

// oneLine returns the message of an error in one line.
func oneLine(err error) string {
	return Printable(strings.Join(strings.Fields(err.Error()), " "))
}

// Show asks for uri and prints the answer: see [Print]. Its errors are those of [Client.Call] and
// of Print.
func Show[T any](c *Client, out io.Writer, uri string, raw bool, show func(*T) error) error {
	var answer json.RawMessage
	if err := c.Call(http.MethodGet, uri, nil, &answer); err != nil {
		return err
	}
	return Print(out, answer, raw, show)
}

// Print prints an answer of the admin API, decoded by [Decode] and shown by show. If raw it does so
// by [PrintJSON]. Its errors are those of the function that it calls.
func Print[T any](out io.Writer, answer json.RawMessage, raw bool, show func(*T) error) error {
	if raw {
		return PrintJSON(out, answer)
	}
	decoded, err := Decode[T](answer)
	if err != nil {
		return err
	}
	return show(decoded)
}

// Decode decodes an answer of the admin API to print it for people: its texts are [Printable]. It
// returns an error if the answer has not the form of T.
func Decode[T any](answer json.RawMessage) (*T, error) {
	decoded := new(T)
	if err := json.Unmarshal(printableJSON(answer), decoded); err != nil {
		return nil, fmt.Errorf("decoding the answer: %w", err)
	}
	return decoded, nil
}

// PrintJSON prints an answer of the admin API, indented. It returns an error if the answer is no
// JSON, or that of out.
func PrintJSON(out io.Writer, answer json.RawMessage) error {
	var readable bytes.Buffer
	if err := json.Indent(&readable, answer, "", "  "); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	_, err := fmt.Fprintf(out, "%s\n", escapedJSON(readable.Bytes()))
	return err
}

// PrintJSONLine prints a part of an answer in one line. Its errors are those of PrintJSON.
func PrintJSONLine(out io.Writer, part json.RawMessage) error {
	var compact bytes.Buffer
	if err := json.Compact(&compact, part); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	_, err := fmt.Fprintf(out, "%s\n", escapedJSON(compact.Bytes()))
	return err
}
