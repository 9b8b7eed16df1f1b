package caddyfile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A line that its word cannot take is answered with the line to write instead, where that can be
// told: with the arguments in another order, or without a space in a size or a duration.

// errUsage says that a word has too few or too many arguments.
var errUsage = errors.New("wrong number of arguments")

// orderError is the error about arguments that are right in another order.
type orderError struct {
	rule string   // what the order is
	args []string // in that order
}

func (e *orderError) Error() string { return e.rule }

// take hands the arguments on the line of the word to it.
func (w word) take(args []string) error {
	err := w.takeAsWritten(args)
	if err == nil {
		return nil
	}
	if joined := joinUnits(args); !slices.Equal(joined, args) {
		again := w.takeAsWritten(joined)
		if _, ordered := errors.AsType[*orderError](again); ordered {
			err = again
		} else if again == nil {
			return fmt.Errorf("there is a space in front of a unit; write %s", w.line(joined))
		}
	}
	if order, ok := errors.AsType[*orderError](err); ok {
		return fmt.Errorf("%w; write %s", err, w.line(order.args))
	}
	if errors.Is(err, errUsage) {
		return fmt.Errorf("%w; write %s", err, w.usage)
	}
	return err
}

func (w word) takeAsWritten(args []string) error {
	if len(w.next) > 0 && len(args) > 0 && !slices.Contains(w.next, args[0]) {
		return errNoChoice(args[0], fmt.Sprintf("unknown word %q", args[0]), w.usage, w.next...)
	}
	return w.args(args)
}

// line is the line of the word with these arguments, as it is written.
func (w word) line(args []string) string {
	words := make([]string, 1, 1+len(args))
	words[0] = w.name
	for _, arg := range args {
		if arg == "" || strings.ContainsAny(arg, " \t\"") {
			arg = strconv.Quote(arg)
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

// joinUnits writes each number and the unit of a size or duration behind it as one argument: 64 MiB
// as 64MiB.
func joinUnits(args []string) (joined []string) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if number, unit, ok := strings.Cut(arg, " "); ok && isQuantity(number, unit) {
			arg = number + unit
		} else if i+1 < len(args) && isQuantity(arg, args[i+1]) {
			i++
			arg += args[i]
		}
		joined = append(joined, arg)
	}
	return joined
}

// isQuantity reports whether a number and a unit make a size or a duration.
func isQuantity(number, unit string) bool {
	if unit == "" || strings.Trim(number, "0123456789.") != "" || strings.Trim(unit, "0123456789. ") != unit {
		return false
	}
	_, noSize := parseSize(number + unit)
	_, noDuration := parseDuration(number + unit)
	return noSize == nil || noDuration == nil
}
