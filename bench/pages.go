package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
)

// The pages of the soak: what page n is follows from its number, what it says from its number, its
// version and the language asked for. The client of a body can thus tell whether it is the right
// one, whole and undamaged, and whether it is older than a purge.

const (
	soakPages  = 80_000 // about 2 GiB in all
	soakGroups = 500    // by tag
	// The sizes are log-normal between the two ends.
	pageMedian  = 8 << 10
	pageSigma   = 1.5
	pageLeast   = 200
	pageMost    = 2 << 20
	pageKinds   = 20
	soakLongest = "max-age=86400"
)

// page is a number below soakPages.
type page int

func (n page) group() int   { return int(n) % soakGroups }
func (n page) path() string { return fmt.Sprintf("/pages/%d", int(n)) }

// private pages are not storable.
func (n page) private() bool { return n%pageKinds == 0 }

// translated pages differ by Accept-Language.
func (n page) translated() bool { return n%pageKinds == 4 }

// cacheControl is what the origin says of the page: some are not storable, some validated every few
// seconds, some expire in minutes.
func (n page) cacheControl() string {
	switch kind := n % pageKinds; {
	case n.private():
		return "no-store"
	case kind < 4:
		return "max-age=5"
	case kind >= 5 && kind < 9:
		return "max-age=120"
	}
	return soakLongest
}

func (n page) size() int {
	random := rand.New(rand.NewPCG(uint64(n), 1))
	return int(min(max(pageMedian*math.Exp(pageSigma*random.NormFloat64()), pageLeast), pageMost))
}

// version says how often a page was made anew, alone and with its group.
type version struct{ own, group uint32 }

func (v version) before(o version) bool { return v.own < o.own || v.group < o.group }
func (v version) String() string        { return fmt.Sprintf("%d.%d", v.own, v.group) }

// versions are those of all pages: at the origin the present ones, at the client the least that may
// still be seen.
type versions struct {
	pages  [soakPages]atomic.Uint32
	groups [soakGroups]atomic.Uint32
}

func (v *versions) of(n page) version {
	return version{v.pages[n].Load(), v.groups[n.group()].Load()}
}

// renew counts a page, or with the word group a whole group, as made anew.
func (v *versions) renew(what string, number int) {
	if what == "group" {
		v.groups[number].Add(1)
		return
	}
	v.pages[number].Add(1)
}

// render is the body of a page: a line that says what it is, and bytes that follow from that line.
func (n page) render(v version, language string) []byte {
	line := fmt.Sprintf("page %d version %s language %s\n", int(n), v, language)
	body := make([]byte, max(n.size(), len(line)))
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(n))
	binary.LittleEndian.PutUint32(seed[8:], v.own)
	binary.LittleEndian.PutUint32(seed[12:], v.group)
	copy(seed[16:], language)
	_, _ = rand.NewChaCha8(seed).Read(body[copy(body, line):]) // never fails
	return body
}

// judge tells what is wrong with a body that came for the page, if anything is. old reports that it
// is right but from before floor.
func (n page) judge(body []byte, language string, floor version) (old bool, err error) {
	line, _, found := bytes.Cut(body, []byte("\n"))
	var number int
	var v version
	var tongue string
	if _, err := fmt.Sscanf(string(line[:min(len(line), 100)]), "page %d version %d.%d language %s", &number, &v.own, &v.group, &tongue); err != nil || !found {
		return false, fmt.Errorf("%d bytes that are no page: %.40q", len(body), body)
	}
	if number != int(n) || tongue != n.language(language) {
		return false, fmt.Errorf("another's body: %s", line)
	}
	if want := n.render(v, tongue); !bytes.Equal(body, want) {
		return false, fmt.Errorf("damaged: %d bytes, want %d: %s", len(body), len(want), line)
	}
	return v.before(floor), nil
}

// language is the one that a client who asks for the page in wanted gets.
func (n page) language(wanted string) string {
	if n.translated() {
		return wanted
	}
	return "any"
}

// servePage answers GET /pages/<n>, and POST /renew/page/<n> and /renew/group/<n>.
func (o *origin) servePage(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	number, err := strconv.Atoi(parts[len(parts)-1])
	if err != nil || number < 0 || number >= soakPages {
		http.Error(w, "no such page", http.StatusNotFound)
		return
	}
	if parts[1] == "renew" {
		o.versions.renew(parts[2], number)
		return
	}
	n := page(number)
	v, h, language := o.versions.of(n), w.Header(), n.language(r.Header.Get("Accept-Language"))
	h.Set("Cache-Control", n.cacheControl())
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Surrogate-Key", fmt.Sprintf("group-%d site", n.group()))
	h.Set("Etag", fmt.Sprintf("%q", v.String()+language))
	if n.translated() {
		h.Set("Vary", "Accept-Language")
	}
	if r.Header.Get("If-None-Match") == h.Get("Etag") {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := n.render(v, language)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}
