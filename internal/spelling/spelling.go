// Package spelling finds the name that was meant by a misspelt one.
package spelling

import (
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

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

// Nearest returns the names that take the fewest edits to come to from a text, if these are a third
// of its letters at most, or else those that begin with it.
func Nearest(text string, names []string) (near []string) {
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
