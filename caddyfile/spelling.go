package caddyfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// meant returns a question for a misspelt word: whether one of the block was meant, or else one of
// another block. It is empty where no word is near.
func meant(text string, words []word) string {
	if near := nearest(text, words); len(near) > 0 {
		return fmt.Sprintf(" did you mean %s?", strings.Join(near, " or "))
	}
	var others []word
	for _, level := range blocks() {
		for _, b := range level {
			for _, w := range b.words { // further away less is sure
				if difference := len(w.name) - len(text); -1 <= difference && difference <= 1 {
					others = append(others, w)
				}
			}
		}
	}
	if near := nearest(text, others); len(near) > 0 {
		return fmt.Sprintf(" did you mean %s, in %s?", near[0], strings.Join(placesOf(near[0]), " or "))
	}
	return ""
}

// minPrefix is the length of the shortest text that is taken for the beginning of a word.
const minPrefix = 3

// nearest returns the names that take the fewest edits to come to from a text, if these are a third
// of its letters at most, or else those that begin with it.
func nearest(text string, words []word) (near []string) {
	text = strings.ToLower(text)
	fewest := (len(text) + 1) / 3
	for _, w := range words {
		edits := levenshtein.ComputeDistance(text, w.name)
		if edits > fewest || slices.Contains(near, w.name) {
			continue
		}
		if edits < fewest {
			near, fewest = nil, edits
		}
		near = append(near, w.name)
	}
	if len(near) > 0 || len(text) < minPrefix {
		return near
	}
	for _, w := range words {
		if strings.HasPrefix(w.name, text) && !slices.Contains(near, w.name) {
			near = append(near, w.name)
		}
	}
	return near
}
