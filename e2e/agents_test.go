package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// llm is an API as those of language models: it answers chats whole or, with "stream", word by
// word. It waits before each word but the first until the one before has arrived.
type llm struct {
	calls   atomic.Int64
	arrived chan struct{} // nil: it does not wait
	endless bool          // a stream does not end before its client leaves
}

type chat struct {
	Model    string
	Stream   bool
	Messages []struct{ Role, Content string }
}

func (l *llm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var c chat
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil || r.Header.Get("Authorization") != "Bearer secret" {
		http.Error(w, `{"error":{"message":"bad request"}}`, http.StatusBadRequest)
		return
	}
	number := l.calls.Add(1)
	w.Header().Set("Cache-Control", "no-cache")
	if !c.Stream {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"id":"chat-%d","object":"chat.completion","choices":[{"message":{"role":"assistant","content":"A cool room."}}]}`, number)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for n := 0; n < 3 || l.endless; n++ {
		if _, err := fmt.Fprintf(w, "data: {\"id\":\"chat-%d\",\"delta\":%d}\n\n", number, n); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		if l.arrived != nil {
			select {
			case <-l.arrived:
			case <-r.Context().Done():
				return
			}
		}
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// streamOf is the whole stream of the call with a number.
func streamOf(number int) string {
	var b strings.Builder
	for n := range 3 {
		fmt.Fprintf(&b, "data: {\"id\":\"chat-%d\",\"delta\":%d}\n\n", number, n)
	}
	return b.String() + "data: [DONE]\n\n"
}

// question is the body of a chat; more are members, as `,"stream":true`.
func question(text, more string) string {
	return fmt.Sprintf(`{"model":"small","messages":[{"role":"user","content":%q}]%s}`, text, more)
}

const jsonType = "application/json"

// ask posts JSON.
func (in *instance) ask(path, body string, header ...string) *answer {
	in.t.Helper()
	return in.do(http.MethodPost, path, body, append([]string{"Content-Type", jsonType}, header...)...)
}

// stream posts JSON and returns the response with its body unread.
func (in *instance) stream(ctx context.Context, path, body string, header ...string) *http.Response {
	in.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url(path), strings.NewReader(body))
	if err != nil {
		in.t.Fatal(err)
	}
	r.Header.Set("Content-Type", jsonType)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := in.client.Do(r)
	if err != nil {
		in.t.Fatal(err)
	}
	return resp
}

// nextEvent reads an event of a stream.
func nextEvent(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	event, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if empty, err := r.ReadString('\n'); err != nil || empty != "\n" {
		t.Fatalf("%q, %v behind an event", empty, err)
	}
	return event
}

// startLLM runs the example before an API.
func startLLM(t *testing.T, l *llm, old, replacement string) *instance {
	t.Helper()
	t.Setenv("LLM_API_KEY", "secret")
	text := strings.Replace(example(t, "llm"), old, replacement, 1)
	port := freePort(t)
	newOriginAt(t, fmt.Sprintf("localhost:%d", port), l.ServeHTTP)
	return loadExample(t, text, freePort(t), port)
}

const chats = "/v1/chat/completions"

// TestLLMExample: a question is paid for once, however its JSON is written, and a stream arrives as
// it is written, is stored when it has ended, and is replayed at once.
func TestLLMExample(t *testing.T) {
	l := &llm{arrived: make(chan struct{})}
	in := startLLM(t, l, "", "")
	whole := question("What is a larder?", `,"temperature":0`)
	in.ask(chats, whole).want(t, 200, "", "Larder; fwd=uri-miss; stored")
	again := `{ "temperature": 0, "messages": [ {"content": "What is a larder\u003f", "role": "user"} ], "model": "small" }`
	if a := in.ask(chats, again, "Authorization", "Bearer mine", "Cookie", "a=b"); !a.isHit() || !strings.Contains(a.body, "chat-1") {
		t.Errorf("the same question: %q, %s", a.cacheStatus(), a.body)
	}
	in.ask(chats, question("What is a larder?", `,"temperature":1`)).want(t, 200, "", "Larder; fwd=uri-miss; stored")

	streamed := question("What is a larder?", `,"stream":true`)
	for _, accept := range []string{"text/event-stream", "application/json, text/event-stream"} {
		before := int(l.calls.Load())
		body := strings.Replace(streamed, "small", accept, 1)
		resp := in.stream(t.Context(), chats, body, "Accept", accept)
		r := bufio.NewReader(resp.Body)
		for n := range 3 {
			if event, want := nextEvent(t, r), fmt.Sprintf("data: {\"id\":\"chat-%d\",\"delta\":%d}\n", before+1, n); event != want {
				t.Fatalf("event %q, want %q", event, want)
			}
			l.arrived <- struct{}{} // so the API goes on
		}
		if rest, err := io.ReadAll(r); err != nil || string(rest) != "data: [DONE]\n\n" {
			t.Fatalf("the end %q, %v", rest, err)
		}
		resp.Body.Close()
		replay := in.ask(chats, body, "Accept", accept)
		if !replay.isHit() || replay.body != streamOf(before+1) || replay.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("the replay: %q %q %q", replay.cacheStatus(), replay.Header.Get("Content-Type"), replay.body)
		}
	}
	if n := in.purge(`{"tags":["llm"]}`); n != 4 {
		t.Errorf("%d purged, want 4", n)
	}
	in.ask(chats, question("", ""), "Cache-Control", "no-cache").want(t, 200, "", "Larder; fwd=uri-miss; stored")
	if a := in.ask(chats, question("", ""), "Cache-Control", "no-cache"); a.isHit() {
		t.Errorf("another answer was asked for: %q", a.cacheStatus())
	}
	if a := in.ask("/v1/files", question("", "")); !strings.Contains(a.cacheStatus(), "fwd=bypass; detail=method") {
		t.Errorf("another path: %q", a.cacheStatus())
	}
}

// TestStreamIsShared: a request that comes while the stream is on its way has what is there at
// once, and the stream is stored although the client that began it has left.
func TestStreamIsShared(t *testing.T) {
	l := &llm{arrived: make(chan struct{})}
	in := startLLM(t, l, "", "")
	body := question("Both", `,"stream":true`)
	const first = "data: {\"id\":\"chat-1\",\"delta\":0}\n"
	ctx, leave := context.WithCancel(t.Context())
	begun := in.stream(ctx, chats, body)
	defer begun.Body.Close()
	if event := nextEvent(t, bufio.NewReader(begun.Body)); event != first {
		t.Fatalf("event %q", event)
	}
	joined := in.stream(t.Context(), chats, body)
	defer joined.Body.Close()
	r := bufio.NewReader(joined.Body)
	if event := nextEvent(t, r); event != first { // which the API does not send again
		t.Fatalf("event %q", event)
	}
	if status := joined.Header.Get("Cache-Status"); !strings.HasSuffix(status, "; collapsed") {
		t.Errorf("Cache-Status %q", status)
	}
	leave()
	for range 3 {
		l.arrived <- struct{}{}
	}
	if rest, err := io.ReadAll(r); err != nil || first+"\n"+string(rest) != streamOf(1) {
		t.Fatalf("the rest %q, %v", rest, err)
	}
	if a := in.ask(chats, body); !a.isHit() || a.body != streamOf(1) || l.calls.Load() != 1 {
		t.Errorf("%q %q after %d calls", a.cacheStatus(), a.body, l.calls.Load())
	}
}

// TestStreamOutlivesItsClient: what is paid for is stored, also where no client reads it to its
// end.
func TestStreamOutlivesItsClient(t *testing.T) {
	l := &llm{arrived: make(chan struct{})}
	in := startLLM(t, l, "", "")
	body := question("Gone", `,"stream":true`)
	ctx, leave := context.WithCancel(t.Context())
	resp := in.stream(ctx, chats, body)
	nextEvent(t, bufio.NewReader(resp.Body))
	leave()
	resp.Body.Close()
	for range 3 {
		l.arrived <- struct{}{}
	}
	eventually(t, "the stream is over", func() bool { return in.stats().InFlight == 0 })
	if a := in.ask(chats, body); !a.isHit() || a.body != streamOf(1) {
		t.Errorf("%q %q", a.cacheStatus(), a.body)
	}
}

// TestEndlessStream: it is not stored past max_body, and goes on to its client as it comes.
func TestEndlessStream(t *testing.T) {
	l := &llm{arrived: make(chan struct{}), endless: true}
	in := startLLM(t, l, "max_body 4MiB", "max_body 1KiB")
	body := question("Go on", `,"stream":true`)
	ctx, cancel := context.WithCancel(t.Context())
	resp := in.stream(ctx, chats, body)
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	for n := range 100 { // 3 KiB
		if event, want := nextEvent(t, r), fmt.Sprintf("data: {\"id\":\"chat-1\",\"delta\":%d}\n", n); event != want {
			t.Fatalf("event %q, want %q", event, want)
		}
		l.arrived <- struct{}{}
	}
	cancel()
	eventually(t, "the stream ends with its client", func() bool { return in.stats().InFlight == 0 })
	if e := in.entries(""); len(e.Entries) != 0 {
		t.Errorf("stored: %+v", e.Entries)
	}
}

// tools is a server of tools that agents call, as the Model Context Protocol has it: it gives a
// session, and answers some calls by JSON and others by a stream.
func tools(w http.ResponseWriter, r *http.Request, number int) {
	var call struct {
		Method string
		Params struct{ Name string }
	}
	_ = json.NewDecoder(r.Body).Decode(&call)
	session := r.Header.Get("Mcp-Session-Id")
	if call.Method == "initialize" {
		session = fmt.Sprint("session-", number)
	}
	w.Header().Set("Mcp-Session-Id", session)
	answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"call":%d,"session":%q}}`, number, session)
	if call.Params.Name == "slow" {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, "event: message\ndata: {\"progress\":1}\n\nevent: message\ndata: %s\n\n", answer)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer)
}

