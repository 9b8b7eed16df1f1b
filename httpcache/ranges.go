package httpcache

import (
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"

	"github.com/larder-cache/larder/rfc9111"
)

// ranges returns the parts that the request asks for of a body of this length, -1 if that is not
// known yet. ok is false if its answer is the whole.
func (q *Request) ranges(
	status int, header http.Header, length int64,
) (parts []rfc9111.ByteRange, unsatisfiable, ok bool) {
	if status != http.StatusOK || length < 0 || !q.fields.has(hasRange) || q.r.Method != http.MethodGet {
		return nil, false, false
	}
	return rfc9111.ParseRange(q.r.Header, header, length)
}

// sendRanges answers with parts of the whole (RFC 9110 14).
func (q *Request) sendRanges(
	a *delivery, cs *rfc9111.CacheStatus, ranges []rfc9111.ByteRange, unsatisfiable bool,
) error {
	h := q.w.Header()
	if unsatisfiable {
		a.forwarded(cs, http.StatusRequestedRangeNotSatisfiable)
	} else {
		a.forwarded(cs, http.StatusPartialContent)
	}
	delete(h, "Trailer") // a response with Content-Length has no trailers
	switch {
	case unsatisfiable:
		q.route.Policy.ClearForUnsatisfiable(h)
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(a.length, 10))
		q.sendStatus(h, cs)
		q.w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return nil
	case len(ranges) == 1:
		part := ranges[0]
		h.Set("Content-Range", part.ContentRange(a.length))
		h.Set("Content-Length", strconv.FormatInt(part.Length, 10))
		if a.untyped {
			leaveUntyped(h)
		}
		q.sendStatus(h, cs)
		q.w.WriteHeader(http.StatusPartialContent)
		if err := q.sendBody(a, part.Start, part.Length); err != nil {
			return q.brokenOff(a, err)
		}
		return nil
	default:
		return q.sendMultipart(a, cs, ranges)
	}
}

// sendMultipart answers with several parts as multipart/byteranges (RFC 9110 14.6).
func (q *Request) sendMultipart(a *delivery, cs *rfc9111.CacheStatus, ranges []rfc9111.ByteRange) error {
	h := q.w.Header()
	contentType := h.Get("Content-Type")
	parts := multipart.NewWriter(q.w)
	h.Set("Content-Type", "multipart/byteranges; boundary="+parts.Boundary())
	length := multipartLength(parts.Boundary(), contentType, ranges, a.length)
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	q.sendStatus(h, cs)
	q.w.WriteHeader(http.StatusPartialContent)
	for _, part := range ranges {
		if _, err := parts.CreatePart(partHeader(contentType, part, a.length)); err != nil {
			return q.brokenOff(a, err)
		}
		if err := q.sendBody(a, part.Start, part.Length); err != nil {
			return q.brokenOff(a, err)
		}
	}
	_ = parts.Close()
	q.sent = length // with what stands around the parts
	return nil
}

func partHeader(contentType string, part rfc9111.ByteRange, size int64) textproto.MIMEHeader {
	h := textproto.MIMEHeader{"Content-Range": {part.ContentRange(size)}}
	if contentType != "" {
		h["Content-Type"] = []string{contentType}
	}
	return h
}

// multipartLength is the length of what sendMultipart writes. It writes all but the bodies to a
// counter.
func multipartLength(boundary, contentType string, ranges []rfc9111.ByteRange, size int64) int64 {
	var count byteCounter
	w := multipart.NewWriter(&count)
	_ = w.SetBoundary(boundary)
	for _, part := range ranges {
		_, _ = w.CreatePart(partHeader(contentType, part, size))
		count += byteCounter(part.Length)
	}
	_ = w.Close()
	return int64(count)
}

// byteCounter counts what is written to it.
type byteCounter int64

func (c *byteCounter) Write(p []byte) (int, error) {
	*c += byteCounter(len(p))
	return len(p), nil
}

var _ io.Writer = (*byteCounter)(nil)
