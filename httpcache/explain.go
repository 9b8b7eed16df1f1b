package httpcache

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// What explains is what decides. The story in serve.go calls a Trace where something has been
// decided, and the Trace renders the values by which that was done. It calls the functions that
// decide again where it needs what they return, and has no rule of its own. A request that is not
// explained has no Trace. That costs it comparisons with nil.

// Step is one question of a decision, with its answer.
type Step = rfc9111.Step

func step(question, answer, clause string) Step {
	return Step{Question: question, Answer: answer, Clause: clause}
}

// Explanation is how a request is decided, or was.
type Explanation struct {
	// Verdict is one sentence, followed by what to change if that is not what is wanted.
	Verdict string
	Steps   []Step
	// Hash is the key in hexadecimal, and Key what it is made of; empty where the request bypasses.
	Hash string
	Key  []KeyPart
	// Stored describes the stored response that the request selects; nil where there is none.
	Stored *store.Item
}

// Line is the explanation in one line of visible ASCII, for a header field: the verdict, then the
// steps.
func (e *Explanation) Line() string {
	var b strings.Builder
	b.WriteString(e.Verdict)
	for _, s := range e.Steps {
		b.WriteString(" | " + s.Question + " " + s.Answer)
		if s.Clause != "" {
			b.WriteString(" (" + s.Clause + ")")
		}
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, b.String())
}

// Trace collects how a request is decided.
type Trace struct {
	explainsOnly bool // the request is not answered: its story ends where it has been decided

	mu      sync.Mutex // a fetch has a goroutine of its own
	verdict verdictText
	request []Step // about the request
	round   []Step // about what is stored, in the last round
	origin  []Step // about what the origin has answered
	answer  []Step // about what the client gets
	hash    string
	key     []KeyPart
	stored  *store.Item
	useless verdictText // why what is stored is not used at all; no sentence if it may be
	passes  bool        // the request is passed on, so that nothing of it is stored
	missed  bool        // the look-up has found nothing, and that is why the origin is asked
}

// verdictText is a sentence, what to change if that is not what is wanted, and the clause that it
// follows from. Both may be empty.
type verdictText struct{ sentence, change, clause string }

// String joins them.
func (v verdictText) String() string {
	if v.change == "" {
		return v.sentence
	}
	return v.sentence + " To change that: " + v.change
}

// Explain has the story of the request explained. It is called before Serve.
func (q *Request) Explain() *Trace {
	q.trace = new(Trace)
	return q.trace
}

// ExplainOnly does so and keeps the request from being answered: Serve returns where it has been
// decided. Nothing is asked of the origin, nothing is counted, and what is stored is not used.
func (q *Request) ExplainOnly() *Trace {
	q.trace = &Trace{explainsOnly: true}
	return q.trace
}

// only reports whether the request is explained and not answered.
func (t *Trace) only() bool { return t != nil && t.explainsOnly }

// Explanation returns what has been collected. It may be called at any time.
func (t *Trace) Explanation() Explanation {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Explanation{
		Verdict: t.verdict.String(), Steps: slices.Concat(t.request, t.round, t.origin, t.answer),
		Hash: t.hash, Key: t.key, Stored: t.stored,
	}
}

// Missed reports whether the origin is asked because the look-up has found nothing. It is false
// where a request is passed on for what it says, or because its responses cannot be shared.
func (t *Trace) Missed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.missed
}

// looped is told that the request has passed this cache too often. Like the others that return
// something it reports whether the story ends here.
func (t *Trace) looped() bool {
	if t == nil {
		return false
	}
	t.conclude(verdictText{sentence: "Refused with 508: the request has passed this cache ten times.", change: "look for the proxies that send it round."})
	t.add(&t.request, step("has it passed this cache before?", "ten times: CDN-Loop names larder as often", "RFC 8586 2"))
	return t.explainsOnly
}

// bypassed is told that the request does not go through the cache.
func (t *Trace) bypassed(q *Request, why Bypass) bool {
	if t == nil {
		return false
	}
	words := bypassTexts[why]
	t.conclude(verdictText{
		sentence: "Bypass: " + words.sentence + ", so the request is passed on and no other gets its answer.", change: q.changeForBypass(why),
	})
	t.add(&t.request, step("does it go through the cache?", "no: "+words.sentence, words.clause))
	t.add(&t.request, q.keyed.content.explain()...)
	return t.explainsOnly
}

