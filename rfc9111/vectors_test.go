package rfc9111

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A vector is one decision, as it stands in testdata/rfc9111. Fields are written "Name: value";
// {+60} in a value is the HTTP-date 60 seconds after the response arrived. What expected does not
// name is not checked.
type vector struct {
	Name   string
	Clause string
	Policy vectorPolicy
	// Request fetched the response; Again is a later one. Validation is the origin's answer to it,
	// a 304 or the 200 of a HEAD.
	Request, Response, Again, Validation message
	// Clock: how many seconds the fetch took, how many passed since, and how many after the
	// response the later request came.
	Clock struct {
		Delay, At float64
		Came      *float64
	}
	Validity string // "" is valid
	Failure  int    // the status with which the origin fails the later request
	Size     int64
	Expected expectation
}

type message struct {
	Method string
	URL    string
	Status int
	Fields []string
	// Trailer are the fields behind the body.
	Trailer []string
}

type vectorPolicy struct {
	TTL, Force       []vectorTTL
	MaxTTL           float64
	Ignore, Targeted []string
	Heuristic        bool
	SafePost         bool
	SWR, SIE, Keep   float64
	Failures         []string
	SetCookie        string
	TagFields        []string
	IgnoreClient     bool
	NoTargeted       bool
	GroupName        string
}

type vectorTTL struct {
	Seconds  float64
	Statuses []string
}

type expectation struct {
	Reason   *string
	Lifetime *float64
	Source   *string
	Age      *float64
	TTL      *float64
	SWR      *float64
	SIE      *float64
	Keep     *float64

	Use     *string
	Forward *string
	OnError *bool
	Waiting *bool

	Suits  *bool
	Values []string

	Stored []string
	Absent []string
	// Behind and NotBehind: of the trailer, for the store; OwnBehind and NotOwnBehind for the
	// client that the response was made for.
	Behind, NotBehind, OwnBehind, NotOwnBehind []string

	Condition []string
	Selects   *bool
	Head      *bool
	Merged    []string
	Unmerged  []string
	Own       []string
	Renewed   *string

	Verdict *string

	Ranges []string
	Range  *string

	Invalidates *bool
	URLs        []string

	Tags        []string
	Dropped     *int
	Groups      []string
	Incremental *bool
	Loops       *int

	Equivalent *bool
}

// arrival is when every response of the vectors arrived.
var arrival = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func TestVectors(t *testing.T) {
	files, err := filepath.Glob("../testdata/rfc9111/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors found: %v", err)
	}
	total := 0
	for _, file := range files {
		vectors := readVectors(t, file)
		total += len(vectors)
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			names := make(map[string]bool)
			for _, v := range vectors {
				if v.Name == "" || v.Clause == "" || names[v.Name] {
					t.Errorf("vector %q: name and clause are needed, and the name once", v.Name)
				}
				names[v.Name] = true
				t.Run(v.Name, func(t *testing.T) {
					if v.check(t) == 0 {
						t.Error("expects nothing")
					}
				})
			}
		})
	}
	if total < 300 {
		t.Errorf("%d vectors, want at least 300", total)
	}
}

func readVectors(t *testing.T, file string) []vector {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var vectors []vector
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&vectors); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return vectors
}

// check runs every check that the vector has an expectation for and returns how many those were.
func (v *vector) check(t *testing.T) int {
	checks := 0
	for _, check := range []func(*testing.T) int{
		v.checkFreshness, v.checkUse, v.checkVary, v.checkHeader, v.checkValidation,
		v.checkRange, v.checkInvalidation, v.checkFields, v.checkSearch, v.checkTrailer,
	} {
		checks += check(t)
	}
	return checks
}

func (v *vector) checkFreshness(t *testing.T) int {
	p, x, e := v.policy(t), v.exchange(t), v.Expected
	f := p.Freshness(x)
	now := v.now()
	return equal(t, "reason", e.Reason, f.Reason.String()) +
		equal(t, "lifetime", e.Lifetime, f.Lifetime.Seconds()) +
		equal(t, "source", e.Source, f.Source.String()) +
		equal(t, "age", e.Age, f.Age(now).Seconds()) +
		equal(t, "ttl", e.TTL, f.TTL(now).Seconds()) +
		equal(t, "stale-while-revalidate", e.SWR, f.StaleWhileRevalidate.Seconds()) +
		equal(t, "stale-if-error", e.SIE, f.StaleIfError.Seconds()) +
		equal(t, "keep", e.Keep, f.KeepUntil().Sub(arrival).Seconds())
}

func (v *vector) validity(t *testing.T) Validity {
	t.Helper()
	validity, known := map[string]Validity{"": Valid, "stale": Stale, "invalid": Invalid}[v.Validity]
	if !known {
		t.Fatalf("validity %q", v.Validity)
	}
	return validity
}