// TestToolsExample runs the site that the page shows for a server of tools.
func TestToolsExample(t *testing.T) {
	o := newOrigin(t, counted(tools))
	_, blocks := readPages(t, "docs/agents.md")[0].parts()
	var site string
	for _, b := range blocks {
		if b.language == "caddyfile" && strings.Contains(b.text, "Mcp-Session-Id") {
			site = strings.ReplaceAll(b.text, "localhost:9000", "{{origin}}")
		}
	}
	if site == "" {
		t.Fatal("the page shows no site for a server of tools")
	}
	in := start(t, setup{site: site}, o)
	accept := []string{"Accept", "application/json, text/event-stream"}
	call := func(body, session string) *answer {
		header := accept
		if session != "" {
			header = append([]string{"Mcp-Session-Id", session}, accept...)
		}
		return in.ask("/mcp", body, header...)
	}
	const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize"}`
	first, second := call(initialize, "").Header.Get("Mcp-Session-Id"), call(initialize, "").Header.Get("Mcp-Session-Id")
	if first == second || first == "" || second == "" {
		t.Fatalf("the sessions %q and %q", first, second)
	}
	for _, tool := range []string{"quick", "slow"} {
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":{"a":1,"b":2}}}`, tool)
		again := fmt.Sprintf(`{"jsonrpc":"2.0","method":"tools/call","id":1,"params":{"arguments":{"b":2,"a":1},"name":%q}}`, tool)
		made := call(body, first)
		made.want(t, 200, "", "Larder; fwd=uri-miss; stored")
		if hit := call(again, first); !hit.isHit() || hit.body != made.body || hit.Header.Get("Content-Type") != made.Header.Get("Content-Type") {
			t.Errorf("%s again: %q %q, want %q", tool, hit.cacheStatus(), hit.body, made.body)
		}
		if other := call(again, second); other.isHit() || other.body == made.body {
			t.Errorf("%s in another session: %q %q", tool, other.cacheStatus(), other.body)
		}
		if rest := in.ask("/mcp", body, "Mcp-Session-Id", first, "Last-Event-Id", "7"); rest.cacheStatus() != "Larder; fwd=bypass; detail=override" {
			t.Errorf("%s, the rest of a stream: %q", tool, rest.cacheStatus())
		}
	}
}

// TestSessionsAreNotShared: where the site has no matcher, what begins a session is stored for no
// other client, by whatever lifetime.
func TestSessionsAreNotShared(t *testing.T) {
	for name, key := range map[string]string{"keyed": "header Mcp-Session-Id\n", "not keyed": ""} {
		o := newOrigin(t, counted(tools))
		in := start(t, proxied(block("methods GET HEAD POST", "key {\njson\n"+key+"}", "safe_post", "force_ttl 1h")), o)
		const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize"}`
		first, second := in.ask("/mcp", initialize).Header.Get("Mcp-Session-Id"), in.ask("/mcp", initialize).Header.Get("Mcp-Session-Id")
		if first == second {
			t.Errorf("%s: two clients have the session %q", name, first)
		}
	}
}
