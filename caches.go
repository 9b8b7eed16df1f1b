package larder

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/store"
)

// purging is a purge that is in force in several stores, and being counted and written down there.
type purging struct {
	requests []*store.PurgeRequest
	err      error
}

// beginPurge puts a purge in force in stores, and waits for no disk. A cache may have been closed
// since it was listed. Then the purge goes to the caches that may have taken over its file. own,
// which may be nil, is the cache that must not have been closed. Where zones are named the purge is
// for them alone.
func beginPurge(all []*pooled, own *pooled, selectors store.Selectors, options store.PurgeOptions, zones ...string) (p purging) {
	for left := all; len(left) > 0; {
		closed := false
		for _, each := range left {
			request, err := each.Store().BeginPurge(selectors, options)
			switch {
			case err == nil:
				p.requests = append(p.requests, request)
			case errors.Is(err, store.ErrClosed) && each != own:
				closed = true // it answers no requests any more
			default:
				p.err = cmp.Or(p.err, err)
			}
		}
		if left = nil; closed && !options.DryRun {
			known := func(other *pooled) bool { return slices.Contains(all, other) }
			left = inZones(zones, slices.DeleteFunc(everyCache(), known))
			all = slices.Concat(all, left)
		}
	}
	return p
}

// wait waits until the purge is durable, and returns how many stored responses it has hit.
func (p *purging) wait() (matched int, err error) {
	err = p.err
	for _, request := range p.requests {
		n, waitErr := request.Wait()
		matched, err = matched+n, cmp.Or(err, waitErr)
	}
	return matched, err
}

// processCaches are all caches of the process, for its fleet.
type processCaches struct{}

// Complete implements fleet.Caches. The node that purges has made its URLs of the query rules that
// it knows, of today and before. Other nodes have stored by theirs: while a change of the
// configuration goes from one to the next, and what their files have from before.
func (processCaches) Complete(s store.Selectors) store.Selectors {
	if len(s.URLs) > 0 {
		s.URLs = httpcache.Respelled(s.URLs, rulesNow())
	}
	return s
}

// Apply implements fleet.Caches.
func (processCaches) Apply(p fleet.Purge) (wait func(context.Context) (matched int, err error)) {
	begun := beginPurge(everyCache(), nil, p.Selectors, store.PurgeOptions{Severity: p.Severity, Labels: p.Labels})
	return func(context.Context) (int, error) { return begun.wait() }
}

// Suspect implements fleet.Caches.
func (processCaches) Suspect() {
	processCaches{}.suspect(everyCache())
}

// suspect has all that some caches have stored be validated before its next use.
func (processCaches) suspect(caches []*pooled) {
	beginPurge(caches, nil, store.Selectors{All: true}, store.PurgeOptions{Severity: store.Invalid})
}

// Position implements fleet.Caches.
func (processCaches) Position() (epoch string, applied fleet.Generation) {
	first := true
	for _, p := range listCaches(nil) {
		if !p.Store().HasDisk() {
			continue
		}
		disk := p.Store().Stats().Disk
		if disk.State == "failed" { // its file may come back with what has missed any purge
			return "", 0
		}
		if disk.Entries == 0 { // there is nothing from before
			continue
		}
		e, a := parsePosition(p.Store().Position())
		if !first && (e != epoch || a != applied) {
			return "", 0
		}
		epoch, applied, first = e, a, false
	}
	return epoch, applied
}

// SetPosition implements fleet.Caches.
func (processCaches) SetPosition(epoch string, applied fleet.Generation) {
	position := formatPosition(epoch, applied)
	for _, p := range listCaches(nil) {
		if err := p.Store().SetPosition(position); err != nil { // the epoch is too long, so it never has one
			storeLogger().Error("the position in the fleet's log is not kept: " + err.Error())
		}
	}
}

// formatPosition and parsePosition are the form in which a store keeps a position.
func formatPosition(epoch string, applied fleet.Generation) []byte {
	return []byte(strconv.FormatUint(uint64(applied), 10) + " " + epoch)
}

func parsePosition(position []byte) (epoch string, applied fleet.Generation) {
	number, epoch, found := strings.Cut(string(position), " ")
	n, err := strconv.ParseUint(number, 10, 64)
	if !found || err != nil || epoch == "" {
		return "", 0
	}
	return epoch, fleet.Generation(n)
}

// Interface guard.
var _ fleet.Caches = processCaches{}
