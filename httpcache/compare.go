package httpcache

import (
	"errors"
	"hash/maphash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Where an observed request would have been answered from the store, the origin's answer is
// compared with that: its status, its body, and its fields but Date, Age and those that are hop by
// hop. Both are compared as what they say of the resource. So a 304 is compared by the fields that
// it has, a part by its place in the whole, and Expires by the lifetime that it gives.
//
// No body is held for it. The origin's is hashed while the client gets it. What is stored is hashed
// once, and keeps the result. If its body is large, or has to be read from disk, that is done when
// the client has its answer, on another goroutine.

// What an answer may differ by, beside the canonical name of a field.
const (
	// DiffersStatus: the status.
	DiffersStatus = "status"
	// DiffersBody: the body, or a part of it.
	DiffersBody = "body"
)

// Observed is what was observed of one request.
type Observed struct {
	// Route is the one that observes.
	Route *Route
	// URL is the one by which a response to the request is purged.
	URL string
	// Would is what the outcome would have been, and Bypass why the request would have bypassed.
	Would  Outcome
	Bypass Bypass
	// NotStored is why the answer would not have been stored, as far as it was judged.
	NotStored rfc9111.Reason
	// Compared says that the origin's answer was compared with what would have been served, and
	// Differs what they differ by: [DiffersStatus], [DiffersBody] or the name of a field. It is
	// empty if they agree.
	Compared bool
	Differs  string
	// Failed says that the origin's answer tells of its failure: what would have been served stands
	// in for that, and is not wrong because it differs.
	Failed bool
	// Bytes is the length of the body that the client got.
	Bytes int64
	// Cookies are the names of the request's cookies that the key lacks, if it was compared. They
	// are at most maxCookieNames.
	Cookies []string
	// StoredForCookie says that what is stored was fetched for a request with such a cookie.
	StoredForCookie bool
	// Refreshes says that serving it would have begun a refresh in the background.
	Refreshes bool
	// Authorized says that the request carries Authorization, and the key lacks it.
	Authorized bool
	// Parameters says that the request has parameters that the key leaves out.
	Parameters bool
}

// Agrees reports whether nothing shows that the answer would have been wrong. What stands in for a
// failure of the origin is not wrong because it differs.
func (o *Observed) Agrees() bool { return o.Differs == "" || o.Failed }

const (
	// maxComparing is how many stored bodies are hashed for comparisons at once. One more is not
	// compared.
	maxComparing = 64
	// maxCookieNames is how many cookies of a request are named.
	maxCookieNames = 16
)

// digestSeed is of the process: no digest is stored.
var digestSeed = maphash.MakeSeed()

// comparison compares one body with what is stored.
type comparison struct {
	made    bool   // of the header, at least
	failed  bool   // the origin's answer tells of its failure
	field   string // what of that differs, or DiffersStatus
	hashes  bool   // the body is compared too
	start   int64  // where it begins in the stored one
	length  int64  // how long it should be
	hash    maphash.Hash
	written int64
}

func (c *comparison) write(p []byte) {
	if c.hashes {
		_, _ = c.hash.Write(p)
		c.written += int64(len(p))
	}
}

// compareWith notes what would have been the answer. It takes over stored.
func (o *observed) compareWith(stored store.Result, freshness *rfc9111.Freshness) {
	o.stored, o.freshness, o.seed = stored, freshness, snapshot(o.q.w.Header())
	noteLent(o.seed, o.q.w.Header())
}

// compareHeader compares the header of the origin's answer with that of what is stored.
func (o *observed) compareHeader(status int, h http.Header) {
	c, e, q := &o.comparison, o.stored.Entry, o.q
	stored := q.route.evaluated(e).header
	c.made, c.failed = true, q.route.Policy.OriginFailed(status)
	switch {
	case status == http.StatusNotModified:
		c.field = o.fieldThatDiffers(h, true)
		named := len(h["Etag"])+len(h["Last-Modified"]) > 0
		if c.field == "" && !named && !q.notModified(e.Status, stored, e.ResponseTime) {
			c.field = DiffersStatus
		}
	case status == http.StatusPartialContent && e.Status == http.StatusOK:
		c.field = o.fieldThatDiffers(h, false)
		start, length, complete, ok := contentRange(h)
		if ok && complete != e.Body.Len() {
			c.field = DiffersBody
		} else if ok {
			c.compareBody(q, start, length)
		}
	case status == e.Status:
		c.field = o.fieldThatDiffers(h, false)
		declared := declaredLength(h)
		if q.r.Method == http.MethodHead && c.field == "" && declared >= 0 && declared != e.Body.Len() {
			c.field = "Content-Length"
		}
		c.compareBody(q, 0, e.Body.Len())
	case status == http.StatusRequestedRangeNotSatisfiable:
		if _, unsatisfiable, _ := q.ranges(e.Status, stored, e.Body.Len()); !unsatisfiable {
			c.field = DiffersStatus
		}
	default:
		c.field = DiffersStatus
	}
}

// compareBody makes c compare the body with that part of what is stored.
func (c *comparison) compareBody(q *Request, start, length int64) {
	if q.r.Method == http.MethodHead {
		return
	}
	c.hashes, c.start, c.length = true, start, length
	c.hash.SetSeed(digestSeed)
}

// fieldThatDiffers returns the name of a field by which the origin's header differs from what a
// client would have got. Of several it is Set-Cookie, or the first by name. Of a 304 only the
// fields that it has are compared.
func (o *observed) fieldThatDiffers(h http.Header, notModified bool) string {
	rt := o.q.route
	theirs := rfc9111.StorableHeader(
		&rfc9111.Exchange{Header: rt.provided(o.seed, withoutTrailers(changes(o.seed, h, rt.decisive)))}, &rt.Policy)
	rt.stripTags(theirs)
	mine := rt.evaluated(o.stored.Entry).header
	var names []string
	for name := range theirs {
		names = append(names, name)
	}
	for name := range mine {
		if _, both := theirs[name]; !both && !notModified {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if i := slices.Index(names, "Set-Cookie"); i > 0 {
		names = slices.Insert(slices.Delete(names, i, i+1), 0, "Set-Cookie")
	}
	multipart := strings.HasPrefix(theirs.Get("Content-Type"), "multipart/byteranges")
	for _, name := range names {
		if !alike(name, mine, theirs) && (!multipart || name != "Content-Type") {
			return name
		}
	}
	return ""
}

// alike reports whether a field says the same in two headers, as far as it says something of the
// resource.
func alike(name string, a, b http.Header) bool {
	switch name {
	case "Date", "Age", "Content-Length", "Content-Range": // the last two by the body
		return true
	case "Expires":
		mine, known := lifetimeByExpires(a)
		theirs, too := lifetimeByExpires(b)
		if known && too {
			return (mine - theirs).Abs() <= time.Second
		}
	case "Etag": // a 304 may have it without the weakness, see rfc9111.Selects
		return len(a[name]) == len(b[name]) && (len(a[name]) == 0 || rfc9111.Selects(a, b))
	}
	return slices.Equal(a[name], b[name])
}

// lifetimeByExpires is how long after Date a response expires.
func lifetimeByExpires(h http.Header) (lifetime time.Duration, ok bool) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		date = time.Now() // the server that sends it adds one
	}
	expires, err := http.ParseTime(h.Get("Expires"))
	return expires.Sub(date), err == nil
}

// contentRange reads Content-Range (RFC 9110 14.4). ok is false where it is missing, as with
// several parts, or does not name the complete length.
func contentRange(h http.Header) (start, length, complete int64, ok bool) {
	unit, rest, _ := strings.Cut(h.Get("Content-Range"), " ")
	span, _, _ := strings.Cut(rest, "/")
	first, last, _ := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	end, errEnd := strconv.ParseInt(last, 10, 64)
	complete = completeLength(h)
	ok = unit == "bytes" && err == nil && errEnd == nil && 0 <= start && start <= end && end < complete
	return start, end - start + 1, complete, ok
}

// finishComparison reports what was observed of a request whose handlers have returned with err. A
// body that broke off is not compared.
func (o *observed) finishComparison(pw *passWriter, err error) {
	found := o.report(pw)
	c := &o.comparison
	switch {
	case !c.made:
	case c.field == DiffersStatus:
		found.Compared, found.Differs = true, c.field
	case err != nil:
	case !c.hashes:
		found.Compared, found.Differs = true, c.field
	case c.written != c.length:
		found.Compared, found.Differs = true, DiffersBody
	default:
		o.compareDigests(found)
		return
	}
	o.tell(found)
}

// compareDigests compares what was hashed of the origin's answer with what is stored.
func (o *observed) compareDigests(found *Observed) {
	known := o.knownDigest()
	if known == nil && (o.stored.ReadsDisk() || o.comparison.length > smallBody) {
		c := o.q.cache()
		if c.comparing.Add(1) > maxComparing {
			c.comparing.Add(-1)
			o.tell(found)
			return
		}
		c.acquire()
		c.workers.run(&digesting{o, found})
		return
	}
	o.tellDigests(found, known)
}

// digesting is the task of hashing a stored body.
type digesting struct {
	o     *observed
	found *Observed
}

// run implements task. No panic may leave its goroutine.
func (d *digesting) run() {
	c := d.o.q.cache()
	defer c.release()
	defer c.comparing.Add(-1)
	err := guarded(func() error { d.o.tellDigests(d.found, nil); return nil })
	if p, ok := errors.AsType[*coalesce.PanicError](err); ok {
		d.o.q.route.logPanic("panic while a body was compared", p)
	}
}

// tellDigests tells what came of a comparison. known is the stored body's digest, or nil.
func (o *observed) tellDigests(found *Observed, known *uint64) {
	if known == nil {
		known = o.makeDigest()
	}
	if known != nil {
		found.Compared, found.Differs = true, o.comparison.field
		if *known != o.comparison.hash.Sum64() {
			found.Differs = DiffersBody
		}
	}
	o.tell(found)
}

// knownDigest returns the digest that an earlier comparison of the whole body has made.
func (o *observed) knownDigest() *uint64 {
	if !o.comparesWhole() {
		return nil
	}
	return o.q.route.evaluated(o.stored.Entry).digest.Load()
}

func (o *observed) comparesWhole() bool { return o.comparison.length == o.stored.Entry.Body.Len() }

// makeDigest hashes the part of the stored body that is compared. It returns nil if that cannot be
// read.
func (o *observed) makeDigest() *uint64 {
	var hash maphash.Hash
	hash.SetSeed(digestSeed)
	if _, err := store.WriteBody(&hash, o.stored.Entry.Body, o.comparison.start, o.comparison.length, nil); err != nil {
		return nil
	}
	digest := hash.Sum64()
	if o.comparesWhole() {
		o.q.route.evaluated(o.stored.Entry).digest.Store(&digest)
	}
	return &digest
}

// report returns what is known of the request when its answer has ended, on its own goroutine.
func (o *observed) report(pw *passWriter) *Observed {
	q, d := o.q, &pw.decision
	found := &Observed{
		Route: q.route, Would: d.Outcome, Bypass: d.Bypass, NotStored: d.NotStored, Bytes: q.sent,
		Authorized: q.authorized, Failed: o.comparison.failed, Refreshes: o.fetch != nil && o.fetch.background,
	}
	if q.keyed.Purgeable {
		found.URL = q.URL()
		found.Parameters = q.route.Key.Query.Applied(q.keyed.URL) != q.keyed.URL
	}
	if e := o.stored.Entry; e != nil {
		found.StoredForCookie = e.Flags&flagUnkeyedCookie != 0
	}
	if o.comparison.made && q.unkeyedCookie {
		found.Cookies = q.route.Key.unkeyedCookies(q.r.Header)
	}
	return found
}

// tell hands over what was found, and what is held for it back. The client's request may be over.
func (o *observed) tell(found *Observed) {
	o.stored.Release()
	o.q.cache().metrics.Observed(found)
}
