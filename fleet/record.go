package fleet

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/larder-cache/larder/store"
)

// A record of the log is
//
//	version(1) kind(1) flags(1) token(8) who tags urls prefixes hosts [seal(32)]
//
// where a text is its length and its bytes, and a list is how many texts and the texts; lengths are
// varints. The seal is an HMAC-SHA256 with the fleet's secret over all before it.
//
// Every node has to understand every record, or purges would be lost. So what a node does not
// understand, or what is not sealed as it has to be, purges everything: that is what a newer
// version may count on, and the worst that somebody can do by writing to the log without the
// secret.
const (
	logVersion = 1
	kindPurge  = 1

	flagSeverity = 3 // the bits of the severity
	flagAll      = 4
	flagSealed   = 8

	logHeader = 11
	// maxLogRecord is how long a record may be that is read, in bytes. Longer purges everything.
	maxLogRecord = 4 << 20
	// longLogRecord is where a purge goes on in another record. A single selector may be longer.
	longLogRecord = 32 << 10
	maxWho        = 256
)

var errLogRecord = errors.New("the record is not understood")

// logRecord is a purge as it stands in the log.
type logRecord struct {
	Purge
	token uint64 // of the purge, by which its node knows it again
	who   string // the id of the node it was made at
}

// everything is what a record comes to that is not understood.
var everything = logRecord{Purge: Purge{Selectors: store.Selectors{All: true}, Severity: store.Hard}}

// encode returns the record.
func (r *logRecord) encode(secret []byte) []byte {
	flags := byte(r.Severity) & flagSeverity
	if r.Selectors.All {
		flags |= flagAll
	}
	if len(secret) > 0 {
		flags |= flagSealed
	}
	b := []byte{logVersion, kindPurge, flags}
	b = binary.BigEndian.AppendUint64(b, r.token)
	b = appendText(b, r.who)
	for _, list := range lists(&r.Selectors) {
		b = binary.AppendUvarint(b, uint64(len(*list)))
		for _, text := range *list {
			b = appendText(b, text)
		}
	}
	if len(secret) > 0 {
		b = append(b, seal(b, secret)...)
	}
	return b
}

func lists(s *store.Selectors) [4]*[]string {
	return [...]*[]string{&s.Tags, &s.URLs, &s.Prefixes, &s.Hosts}
}

// seal is the HMAC of a record. The text before it keeps it apart from others with the secret.
func seal(b, secret []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("larder log\n"))
	h.Write(b)
	return h.Sum(nil)
}

// understand returns what a record does: everything, where it is not understood.
func understand(data, secret []byte) (r logRecord, err error) {
	if err := r.decode(data, secret); err != nil {
		return everything, err
	}
	return r, nil
}

// decode reads a record, and checks its seal where there is a secret. Without one a seal is not
// looked at.
func (r *logRecord) decode(data, secret []byte) error {
	if len(data) < logHeader || len(data) > maxLogRecord || data[0] != logVersion || data[1] != kindPurge {
		return errLogRecord
	}
	flags, rest := data[2], data[logHeader:]
	if flags&flagSealed != 0 {
		if len(rest) < sha256.Size {
			return errLogRecord
		}
		rest = rest[:len(rest)-sha256.Size]
	}
	if sealed := len(data) - sha256.Size; len(secret) > 0 &&
		(flags&flagSealed == 0 || !hmac.Equal(data[sealed:], seal(data[:sealed], secret))) {
		return errLogRecord
	}
	r.token = binary.BigEndian.Uint64(data[3:])
	r.Severity = store.Severity(flags & flagSeverity)
	r.Selectors.All = flags&flagAll != 0
	d := logDecoder{rest: rest}
	if r.who = d.text(); len(r.who) > maxWho {
		return errLogRecord
	}
	selectors := 0
	for _, list := range lists(&r.Selectors) {
		*list = d.list()
		selectors += len(*list)
	}
	known := flags&^(flagSeverity|flagAll|flagSealed) == 0 && r.Severity != store.NotPurged
	if d.bad || len(d.rest) > 0 || !known || selectors == 0 && !r.Selectors.All {
		return errLogRecord
	}
	return nil
}

// logDecoder reads from rest. Where that does not have what it should, it turns bad.
type logDecoder struct {
	rest []byte
	bad  bool
}

func (d *logDecoder) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *logDecoder) text() string {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return ""
	}
	text := string(d.rest[:n])
	d.rest = d.rest[n:]
	return text
}

// list reads a list of texts, none of which is empty. It allocates no more than there can be.
func (d *logDecoder) list() []string {
	n := d.number()
	if n > uint64(len(d.rest))/2 {
		d.bad, d.rest = true, nil
	}
	if d.bad || n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		text := d.text()
		if d.bad = d.bad || text == ""; d.bad {
			return nil
		}
		list = append(list, text)
	}
	return list
}

// split divides a purge among records that are not long.
func (r *logRecord) split() []logRecord {
	empty := logRecord{Purge: Purge{Severity: r.Severity}, token: r.token, who: r.who}
	if r.Selectors.All { // it selects all that the others do
		all := empty
		all.Selectors.All = true
		return []logRecord{all}
	}
	var records []logRecord
	size := longLogRecord
	for i, list := range lists(&r.Selectors) {
		for _, text := range *list {
			if size += len(text) + 2; size > longLogRecord {
				records = append(records, empty)
				size = len(text) + 2
			}
			into := lists(&records[len(records)-1].Selectors)[i]
			*into = append(*into, text)
		}
	}
	return records
}
