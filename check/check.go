package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	cfg "github.com/larder-cache/larder/caddyfile"
)

// Finding is one thing that will surprise.
type Finding struct {
	// File and Line, from 1, are those of a Caddyfile; empty where the configuration is none.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Path is where it is in the JSON, in the form in which the admin API takes it:
	// apps/http/servers/srv0/routes/0.
	Path  string   `json:"path"`
	Hosts []string `json:"-"`    // of the routes around a handler; empty for any
	Text  string   `json:"text"` // a sentence that says what happens and what to write instead
	// Places are the others of what is told once: file:line, or the path where there is no file.
	// Text has them, too.
	Places []string `json:"places,omitempty"`

	topic string // of what is told once, with all its places; empty for a finding of its own
}

// String has the place in front of the sentence.
func (f Finding) String() string { return f.place() + ": " + f.Text }

func (f Finding) place() string {
	if f.File != "" {
		return fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	return f.Path
}

// rank puts findings of a line in order: equal ones are those of a snippet, by each import.
func (f Finding) rank() string {
	if f.File != "" {
		return f.Text
	}
	return f.Path + "\x00" + f.Text
}

// checker looks at one configuration.
type checker struct {
	source   *Source
	machine  Machine
	admin    *caddy.AdminConfig
	app      cfg.AppConfig
	members  map[string]json.RawMessage // of app
	unread   bool                       // app is not what the configuration says
	http     caddyhttp.App
	zones    map[string]bool // that handlers name; nil where one could not be read
	findings []Finding
}

// Findings returns what is found, in the order of the file. Its error says that the configuration
// cannot be read.
func Findings(source *Source, machine Machine) ([]Finding, error) {
	c := &checker{source: source, machine: machine, zones: map[string]bool{}}
	if err := c.read(); err != nil {
		return nil, err
	}
	found := false
	for _, name := range slices.Sorted(maps.Keys(c.http.Servers)) {
		s := newServer(name, c.http.Servers[name])
		for _, at := range s.larders {
			found = true
			c.checkHandler(s, at)
		}
	}
	c.checkStore(found)
	slices.SortStableFunc(c.findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.rank(), b.rank()))
	})
	return gathered(slices.CompactFunc(c.findings, func(a, b Finding) bool { return a.File != "" && a.String() == b.String() })), nil
}

// gathered has what is told once at its first place, with the other places.
func gathered(findings []Finding) (told []Finding) {
	first := make(map[string]int) // by topic
	elsewhere := make(map[string][]string)
	for _, f := range findings {
		if _, known := first[f.topic]; known && f.topic != "" {
			elsewhere[f.topic] = append(elsewhere[f.topic], f.place())
			continue
		}
		first[f.topic] = len(told)
		told = append(told, f)
	}
	for topic, places := range elsewhere {
		f := &told[first[topic]]
		f.Places = places
		f.Text += "; so it is at " + strings.Join(places, ", ")
	}
	return told
}

// read decodes what the rules look at.
func (c *checker) read() error {
	var config caddy.Config
	if err := json.Unmarshal(c.source.JSON, &config); err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	c.admin = config.Admin
	if raw := config.AppsRaw["http"]; raw != nil {
		if err := json.Unmarshal(raw, &c.http); err != nil {
			return fmt.Errorf("reading apps/http: %w", err)
		}
	}
	if raw := config.AppsRaw["larder"]; raw != nil {
		err := caddy.StrictUnmarshalJSON(raw, &c.app)
		if err == nil {
			err = c.app.Check()
		}
		if err == nil {
			err = json.Unmarshal(raw, &c.members)
		}
		if err != nil {
			c.unread = true
			c.reportZone(cfg.DefaultZone, "", "", "%v", err)
		}
	}
	return nil
}

// report adds a finding about a larder handler: about words of it with a value, or about all of it.
func (c *checker) report(at *handler, words, value, format string, args ...any) {
	path := strings.Join(append([]string{at.path}, strings.Fields(words)...), "/")
	place := at.places.Find(words, value)
	c.findings = append(c.findings, Finding{File: place.File, Line: place.Line, Path: path, Hosts: hostsOf(at.entry), Text: fmt.Sprintf(format, args...)})
}

// reportOnce is report about what is the same in many directives. The topic says all that the text
// depends on.
func (c *checker) reportOnce(topic string, at *handler, words, format string, args ...any) {
	c.report(at, words, "", format, args...)
	c.findings[len(c.findings)-1].topic = topic
}

// reportZone is report about a zone in the global option: about a word of it with a value, or about
// the zone where the configuration leaves the word to its default.
func (c *checker) reportZone(zone, word, value, format string, args ...any) {
	path, members, places := "apps/larder", c.members, c.source.Global["larder"]
	if zone == cfg.DefaultZone {
		places = places.Outside()
	} else {
		var zones map[string]map[string]json.RawMessage
		if json.Unmarshal(members["zones"], &zones) != nil {
			zones = nil
		}
		path, members, places = path+"/zones/"+zone, zones[zone], places.Block("zone", zone)
	}
	if _, written := members[word]; written {
		path += "/" + word
	}
	place := places.Find(word, value)
	if place.File == "" { // there is no global option
		place = cfg.Place{File: c.source.File, Line: min(1, len(c.source.File))}
	}
	c.findings = append(c.findings, Finding{File: place.File, Line: place.Line, Path: path, Text: fmt.Sprintf(format, args...)})
}
