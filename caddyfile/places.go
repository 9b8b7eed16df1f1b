package caddyfile

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// KeepPlaces is an option for Caddy's adapter of Caddyfiles. With it each larder handler has in its
// JSON where its words stand, in the member "@places". Caddy does not take such JSON. It is for a
// program that reads it and names file and line.
const KeepPlaces = "larder.places"

// Place is where a word of a Caddyfile stands.
type Place struct {
	File string `json:"file"` // as the adapter was told, or as import names it
	Line int    `json:"line"` // from 1
	Text string `json:"text"` // the word, without quotation marks
}

// Places are the words of a directive with its block, in their order.
type Places []Place

// PlacesOf returns the places of tokens as Caddy's parser has them.
func PlacesOf(tokens []caddyfile.Token) Places {
	places := make(Places, 0, len(tokens))
	for _, token := range tokens {
		places = append(places, Place{token.File, token.Line, token.Text})
	}
	return places
}

// Find returns the place of a value behind some words, each of which stands behind the one before
// it, as in a [Warning]: of "key query ignore" it is that of ignore. Without a value, or where that
// is not found, it is the place of the words. What is not found at all is at the directive.
func (p Places) Find(words, value string) Place {
	var found []int
	rest := strings.Fields(words)
	for i := 0; i < len(p) && len(rest) > 0; i++ {
		if p[i].Text != rest[0] {
			continue
		}
		if len(rest) > 1 {
			rest = rest[1:]
			continue
		}
		found = append(found, i)
	}
	for _, at := range found {
		for i := at + 1; value != "" && i < len(p) && p[i].Line == p[at].Line; i++ {
			if p[i].means(value) {
				return p[i]
			}
		}
	}
	switch {
	case len(found) > 0:
		return p[found[0]]
	case len(p) > 0:
		return p[0]
	}
	return Place{}
}

// Block returns the words of a line with its block: of the first that begins with a word and goes
// on with a value, such as `zone shop { … }`.
func (p Places) Block(word, value string) Places {
	for i := range len(p) - 1 {
		if p[i].Text != word || p[i+1].Text != value {
			continue
		}
		end := i + 2
		if end < len(p) && p[end].Text == "{" && p[end].Line == p[i].Line {
			end = p.closing(end) + 1
		}
		return p[i:end]
	}
	return nil
}

// Outside returns the words of directives with the lines of their blocks, and without the blocks
// that those open.
func (p Places) Outside() (outside Places) {
	depth := 0
	for _, place := range p {
		switch place.Text {
		case "{":
			depth++
		case "}":
			depth--
		default:
			if depth <= 1 {
				outside = append(outside, place)
			}
		}
	}
	return outside
}

// closing finds the brace that closes the block which the word at open opens.
func (p Places) closing(open int) int {
	depth := 0
	for i := open; i < len(p); i++ {
		switch p[i].Text {
		case "{":
			depth++
		case "}":
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(p) - 1
}

// means reports whether a word is a value, which a duration may be in another form.
func (p Place) means(value string) bool {
	d, err := caddy.ParseDuration(p.Text)
	return p.Text == value || err == nil && d.String() == value && d >= time.Millisecond
}

// placed is a handler whose JSON has its places.
type placed struct {
	caddyhttp.MiddlewareHandler
	config HandlerConfig
	places Places
}

// CaddyModule returns the information of the handler's module.
func (p *placed) CaddyModule() caddy.ModuleInfo {
	return p.MiddlewareHandler.(caddy.Module).CaddyModule()
}

// MarshalJSON adds the places to the configuration.
func (p *placed) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		HandlerConfig
		Places Places `json:"@places"`
	}{p.config, p.places})
}

// placesIn returns the places of what a dispenser has, which is at its beginning before and after.
func placesIn(d *caddyfile.Dispenser) (places Places) {
	for d.Next() {
		places = append(places, PlacesOf([]caddyfile.Token{d.Token()})...)
	}
	d.Reset()
	return slices.Clip(places)
}
