package httpcache

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestValidationAsksForTheCodingStored: clients that name the same codings in another order took a
// file in slices from each other, at an origin that chooses by the order.
func TestValidationAsksForTheCodingStored(t *testing.T) {
	h, f := newSlicing(t), newFilm(96, 1000)
	f.alter = choosesByOrder
	f.want(t, f.get(t, h, "Range", "bytes=10-19", "Accept-Encoding", "br, gzip"), 206, 10, 20, cold)
	f.want(t, f.get(t, h, "Range", "bytes=510-519", "Accept-Encoding", "br, gzip"), 206, 510, 520, partly)
	f.want(t, f.get(t, h, "Range", "bytes=10-19", "Accept-Encoding", "gzip, br", "Cache-Control", "no-cache"),
		206, 10, 20, "Larder; fwd=request; fwd-status=304; stored")
	f.want(t, f.get(t, h, "Range", "bytes=510-519", "Accept-Encoding", "br, gzip"), 206, 510, 520, hit)
	f.want(t, f.get(t, h, "Range", "bytes=510-519", "Accept-Encoding", "gzip, br"), 206, 510, 520, hit)
}

// choosesByOrder has the origin answer with the coding that is named first, in two files.
func choosesByOrder(w http.ResponseWriter, r *http.Request) bool {
	coding, _, _ := strings.Cut(r.Header.Get("Accept-Encoding"), ",")
	w.Header().Set("Vary", "Accept-Encoding")
	w.Header().Set("Content-Encoding", coding)
	w.Header().Set("Etag", `"v1"`)
	if coding != "br" {
		w.Header().Set("Etag", `"other"`)
	}
	return false
}

// So did clients of another machine, which finds the stale file with the others.
func TestValidationElsewhereAsksForTheCodingStored(t *testing.T) {
	one, two, _ := slicingMachines(t)
	one.Policy.MaxTTL, two.Policy.MaxTTL = time.Nanosecond, time.Nanosecond
	f := newFilm(118, 1000)
	f.alter = choosesByOrder
	f.want(t, f.get(t, one, "Range", "bytes=110-119", "Accept-Encoding", "br, gzip"), 206, 110, 120, cold)
	f.take()
	f.want(t, f.get(t, two, "Range", "bytes=110-119", "Accept-Encoding", "gzip, br"), 206, 110, 120, "Larder; fwd=stale; fwd-status=304; stored")
	f.wantAsked(t, `bytes=100-199 "v1"`)
}
