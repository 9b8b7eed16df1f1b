package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpguts"

	"github.com/larder-cache/larder/adminapi"
)

// Question asks how a request would be answered, and why.
type Question struct {
	URL     string      // absolute, with a host
	Method  string      // GET unless it is given
	Headers http.Header // canonical names
	Body    string      // as it is sent
	Client  string      // the client's address; empty for one of this machine
	// Where the server listens, as the configuration has it; empty where the URL tells.
	Listen string
	Fetch  bool // answer it in earnest: the origin may be asked, and the response stored
}

// Explained is the answer.
type Explained struct {
	// Verdict is one sentence, followed by what to change if that is not what is wanted.
	Verdict string `json:"verdict"`
	// Steps are empty where nothing listens at the URL.
	Steps []ExplainedStep `json:"steps"`
	Key   *EntryKey       `json:"key"`   // null where the request has none
	Entry *Entry          `json:"entry"` // the stored response that it selects, or null
}

// ExplainedStep is one question of the decision.
type ExplainedStep struct {
	Question string `json:"question"` // in words
	Answer   string `json:"answer"`   // the same
	Clause   string `json:"clause"`   // as "RFC 9111 4.2", empty where there is none
}

// Explainer is what this feature asks of the running cache.
type Explainer interface {
	// Explain runs the routes of the running configuration. Its errors are about the question: one
	// sentence that says what to send.
	Explain(ctx context.Context, q Question) (Explained, error)
}

// ExplainFeature is POST /larder/explain and `caddy larder explain`. running returns the running
// cache, or nil while there is none.
func ExplainFeature(running func() Explainer) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{{
			Method: http.MethodPost, Path: "/larder/explain",
			Answer: func(r *http.Request) (any, error) { return answerExplain(r, running) },
		}},
		Commands: []func(*adminapi.Client) *cobra.Command{explainCommand},
	}
}

func answerExplain(r *http.Request, running func() Explainer) (any, error) {
	body, err := adminapi.ReadBody(r, "send a shorter one")
	if err != nil {
		return nil, err
	}
	q, err := decodeQuestion(body)
	if err != nil {
		return nil, adminapi.BadRequest(err)
	}
	explainer := running()
	if explainer == nil {
		return nil, adminapi.ErrNoCache
	}
	explained, err := explainer.Explain(r.Context(), q)
	if err != nil {
		return nil, adminapi.BadRequest(err)
	}
	return explained, nil
}

// decodeQuestion reads the body of a request.
func decodeQuestion(body []byte) (Question, error) {
	q := Question{Method: http.MethodGet}
	err := adminapi.DecodeObject(
		body, `{"url":"https://example.com/"}`,
		adminapi.Field{Name: "url", Read: textInto(&q.URL, anyText)},
		adminapi.Field{Name: "method", Read: textInto(&q.Method, readMethod)},
		adminapi.Field{Name: "headers", Read: func(value json.RawMessage) (err error) { q.Headers, err = readHeaders(value); return err }},
		adminapi.Field{Name: "body", Read: textInto(&q.Body, anyText)},
		adminapi.Field{Name: "client", Read: textInto(&q.Client, readClient)},
		adminapi.Field{Name: "listen", Read: textInto(&q.Listen, anyText)},
		adminapi.FlagField("fetch", &q.Fetch),
	)
	if err == nil && q.URL == "" {
		err = errors.New(`no URL is given; send "url":"https://example.com/"`)
	}
	return q, err
}

func textInto(field *string, check func(string) error) func(json.RawMessage) error {
	return func(value json.RawMessage) error {
		var text *string
		if err := json.Unmarshal(value, &text); err != nil || text == nil {
			return errors.New("send a text")
		}
		*field = *text
		return check(*text)
	}
}

func anyText(string) error { return nil }

func readMethod(method string) error {
	if !httpguts.ValidHeaderFieldName(method) { // both are tokens
		return fmt.Errorf("%s is not a method; send one such as GET", adminapi.Quote(method))
	}
	return nil
}

func readClient(client string) error {
	if _, err := netip.ParseAddr(client); err != nil {
		return fmt.Errorf("%s is not an address; send one such as 192.0.2.1", adminapi.Quote(client))
	}
	return nil
}

