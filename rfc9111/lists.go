package rfc9111

import "iter"

// quotedMembers are the members of one line of a list, split at the commas that
// stand in no quoted string. A quotation mark that nothing closes quotes nothing.
//
// Where one is not closed none behind it is: each of those stands escaped in the
// reach of the first, so a search from there would see what that one saw. It is
// not made, or a line of them would cost its square.
func quotedMembers(line string) iter.Seq[string] {
	return func(yield func(string) bool) {
		start, closed := 0, true
		for i := 0; i < len(line); i++ {
			switch {
			case line[i] == ',':
				if !yield(line[start:i]) {
					return
				}
				start = i + 1
			case line[i] == '"' && closed:
				end := closingQuote(line, i)
				if closed = end > 0; closed {
					i = end
				}
			}
		}
		yield(line[start:])
	}
}
