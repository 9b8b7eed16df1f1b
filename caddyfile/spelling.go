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
	if near := nearest(text, namesOf(words)); len(near) > 0 {
		return fmt.Sprintf(" did you mean %s?", strings.Join(near, " or "))
	}
	var others []string
	for _, level := range blocks() {
		for _, b := range level {
			for _, w := range b.words { // further away less is sure
				if difference := len(w.name) - len(text); -1 <= difference && difference <= 1 {
					others = append(others, w.name)
				}
			}
		}
	}
	if near := nearest(text, others); len(near) > 0 {
		return fmt.Sprintf(" did you mean %s, in %s?", near[0], strings.Join(placesOf(near[0]), " or "))
	}
	return ""
}

// errNoChoice is the error about a text that is none of choices: its fault, a question where one of
// them is near, and what to write.
func errNoChoice(text, fault, write string, choices ...string) error {
	if near := nearest(text, choices); len(near) > 0 {
		return fmt.Errorf("%s; did you mean %s? Write %s", fault, strings.Join(near, " or "), write)
	}
	return fmt.Errorf("%s; write %s", fault, write)
}

// editsTo is how many letters are added, taken away or replaced from one text to another. Two that
// have changed places, and nothing else, are one mistake.
func editsTo(text, name string) int {
	for i := 1; i < len(text) && len(text) == len(name); i++ {
		swapped := text[:i-1] + text[i:i+1] + text[i-1:i] + text[i+1:]
		if swapped == name && text != name {
			return 1
		}
	}
	return levenshtein.ComputeDistance(text, name)
}

// minPrefix is the length of the shortest text that is taken for the beginning of a word.
const minPrefix = 3

// nearest returns the names that take the fewest edits to come to from a text, if these are a third
// of its letters at most, or else those that begin with it.
func nearest(text string, names []string) (near []string) {
	text = strings.ToLower(text)
	fewest := (len(text) + 1) / 3
	for _, name := range names {
		edits := editsTo(text, strings.ToLower(name))
		if edits > fewest || slices.Contains(near, name) {
			continue
		}
		if edits < fewest {
			near, fewest = nil, edits
		}
		near = append(near, name)
	}
	if len(near) > 0 || len(text) < minPrefix {
		return near
	}
	for _, name := range names {
		if strings.HasPrefix(strings.ToLower(name), text) && !slices.Contains(near, name) {
			near = append(near, name)
		}
	}
	return near
}