func (v *vector) checkUse(t *testing.T) int {
	e := v.Expected
	f := v.policy(t).Freshness(v.exchange(t))
	d := v.directives(t, v.Again)
	use, forward := f.Use(d, v.now(), v.validity(t))
	if came := v.Clock.Came; came != nil {
		use, forward = f.UseFor(d, arrival.Add(duration(*came)), v.now(), v.validity(t))
	}
	return equal(t, "use", e.Use, use.String()) +
		equal(t, "forward", e.Forward, forward.String()) +
		equal(t, "for those waiting", e.Waiting, f.UsableByFollowers()) +
		equal(t, "usable on error", e.OnError, f.UsableOnError(d, v.now(), v.validity(t), v.Failure))
}

func (v *vector) checkVary(t *testing.T) int {
	response := v.header(t, v.Response)
	names, star := VaryNames(response)
	values := VariantValues(names, v.header(t, v.Request))
	score := VariantScore(names, values, ContentCoding(response), v.header(t, v.Again))
	return equal(t, "suits", v.Expected.Suits, score > 0 && !star) +
		equalList(t, "values", v.Expected.Values, values)
}

func (v *vector) checkHeader(t *testing.T) int {
	h := StorableHeader(v.exchange(t), v.policy(t))
	checks := len(v.Expected.Stored) + len(v.Expected.Absent)
	v.has(t, "stored", h, v.Expected.Stored)
	hasNot(t, "stored", h, v.Expected.Absent)
	return checks
}

func (v *vector) checkTrailer(t *testing.T) int {
	e, header := v.Expected, v.header(t, v.Response)
	own := v.header(t, message{Fields: v.Response.Trailer})
	stored := v.policy(t).StorableTrailer(header, own)
	v.has(t, "stored trailer", stored, e.Behind)
	hasNot(t, "stored trailer", stored, e.NotBehind)
	CleanTrailer(header, own)
	v.has(t, "own trailer", own, e.OwnBehind)
	hasNot(t, "own trailer", own, e.NotOwnBehind)
	return len(e.Behind) + len(e.NotBehind) + len(e.OwnBehind) + len(e.NotOwnBehind)
}

func (v *vector) checkValidation(t *testing.T) int {
	e := v.Expected
	stored, answer := v.header(t, v.Response), v.header(t, v.Validation)
	fetch := v.header(t, v.Again)
	verdict := Precondition(method(v.Again), fetch, v.status(), stored, arrival)
	MakeConditional(fetch, stored)
	merged, fresh := FreshenByHead(stored, answer)
	if e.Head == nil {
		merged = v.policy(t).MergeStorable(stored, answer)
	}
	v.has(t, "merged", merged, e.Merged)
	hasNot(t, "merged", merged, e.Unmerged)
	v.has(t, "own", Merge(merged, answer), e.Own)
	renewed := v.exchange(t)
	renewed.Header = merged
	return equalList(t, "condition", e.Condition, lines(fetch)) +
		equal(t, "selects", e.Selects, Selects(stored, answer)) +
		equal(t, "head", e.Head, fresh) +
		equal(t, "verdict", e.Verdict, verdict.String()) +
		equal(t, "renewed", e.Renewed, v.policy(t).Storable(renewed).String()) +
		len(e.Merged) + len(e.Unmerged) + len(e.Own)
}

func (v *vector) checkRange(t *testing.T) int {
	ranges, unsatisfiable, ok := ParseRange(v.header(t, v.Again), v.header(t, v.Response), v.Size)
	outcome := "parts"
	switch {
	case !ok:
		outcome = "whole"
	case unsatisfiable:
		outcome = "unsatisfiable"
	}
	var parts []string
	for _, r := range ranges {
		parts = append(parts, r.ContentRange(v.Size))
	}
	return equal(t, "range", v.Expected.Range, outcome) + equalList(t, "ranges", v.Expected.Ranges, parts)
}

func (v *vector) checkInvalidation(t *testing.T) int {
	e := v.Expected
	var urls []string
	if e.URLs != nil {
		target, err := url.Parse(v.Request.URL)
		if err != nil {
			t.Fatal(err)
		}
		urls = InvalidatedURLs(target, v.header(t, v.Response))
	}
	return equal(t, "invalidates", e.Invalidates, Invalidates(method(v.Request), v.status())) +
		equalList(t, "urls", e.URLs, urls)
}

func (v *vector) checkFields(t *testing.T) int {
	e := v.Expected
	response := v.header(t, v.Response)
	tags, dropped := Tags(response, v.Policy.TagFields)
	group := v.Policy.GroupName
	if group == "" {
		group = "Cache-Groups"
	}
	return equalList(t, "tags", e.Tags, tags) +
		equal(t, "dropped", e.Dropped, dropped) +
		equalList(t, "groups", e.Groups, CacheGroups(response, group)) +
		equal(t, "incremental", e.Incremental, Incremental(response)) +
		equal(t, "loops", e.Loops, CDNLoopCount(v.header(t, v.Request), "larder"))
}

func (v *vector) checkSearch(t *testing.T) int {
	variance := ParseNoVarySearch(v.header(t, v.Response))
	_, first, _ := strings.Cut(v.Request.URL, "?")
	_, again, _ := strings.Cut(v.Again.URL, "?")
	return equal(t, "equivalent", v.Expected.Equivalent, variance.Normalize(first) == variance.Normalize(again))
}

