package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	cfg "github.com/larder-cache/larder/caddyfile"
)

// Source is a configuration.
type Source struct {
	JSON json.RawMessage // as adapters make it
	File string          // of the Caddyfile, empty where it is none
	// Global has the global options of the Caddyfile by their names.
	Global map[string]cfg.Places
}

// Read reads a file. Without an adapter it is a Caddyfile where its name says so, as for Caddy's
// own commands, or else JSON. It returns an error if the file cannot be read, is no JSON, or does
// not adapt, or if there is no such adapter in this build. Errors of a Caddyfile say what to write
// where that is known.
func Read(file, adapter string) (*Source, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the user of the command names it
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(filepath.Base(file))
	if adapter == "" && filepath.Ext(name) != ".json" && (strings.HasPrefix(name, "caddyfile") || strings.HasSuffix(name, ".caddyfile")) {
		adapter = "caddyfile"
	}
	if adapter == "" {
		if !json.Valid(text) {
			return nil, errors.New("the file is not JSON; give --adapter for another form, such as --adapter caddyfile")
		}
		return &Source{JSON: text}, nil
	}
	return adapt(file, text, adapter)
}

// adapt has an adapter make JSON of a text.
func adapt(file string, text []byte, adapter string) (*Source, error) {
	a := caddyconfig.GetAdapter(adapter)
	if a == nil {
		return nil, fmt.Errorf("there is no adapter %q in this build; see caddy list-modules", adapter)
	}
	s := &Source{}
	options := map[string]any{"filename": file}
	if adapter == "caddyfile" {
		s.File = file
		options[cfg.KeepPlaces] = true
	}
	var err error
	if s.JSON, _, err = a.Adapt(text, options); err != nil {
		return nil, withHint(err)
	}
	if s.File != "" {
		s.Global, err = globalOptions(file, text)
	}
	return s, err
}

// hints are what to do about an error of Caddy's, which says only what is wrong.
var hints = []struct {
	of *regexp.Regexp
	do string
}{
	{
		regexp.MustCompile(`unrecognized (directive|global option): cache([\s,]|$)|\bcache is not a registered directive`),
		"`caddy larder migrate` rewrites the words of cache-handler (Souin)",
	},
	{regexp.MustCompile(`Unexpected next token after '\{' on same line`), "write the words of a block on lines of their own"},
}

// withHint completes an error of Caddy's.
func withHint(err error) error {
	for _, hint := range hints {
		if hint.of.MatchString(err.Error()) {
			between := ";"
			if strings.HasSuffix(err.Error(), ".") {
				between = ""
			}
			return fmt.Errorf("%w%s %s", err, between, hint.do)
		}
	}
	return err
}

// globalOptions returns the places of the global options of a Caddyfile.
func globalOptions(file string, text []byte) (map[string]cfg.Places, error) {
	blocks, err := caddyfile.Parse(file, text)
	if err != nil || len(blocks) == 0 || len(blocks[0].Keys) > 0 {
		return nil, err
	}
	options := make(map[string]cfg.Places)
	for _, segment := range blocks[0].Segments {
		options[segment.Directive()] = append(options[segment.Directive()], cfg.PlacesOf(segment)...)
	}
	return options, nil
}
