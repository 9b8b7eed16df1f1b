package fleet

import (
	"crypto/hmac"
	"encoding/binary"
	"time"

	"github.com/larder-cache/larder/store"
)

// news is what the holder of a lease says of its fetch, to those who wait and to those who come
// later.
type news struct {
	kind       newsKind
	variant    store.Variant // with newsStorable
	attempt    int           // with newsFailed
	status     int           // with newsFailed
	answered   bool          // with newsFailed: the origin has answered with the status
	retryAfter string        // with newsFailed
}

type newsKind uint8

const (
	// newsNone: it has said nothing, or what this version does not understand.
	newsNone newsKind = iota
	// newsStorable: at the header. The response will be in the tier.
	newsStorable
	// newsStored: it is there.
	newsStored
	// newsUnstored: it is not there. Each fetches for itself.
	newsUnstored
	// newsAlone: it is not for sharing. Each fetches for itself, those who come later too.
	newsAlone
	// newsFailed: the origin has failed. One who waits tries again, or else none.
	newsFailed
	// newsLate: it goes on, and none is to wait for it any more. One of them fetches for all.
	newsLate
	// newsQueued: as newsLate, and it says nothing of the origin, which has not had its time.
	newsQueued
)

// How long news stands in the place of a lease that has ended.
const (
	newsAloneStands = 30 * time.Second
	// newsFailedStands is for those who wait and have missed the message.
	newsFailedStands = time.Second
	// newsStoredStands has to outlast the way from a look-up to the lease: who has looked before
	// the record came then looks again.
	newsStoredStands = time.Second
)

const (
	newsSealBytes    = 16
	maxNewsBytes     = maxRowBytes + 1<<10
	maxRetryAfter    = 64
	failedAttemptMax = 2
	newsAnswered     = 1 // ends a newsFailed whose origin has answered
)

// encode returns news as bytes, sealed for the lease of a key.
func (n *news) encode(s *sealer, key string) []byte {
	b := []byte{recordVersion, byte(n.kind)}
	switch n.kind {
	case newsStorable:
		b = appendRow(b, &n.variant)
	case newsFailed:
		b = binary.AppendUvarint(b, uint64(n.attempt))
		b = binary.AppendUvarint(b, uint64(n.status))
		b = appendText(b, n.retryAfter[:min(len(n.retryAfter), maxRetryAfter)])
		if n.answered {
			b = append(b, newsAnswered)
		}
	case newsNone, newsStored, newsUnstored, newsAlone, newsLate, newsQueued:
	}
	return append(b, s.seal(b, "lease", key)[:newsSealBytes]...)
}

// decodeNews reads news. What no node of this version has written is newsUnstored: the node that
// reads it fetches for himself.
func decodeNews(b []byte, s *sealer, key string) news {
	unknown := news{kind: newsUnstored}
	if len(b) < 2+newsSealBytes || len(b) > maxNewsBytes || b[0] != recordVersion {
		return unknown
	}
	content := b[:len(b)-newsSealBytes]
	if !hmac.Equal(b[len(content):], s.seal(content, "lease", key)[:newsSealBytes]) {
		return unknown
	}
	n := news{kind: newsKind(content[1])}
	rest := content[2:]
	switch n.kind {
	case newsStorable:
		v, ok := parseRow(rest)
		if !ok {
			return unknown
		}
		n.variant, rest = v, nil
	case newsFailed:
		n.attempt, n.status = int(min(takeUvarint(&rest), failedAttemptMax)), int(min(takeUvarint(&rest), 999))
		n.retryAfter = takeText(&rest)
		if len(rest) == 1 && rest[0] == newsAnswered {
			n.answered, rest = true, nil
		}
		if n.status < 400 || n.attempt < 1 || len(n.retryAfter) > maxRetryAfter {
			return unknown
		}
	case newsStored, newsUnstored, newsAlone, newsLate, newsQueued:
	case newsNone:
		return unknown
	default:
		return unknown
	}
	if len(rest) > 0 {
		return unknown
	}
	return n
}
