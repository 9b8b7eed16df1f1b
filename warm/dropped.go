package warm

import (
	"slices"
	"sync"
)

// Bounds of what is remembered of purges, for a process.
const (
	maxDroppedTags  = 1024
	maxDroppedOfTag = 10_000  // URLs
	maxDroppedBytes = 8 << 20 // of all URLs and what they take in maps
	droppedOverhead = 128     // bytes of a URL beside its text, about
)

// Dropped remembers which URLs purges by tags have dropped, so that they can be warmed: the first
// 10,000 of a tag in the order in which they are swept, which is memory before disk, and 8 MiB of
// all tags together. A later purge of a tag adds to what is remembered of it; where there is no
// room, URLs of purges before go first. The methods may be called from any goroutine.
type Dropped struct {
	mu       sync.Mutex
	sweeping map[string]int      // sweeps of a tag that are under way
	awaited  map[string]struct{} // tags of these that were asked for meanwhile
	tags     map[string]*droppedTag
	order    []*droppedTag // by their latest purge
	bytes    int
}

// droppedTag is what is remembered of a tag.
type droppedTag struct {
	name           string
	latest, before []string            // URLs that the latest purge has dropped, and those of before
	known          map[string]struct{} // latest
	more           int                 // entries that the latest has dropped and are not among them
}

// NewDropped returns an empty memory.
func NewDropped() *Dropped {
	return &Dropped{sweeping: make(map[string]int), awaited: make(map[string]struct{}), tags: make(map[string]*droppedTag)}
}

// SweepBegan is told that the entries of tags are purged, and begin to be removed. A tag of which
// none is takes no place.
func (d *Dropped) SweepBegan(tags []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range tags {
		d.sweeping[name]++
		t := d.tags[name]
		if t == nil || d.sweeping[name] > 1 {
			continue
		}
		d.order = append(slices.DeleteFunc(d.order, func(o *droppedTag) bool { return o == t }), t)
		d.bytes -= sizeOf(t.latest) + sizeOf(t.before)
		t.before, t.latest, t.known, t.more = t.urls(), nil, nil, 0
		d.bytes += sizeOf(t.before)
	}
}

// Dropped is told the URL of an entry that is removed.
func (d *Dropped) Dropped(tag, url string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.tags[tag]
	if t == nil {
		if t = d.addTag(tag); t == nil {
			return
		}
	}
	if _, known := t.known[url]; known {
		return
	}
	if len(t.latest) >= maxDroppedOfTag || !d.makeRoom(t, size(url)) {
		t.more++
		return
	}
	if t.known == nil {
		t.known = make(map[string]struct{})
	}
	t.known[url] = struct{}{}
	t.latest = append(t.latest, url)
	d.bytes += size(url)
}

// addTag makes a place for a tag that is being swept; nil where there is none.
func (d *Dropped) addTag(name string) *droppedTag {
	if d.sweeping[name] == 0 || len(d.tags) >= maxDroppedTags && !d.forgetOldest(nil) {
		return nil
	}
	t := &droppedTag{name: name}
	d.tags[name], d.order = t, append(d.order, t)
	d.bytes += size(name)
	return t
}

// SweepEnded is told that SweepBegan of these tags has come to its end.
func (d *Dropped) SweepEnded(tags []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range tags {
		if d.sweeping[name]--; d.sweeping[name] <= 0 {
			delete(d.sweeping, name)
			delete(d.awaited, name)
		}
	}
}

// IsAwaited tells whether one of tags was asked for (Of) while it is being swept: who has seen that
// it is asks again until it is not.
func (d *Dropped) IsAwaited(tags []string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(tags, func(name string) bool { _, awaited := d.awaited[name]; return awaited })
}

// makeRoom forgets what is older than the latest purge of t.
func (d *Dropped) makeRoom(t *droppedTag, bytes int) bool {
	for d.bytes+bytes > maxDroppedBytes || len(t.latest)+len(t.before) >= maxDroppedOfTag && len(t.before) > 0 {
		if last := len(t.before) - 1; last >= 0 {
			d.bytes -= size(t.before[last])
			t.before = t.before[:last]
		} else if !d.forgetOldest(t) {
			return false
		}
	}
	return true
}

// forgetOldest forgets the tag whose latest purge is the oldest, unless it is t or being swept.
func (d *Dropped) forgetOldest(t *droppedTag) bool {
	i := slices.IndexFunc(d.order, func(o *droppedTag) bool { return o != t && d.sweeping[o.name] == 0 })
	if i < 0 {
		return false
	}
	o := d.order[i]
	d.order = slices.Delete(d.order, i, i+1)
	delete(d.tags, o.name)
	d.bytes -= size(o.name) + sizeOf(o.latest) + sizeOf(o.before)
	return true
}

// PurgedURLs is what is remembered of a tag.
type PurgedURLs struct {
	Tag  string   `json:"tag"`
	URLs []string `json:"urls"`
	// More is how many responses the latest purge has dropped whose URLs are not remembered.
	More int `json:"more"`
	// Sweeping says that a purge is still being swept: more URLs will come.
	Sweeping bool `json:"sweeping"`
}

// Of returns what is remembered of a tag, those of the latest purge first.
func (d *Dropped) Of(tag string) PurgedURLs {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := PurgedURLs{Tag: tag, URLs: []string{}, Sweeping: d.sweeping[tag] > 0}
	if p.Sweeping {
		d.awaited[tag] = struct{}{}
	}
	t := d.tags[tag]
	if t == nil {
		return p
	}
	p.More = t.more
	p.URLs = append(p.URLs, t.urls()...)
	return p
}

// urls are all that are remembered of the tag, each once, those of the latest purge first.
func (t *droppedTag) urls() []string {
	urls := slices.Clip(t.latest)
	for _, url := range t.before {
		if _, again := t.known[url]; !again {
			urls = append(urls, url)
		}
	}
	return urls
}

func size(text string) int { return len(text) + droppedOverhead }

func sizeOf(texts []string) (n int) {
	for _, text := range texts {
		n += size(text)
	}
	return n
}