// readHeaders reads {"Name":"value"} and {"Name":["one","two"]}.
func readHeaders(value json.RawMessage) (http.Header, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(value, &members); err != nil || members == nil {
		return nil, errors.New(`send an object such as {"Accept":"text/html"}`)
	}
	h := make(http.Header)
	for name, member := range members {
		var one string
		var lines []string
		if json.Unmarshal(member, &one) == nil {
			lines = []string{one}
		} else if json.Unmarshal(member, &lines) != nil {
			return nil, fmt.Errorf("%s: send a text or a list of texts", adminapi.Quote(name))
		}
		for _, line := range lines {
			if err := addHeader(h, name, line); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

func addHeader(h http.Header, name, value string) error {
	if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
		return fmt.Errorf("%s is not a header field; send a name and a value without line breaks", adminapi.Quote(name+": "+value))
	}
	h.Add(name, value)
	return nil
}

func explainCommand(api *adminapi.Client) *cobra.Command {
	var a explainArguments
	cmd := &cobra.Command{
		Use:   "explain <url> [-H 'Name: value']... [--fetch] [--json]",
		Short: "Explains how a request is answered, and why",
		Long: `
Runs the routes of the running configuration for a request, up to Larder's
decision, and says how it would be answered: what the key is made of, what is
stored, how fresh that is, which rule decides, and what to change. Nothing is
asked of the origin and nothing changes, unless --fetch is given. Handlers in
front of Larder do run: forward_auth asks its server.`,
		Example: `  $ caddy larder explain https://example.com/products/7
  $ caddy larder explain https://example.com/ -H 'Accept-Language: de' -H 'Cookie: sid=1'
  $ caddy larder explain https://example.com/ --fetch`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.run(cmd.OutOrStdout(), api, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&a.headers, "header", "H", nil, "A header field of the request; may be repeated")
	flags.StringVarP(&a.method, "method", "X", http.MethodGet, "The method of the request")
	flags.StringVarP(&a.body, "data", "d", "", "The body of the request")
	flags.StringVar(&a.client, "client", "", "The address of the client")
	flags.StringVar(&a.listen, "listen", "", "Where the server listens, if the URL does not tell")
	flags.BoolVar(&a.fetch, "fetch", false, "Answer the request in earnest: the origin may be asked")
	flags.BoolVar(&a.json, "json", false, "Print the answer as JSON")
	return cmd
}

// explainArguments are the flags of the command.
type explainArguments struct {
	headers                      []string
	method, body, client, listen string
	fetch, json                  bool
}

func (a *explainArguments) run(out io.Writer, api *adminapi.Client, url string) error {
	question, err := a.question(url)
	if err != nil {
		return err
	}
	request, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	var answer json.RawMessage
	if err := api.Call(http.MethodPost, "/larder/explain", bytes.NewReader(request), &answer); err != nil {
		return err
	}
	e, err := adminapi.Decode[Explained](answer)
	switch {
	case err != nil:
	case a.json:
		err = adminapi.PrintJSON(out, answer)
	case len(e.Steps) > 0:
		err = e.print(out)
	}
	if err == nil && len(e.Steps) == 0 { // of no site, so there is nothing to explain
		err = errors.New(e.Verdict)
	}
	return err
}

// question is the body of the request.
func (a *explainArguments) question(url string) (map[string]any, error) {
	headers := make(http.Header)
	for _, line := range a.headers {
		name, value, found := strings.Cut(line, ":")
		if !found {
			return nil, fmt.Errorf("%s is not a header field; give 'Name: value'", adminapi.Quote(line))
		}
		if err := addHeader(headers, textproto.TrimString(name), textproto.TrimString(value)); err != nil {
			return nil, err
		}
	}
	question := map[string]any{"url": url, "method": a.method, "headers": headers, "fetch": a.fetch}
	for name, value := range map[string]string{"body": a.body, "client": a.client, "listen": a.listen} {
		if value != "" {
			question[name] = value
		}
	}
	return question, nil
}

// print prints the verdict, the steps and the key.
func (e *Explained) print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b, e.Verdict)
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "  %s %s", s.Question, s.Answer)
		if s.Clause != "" {
			fmt.Fprintf(&b, " [%s]", s.Clause)
		}
		fmt.Fprintln(&b)
	}
	if e.Key != nil {
		fmt.Fprintf(&b, "key %.16s\n", e.Key.Hash)
		for _, p := range e.Key.Parts {
			fmt.Fprintf(&b, "  %s: %s\n", p.Part, strings.Join(p.Values, " | "))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
