package caddyfile

import (
	"fmt"
	"strings"

	"github.com/larder-cache/larder/internal/spelling"
)

// meant returns a question for a misspelt word: whether one of the block was meant, or else one of
// another block. It is empty where no word is near.
func meant(text string, words []word) string {
	if near := spelling.Nearest(text, namesOf(words)); len(near) > 0 {
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
	if near := spelling.Nearest(text, others); len(near) > 0 {
		return fmt.Sprintf(" did you mean %s, in %s?", near[0], strings.Join(placesOf(near[0]), " or "))
	}
	return ""
}

// errNoChoice is the error about a text that is none of choices: its fault, a question where one of
// them is near, and what to write.
func errNoChoice(text, fault, write string, choices ...string) error {
	if near := spelling.Nearest(text, choices); len(near) > 0 {
		return fmt.Errorf("%s; did you mean %s? Write %s", fault, strings.Join(near, " or "), write)
	}
	return fmt.Errorf("%s; write %s", fault, write)
}
