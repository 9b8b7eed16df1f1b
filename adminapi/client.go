package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
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
// unix//run/caddy.sock.
func (c *Client) Address() (string, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(c.address, nil, c.config, c.adapter)
	if err != nil {
		return "", fmt.Errorf("finding the admin API: %s", oneLine(err))
	}
	return address, nil
}

// Call sends a request and decodes the answer. Its errors are one line.
func (c *Client) Call(method, uri string, body io.Reader, answer any) error {
	address, err := c.Address()
	if err != nil {
		return err
	}
	response, err := caddycmd.AdminAPIRequest(address, method, uri, nil, body)
	if err != nil {
		return errors.New(oneLine(err))
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	return nil
}

// oneLine returns the message of an error in one line. The answer of Caddy's that it may quote ends
// with a newline.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

// Show asks for uri and prints the answer: see [Print].
func Show[T any](c *Client, out io.Writer, uri string, raw bool, print func(*T) error) error {
	var answer json.RawMessage
	if err := c.Call(http.MethodGet, uri, nil, &answer); err != nil {
		return err
	}
	return Print(out, answer, raw, print)
}

// Print prints an answer of the admin API, decoded and by print. If raw it does so by [PrintJSON].
func Print[T any](out io.Writer, answer json.RawMessage, raw bool, print func(*T) error) error {
	if raw {
		return PrintJSON(out, answer)
	}
	decoded := new(T)
	if err := json.Unmarshal(answer, decoded); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	return print(decoded)
}

// PrintJSON prints an answer of the admin API for people.
func PrintJSON(out io.Writer, answer json.RawMessage) error {
	var readable bytes.Buffer
	if err := json.Indent(&readable, answer, "", "  "); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	_, err := fmt.Fprintln(out, readable.String())
	return err
}
