package warm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// sweep has a purge of a tag drop URLs.
func (d *Dropped) sweep(tag string, urls ...string) {
	d.SweepBegan([]string{tag})
	for _, url := range urls {
		d.Dropped(tag, url)
	}
	d.SweepEnded([]string{tag})
}

// bytesHeld is what bytes counts, counted anew.
func (d *Dropped) bytesHeld() (n int) {
	for name, t := range d.tags {
		n += size(name) + sizeOf(t.latest) + sizeOf(t.before)
	}
	return n
}

func TestDropped(t *testing.T) {
	d := NewDropped()
	d.Dropped("a", "http://h/unasked")
	d.SweepBegan([]string{"a", "b"})
	d.Dropped("a", "http://h/1")
	d.Dropped("a", "http://h/1") // on disk, too
	d.Dropped("b", "http://h/1")
	if p := d.Of("a"); !p.Sweeping || !slices.Equal(p.URLs, []string{"http://h/1"}) {
		t.Errorf("%+v", p)
	}
	if !d.IsAwaited([]string{"c", "a"}) || d.IsAwaited([]string{"b"}) {
		t.Error("only a was asked for")
	}
	d.SweepEnded([]string{"a", "b"})
	if d.IsAwaited([]string{"a"}) {
		t.Error("a sweep that has ended is awaited")
	}
	d.sweep("a") // again, of nothing
	for i := range 2 * maxDroppedTags {
		d.sweep(fmt.Sprintf("empty%d", i)) // nothing either, which takes no place
	}
	if p := d.Of("a"); p.Sweeping || !slices.Equal(p.URLs, []string{"http://h/1"}) {
		t.Errorf("after a purge of nothing: %+v", p)
	}
	d.sweep("a", "http://h/2", "http://h/1")
	d.sweep("a", "http://h/3", "http://h/2")
	if p := d.Of("a"); !slices.Equal(p.URLs, []string{"http://h/3", "http://h/2", "http://h/1"}) {
		t.Errorf("after two more: %+v", p)
	}
	for _, url := range []string{"http://h/1", "http://h/2", "http://h/3"} {
		d.sweep("c", url) // the third one forgot the first
	}
	if p := d.Of("c"); !slices.Equal(p.URLs, []string{"http://h/3", "http://h/2", "http://h/1"}) {
		t.Errorf("after three purges: %+v", p)
	}
	if p := d.Of("unknown"); p.URLs == nil || len(p.URLs) > 0 || p.Sweeping {
		t.Errorf("unknown: %+v", p)
	}
	if d.bytes != d.bytesHeld() || len(d.sweeping) > 0 {
		t.Errorf("%d bytes, counted as %d", d.bytesHeld(), d.bytes)
	}
}

// TestDroppedHasBounds: in URLs of a tag, in tags and in bytes; what is older goes first, and what
// has no place is counted.
func TestDroppedHasBounds(t *testing.T) {
	d := NewDropped()
	for i := range maxDroppedTags + 10 {
		d.sweep(fmt.Sprintf("t%d", i), "http://h/")
	}
	if len(d.tags) != maxDroppedTags || len(d.order) != maxDroppedTags || len(d.Of("t9").URLs) != 0 || len(d.Of("t10").URLs) != 1 {
		t.Errorf("%d tags, %d in order", len(d.tags), len(d.order))
	}
	var first, second []string
	for i := range maxDroppedOfTag + 5 {
		first = append(first, fmt.Sprintf("http://h/first/%d", i))
		second = append(second, fmt.Sprintf("http://h/second/%d", i))
	}
	d.sweep("t10", first...)
	if p := d.Of("t10"); len(p.URLs) != maxDroppedOfTag || p.More != 5 {
		t.Errorf("%d URLs, %d more", len(p.URLs), p.More)
	}
	d.sweep("t10", second[:maxDroppedOfTag-10]...)
	if p := d.Of("t10"); len(p.URLs) != maxDroppedOfTag || p.URLs[0] != second[0] || p.URLs[maxDroppedOfTag-1] != first[9] || p.More != 0 {
		t.Errorf("%d URLs, the last is %s, %d more", len(p.URLs), p.URLs[len(p.URLs)-1], p.More)
	}
	long := strings.Repeat("x", 4<<10)
	for i := range 3000 {
		d.sweep("long", fmt.Sprintf("http://h/%d/%s", i, long))
	}
	if d.bytes > maxDroppedBytes || d.bytes != d.bytesHeld() || len(d.Of("t11").URLs) != 0 || len(d.Of("long").URLs) < 2 {
		t.Errorf("%d bytes, counted as %d; %d long URLs", d.bytesHeld(), d.bytes, len(d.Of("long").URLs))
	}
	d.SweepBegan([]string{"long"})
	for i := range 3000 {
		d.Dropped("long", fmt.Sprintf("http://g/%d/%s", i, long))
	}
	if p := d.Of("long"); d.bytes > maxDroppedBytes || d.bytes != d.bytesHeld() || p.More == 0 || len(p.URLs)+p.More != 3000 {
		t.Errorf("%d bytes, counted as %d; %d URLs and %d more", d.bytesHeld(), d.bytes, len(p.URLs), p.More)
	}
}