// equal compares if there is an expectation and returns how many it compared.
func equal[T comparable](t *testing.T, what string, want *T, got T) int {
	t.Helper()
	if want == nil {
		return 0
	}
	if *want != got {
		t.Errorf("%s = %v, want %v", what, got, *want)
	}
	return 1
}

func equalList(t *testing.T, what string, want, got []string) int {
	t.Helper()
	if want == nil {
		return 0
	}
	if !slices.Equal(want, got) {
		t.Errorf("%s = %q, want %q", what, got, want)
	}
	return 1
}

func (v *vector) has(t *testing.T, what string, h http.Header, fields []string) {
	t.Helper()
	for name, want := range v.header(t, message{Fields: fields}) {
		if got := h[name]; !slices.Equal(got, want) {
			t.Errorf("%s %s = %q, want %q", what, name, got, want)
		}
	}
}

func hasNot(t *testing.T, what string, h http.Header, names []string) {
	t.Helper()
	for _, name := range names {
		if got, ok := h[http.CanonicalHeaderKey(name)]; ok {
			t.Errorf("%s %s = %q, want none", what, name, got)
		}
	}
}

func (v *vector) now() time.Time { return arrival.Add(duration(v.Clock.At)) }

func (v *vector) status() int {
	if v.Response.Status == 0 {
		return http.StatusOK
	}
	return v.Response.Status
}

func (v *vector) exchange(t *testing.T) *Exchange {
	request := v.header(t, v.Request)
	return &Exchange{
		Method:         method(v.Request),
		Status:         v.status(),
		Header:         v.header(t, v.Response),
		Trailer:        v.header(t, message{Fields: v.Response.Trailer}),
		RequestTime:    arrival.Add(-duration(v.Clock.Delay)),
		ResponseTime:   arrival,
		Authorized:     request.Get("Authorization") != "",
		UnkeyedCookie:  request.Get("Cookie") != "",
		RequestNoStore: v.directives(t, v.Request).NoStore,
	}
}

func (v *vector) directives(t *testing.T, m message) RequestDirectives {
	if v.Policy.IgnoreClient {
		return RequestDirectives{}
	}
	return ParseRequest(v.header(t, m))
}

func (v *vector) policy(t *testing.T) *Policy {
	p := v.Policy
	policy := &Policy{
		TTL: ttls(t, p.TTL), ForceTTL: ttls(t, p.Force), MaxTTL: duration(p.MaxTTL),
		Ignore: p.Ignore, Heuristic: p.Heuristic, SafePost: p.SafePost,
		StaleWhileRevalidate: duration(p.SWR), StaleIfError: duration(p.SIE),
		Failures: statusClasses(t, p.Failures), Keep: duration(p.Keep),
	}
	for _, name := range p.Targeted {
		policy.Targeted = append(policy.Targeted, http.CanonicalHeaderKey(name))
	}
	switch p.SetCookie {
	case "":
	case "strip":
		policy.SetCookie = SetCookieStrip
	case "store":
		policy.SetCookie = SetCookieStore
	default:
		t.Fatalf("setCookie %q", p.SetCookie)
	}
	if p.NoTargeted {
		policy.Targeted = []string{}
	}
	return policy
}

func ttls(t *testing.T, rows []vectorTTL) []StatusTTL {
	var out []StatusTTL
	for _, row := range rows {
		out = append(out, StatusTTL{Duration: duration(row.Seconds), Statuses: statusClasses(t, row.Statuses)})
	}
	return out
}

func statusClasses(t *testing.T, words []string) (classes []StatusClass) {
	t.Helper()
	for _, word := range words {
		class, err := ParseStatusClass(word)
		if err != nil {
			t.Fatal(err)
		}
		classes = append(classes, class)
	}
	return classes
}

func method(m message) string {
	if m.Method == "" {
		return http.MethodGet
	}
	return m.Method
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// header makes the header of a message; nil lines are none.
func (v *vector) header(t *testing.T, m message) http.Header {
	h := make(http.Header)
	for _, line := range m.Fields {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			t.Fatalf("field %q has no colon", line)
		}
		h.Add(name, expandDates(t, strings.TrimPrefix(value, " ")))
	}
	return h
}

// expandDates replaces {+60} and {-60} by HTTP-dates around the arrival.
func expandDates(t *testing.T, value string) string {
	before, rest, ok := strings.Cut(value, "{")
	if !ok {
		return value
	}
	offset, after, ok := strings.Cut(rest, "}")
	n, err := strconv.Atoi(offset)
	if !ok || err != nil {
		t.Fatalf("value %q: the offset is no number", value)
	}
	return before + arrival.Add(time.Duration(n)*time.Second).Format(http.TimeFormat) + after
}

// lines writes a header as the vectors do, sorted.
func lines(h http.Header) []string {
	out := []string{}
	for name, values := range h {
		for _, value := range values {
			out = append(out, name+": "+value)
		}
	}
	slices.Sort(out)
	return out
}