// keyed is told that the request has its key.
func (t *Trace) keyed(q *Request) {
	if t == nil {
		return
	}
	t.add(&t.request, q.explainRequest()...)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setKey(q)
}

// setKey notes the key that the request has.
func (t *Trace) setKey(q *Request) {
	t.hash, t.key = hex.EncodeToString(q.key[:]), q.route.Key.parts(&q.keyed)
}

// found is told what the look-up has found.
func (t *Trace) found(q *Request) {
	if t == nil {
		return
	}
	steps, useless := q.explainFound()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setKey(q)
	t.round, t.useless, t.stored = steps, useless, q.found.Item()
}

// observesAnyway is added to what would become of a request.
const observesAnyway = " The route has observe, so the origin answers all the same."

// chosen is told how the request goes on.
func (t *Trace) chosen(q *Request, way way) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	useless := t.useless
	t.mu.Unlock()
	verdict := q.explainWay(way, useless)
	if q.route.Observe {
		verdict.sentence += observesAnyway
	}
	t.conclude(verdict)
	t.mu.Lock()
	t.missed = q.found.Entry == nil && (way.course == courseSolo || way.course == courseJoin || way.course == courseHead)
	t.mu.Unlock()
	t.add(&t.round, q.explainOrigin(way)...)
	if t.explainsOnly && q.found.Entry == nil && useless.sentence == "" {
		t.add(&t.round, q.explainNeighbours()...)
	}
	return t.explainsOnly
}

// passed is told that the request is passed on.
func (t *Trace) passed() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passes = true
}

// failed is told that the handlers behind have returned an error instead of a response.
func (t *Trace) failed(status int, err error) {
	if t == nil {
		return
	}
	answer := fmt.Sprintf("nothing: the handlers behind returned an error with status %d", status)
	if cause := causeOf(err); cause != nil {
		answer += ": " + cause.Error()
	}
	t.add(&t.origin, Step{Question: "what did the origin answer?", Answer: answer})
}

// causeOf returns what is within an error of the handlers, around which stands where in them it has
// come up. It may be nil.
func causeOf(err error) error {
	if connection, ok := errors.AsType[*net.OpError](err); ok {
		return connection
	}
	own, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	return errors.Unwrap(own.Err)
}

// batched is told what came of asking together with others.
func (t *Trace) batched(m *batchMember) {
	if t == nil {
		return
	}
	t.add(&t.origin, m.explain())
}

// judged is told how a response of the origin was judged.
func (t *Trace) judged(rt *Route, ex *rfc9111.Exchange, f *rfc9111.Freshness) {
	if t == nil {
		return
	}
	whole := rt.Policy.Freshness(ex) // f may have no more than the reason
	whole.Reason = f.Reason
	t.add(&t.origin, rt.explainResponse(ex, &whole)...)
}

// decided is told how the request is answered, in the end.
func (t *Trace) decided(q *Request) {
	if t == nil {
		return
	}
	last, _ := q.cache().unstoredReasons.of(q.key)
	t.mu.Lock()
	words := q.decision.words(t.passes, last.status)
	t.mu.Unlock()
	t.conclude(q.explainDecision(words))
	t.add(&t.answer, Step{Question: "how was it answered?", Answer: words})
}

// maxExplained is the longest explanation in a header field. Clients refuse headers of more than 8
// to 16 KiB.
const maxExplained = 4 << 10

// tell puts the explanation into the header of an answer, and reports whether the request is both
// explained and answered.
func (t *Trace) tell(h http.Header) bool {
	if t == nil || t.explainsOnly {
		return false
	}
	e := t.Explanation()
	line := e.Line()
	h["Larder-Explain"] = []string{line[:min(len(line), maxExplained)]}
	return true
}

func (t *Trace) conclude(v verdictText) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.verdict = v
}

func (t *Trace) add(to *[]Step, steps ...Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*to = append(*to, steps...)
}
