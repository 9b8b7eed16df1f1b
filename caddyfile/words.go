package caddyfile

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// word is one word that a block understands. It has either args, for a word that ends with its
// line, or block, for one that may open a block.
type word struct {
	name  string
	usage string // the line as one would write it, shown when the arguments do not fit

	// args takes the arguments on the line and returns errUsage if their number is wrong. Its
	// errors get file and line from the caller.
	args func(args []string) error

	// block parses the rest of the line and the block. The dispenser stands at the word. Its errors
	// carry file and line already.
	block func() error

	// next are the words of which one stands right behind it, for a word that needs one: the sort
	// of `query sort`.
	next []string

	repeats bool // more than one line of it makes sense
}

// parseBlock parses the block that the current line opens, if it opens one. After every line it
// calls check, so that what check finds is reported at the line that made it wrong; check must
// therefore accept what is only incomplete.
func parseBlock(d *caddyfile.Dispenser, within string, words []word, check func() error) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		w, err := findWord(d.Val(), within, words)
		if err != nil {
			return d.WrapErr(err)
		}
		if seen[w.name] && !w.repeats {
			return d.Errf("%s stands twice in %s; write it once", w.name, within)
		}
		seen[w.name] = true
		if err := w.parse(d); err != nil {
			return err
		}
		if err := check(); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

// parseFullBlock is parseBlock for a word that needs a block with at least one line. needed names
// the words of which one is to be there, for the answer to a block without a line.
func parseFullBlock(d *caddyfile.Dispenser, within string, words []word, check func() error, needed string) error {
	lines := 0
	counted := func() error {
		lines++
		return check()
	}
	if args := d.RemainingArgs(); len(args) > 0 {
		return d.Errf("%s takes no %q; write %s { … }", within, args[0], within)
	}
	if err := parseBlock(d, within, words, counted); err != nil {
		return err
	}
	if lines == 0 {
		return d.Errf("%s needs a block with at least one of: %s", within, needed)
	}
	return nil
}

func findWord(text, within string, words []word) (word, error) {
	i := slices.IndexFunc(words, func(w word) bool { return w.name == text })
	switch {
	case i >= 0:
		return words[i], nil
	case text == "{":
		return word{}, fmt.Errorf("the word before this brace opens no block in %s", within)
	}
	if i := slices.IndexFunc(words, func(w word) bool { return w.needsBehind(text) }); i >= 0 {
		return word{}, fmt.Errorf("%s stands behind %s in %s; write %s", text, words[i].name, within, words[i].usage)
	}
	if places := placesOf(text); len(places) > 0 {
		return word{}, fmt.Errorf("%s does not stand in %s, but in %s", text, within, strings.Join(places, " or "))
	}
	if ours := foreign(text); ours != "" && (within == directiveWords || within == optionWords) {
		return word{}, fmt.Errorf("unknown word %q in %s; here that is %s. It knows: %s", text, within, ours, names(words))
	}
	if ours := foreignInKey[strings.ToLower(text)]; ours != "" && within == "key" {
		return word{}, fmt.Errorf("unknown word %q in key; here that is %s. It knows: %s", text, ours, names(words))
	}
	if question := meant(text, words); question != "" {
		return word{}, fmt.Errorf("unknown word %q in %s;%s It knows: %s", text, within, question, names(words))
	}
	return word{}, fmt.Errorf("unknown word %q in %s; it knows: %s", text, within, names(words))
}

// block is a place where words may stand.
type block struct {
	name  string
	words []word
}

// blocks returns those at the top, and those within them.
func blocks() [2][]block {
	p, app := &handlerParser{}, &appParser{}
	return [...][]block{{
		{"the global option: { larder { … } } at the top of the file", app.words()},
		{"the larder directive of a site", p.words()},
	}, {
		{"key { … }", p.keyWords(&KeyConfig{})},
		{"tags { … }", tagsWords(&TagsConfig{})},
		{"invalidate [<matcher>] { … }", invalidateWords(&InvalidateRule{})},
		{"origin [<name>] { … }", originWords(&OriginConfig{})},
		{"batch <path> { … }", batchWords(&BatchConfig{})},
		{"purge_method { … }", purgeMethodWords(&PurgeMethodConfig{})},
		{"shared <url>... { … } of the global option", sharedWords(nil, &RedisConfig{})},
		{"tls { … } of shared", tlsWords(&TLSConfig{})},
	}}
}

// placesOf returns the blocks that know a word, for one that was written into another block: those
// at the top, or else those within the directive.
func placesOf(text string) (places []string) {
	for _, level := range blocks() {
		for _, b := range level {
			if slices.ContainsFunc(b.words, func(w word) bool { return w.name == text }) {
				places = append(places, b.name)
			}
		}
		if len(places) > 0 {
			return places
		}
	}
	return nil
}

func (w word) parse(d *caddyfile.Dispenser) error {
	if w.block != nil {
		return w.block()
	}
	args := d.RemainingArgs()
	err := w.take(args)
	if err == nil {
		return nil
	}
	if together := unitApart(args); together != "" {
		return d.Errf("%s: a duration and a size are one word; write %s", w.name, together)
	}
	return d.Errf("%s: %w", w.name, err)
}

// needsBehind reports whether a text is one of the words that stand behind this one. off stands in
// many places, and alone it may be meant for the whole block.
func (w word) needsBehind(text string) bool { return text != "off" && slices.Contains(w.next, text) }

// names lists the names of words.
func names(words []word) string {
	return strings.Join(slices.Sorted(slices.Values(namesOf(words))), " ")
}

func namesOf(words []word) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = w.name
	}
	return list
}

// What follows are the kinds of arguments. Each returns a word's args function that writes to the
// field it is given.

func durationInto(field *caddy.Duration) func([]string) error { return oneInto(field, parseDuration) }
func sizeInto(field *Size) func([]string) error               { return oneInto(field, parseSize) }
func countInto(field *int) func([]string) error               { return oneInto(field, parseCount) }
func textInto(field *string) func([]string) error             { return oneInto(field, parseText) }
func onOffInto(field *bool) func([]string) error              { return oneInto(field, parseOnOff) }

// oneInto takes exactly one argument.
func oneInto[T any](field *T, parse func(string) (T, error)) func([]string) error {
	return func(args []string) error {
		if len(args) != 1 {
			return errUsage
		}
		value, err := parse(args[0])
		*field = value
		return err
	}
}

func listInto(field *[]string) func([]string) error {
	return func(args []string) error {
		if len(args) == 0 {
			return errUsage
		}
		*field = args
		return nil
	}
}

// choiceInto is onOffInto for what is on by default.
func choiceInto(field **bool) func([]string) error {
	return func(args []string) error {
		*field = new(bool)
		return onOffInto(*field)(args)
	}
}

func presenceInto(field *bool) func([]string) error {
	return func(args []string) error {
		if len(args) != 0 {
			return errUsage
		}
		*field = true
		return nil
	}
}

func ttlInto(rules *TTLRules) func([]string) error {
	return func(args []string) error {
		if len(args) == 0 {
			return errUsage
		}
		d, statuses, err := parseOfStatuses(args, parseDuration)
		if err != nil {
			return err
		}
		*rules = append(*rules, TTLRule{d, statuses})
		return nil
	}
}

// parseOfStatuses reads a duration and the statuses that it is for. Other caches take the statuses
// first.
func parseOfStatuses[D any](args []string, parse func(string) (D, error)) (d D, statuses []StatusMatch, err error) {
	if d, err = parse(args[0]); err != nil {
		isDuration := func(arg string) bool { _, err := parse(arg); return err == nil }
		if i := slices.IndexFunc(args, isDuration); i > 0 {
			others := slices.Delete(slices.Clone(args), i, i+1)
			err = &orderError{"the duration comes first", append([]string{args[i]}, others...)}
		}
		return d, nil, err
	}
	statuses, err = parseStatuses(args[1:])
	return d, statuses, err
}

// checkCountFirst refuses a number and a duration the wrong way round.
func checkCountFirst(args []string) error {
	if len(args) < 2 {
		return nil
	}
	_, noDuration := caddy.ParseDuration(args[0])
	if n, err := strconv.Atoi(args[1]); err == nil && noDuration == nil && n > 0 && args[0] != "0" {
		return &orderError{"the number comes first", append([]string{args[1], args[0]}, args[2:]...)}
	}
	return nil
}

func parseStatuses(args []string) (statuses []StatusMatch, err error) {
	for _, arg := range args {
		match, err := parseStatus(arg)
		if err != nil {
			return nil, err
		}
		statuses = append(statuses, match)
	}
	return statuses, nil
}

// parseDuration reads a duration that a user wrote, so zero is an error: wherever a duration can
// stand, zero is the same as no line at all.
func parseDuration(text string) (caddy.Duration, error) {
	d, err := caddy.ParseDuration(text)
	plain := withoutCommas(betweenUnits.ReplaceAllString(text, "$1$2"))
	_, noPlain := caddy.ParseDuration(plain)
	switch {
	case err != nil && plain != text && noPlain == nil:
		return 0, fmt.Errorf("%q has a comma; write %s", text, plain)
	case err != nil && isNumber(text):
		return 0, fmt.Errorf("%q has no unit; write %ss if these are seconds, or a duration such as 5m, 12h or 7d", text, text)
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration; write one such as 90s, 5m, 12h or 7d", text)
	case d <= 0:
		return 0, fmt.Errorf("%q is not more than zero; write a longer duration, or leave the line out", text)
	default:
		return caddy.Duration(d), nil
	}
}

// betweenUnits is a comma that parts two units, as in 1h,30m.
var betweenUnits = regexp.MustCompile(`([a-zµ]),\s*([0-9])`)

// isNumber reports whether a text is a number alone, of any size and with a fraction or without.
func isNumber(text string) bool {
	_, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return err == nil && strings.Trim(text, "0123456789. ") == ""
}

// sliceInto reads the size of a slice, or off. Zero is refused as it is elsewhere.
func sliceInto(field **Size) func([]string) error {
	return oneInto(field, func(text string) (*Size, error) {
		if text == "off" {
			return new(Size), nil
		}
		size, err := parseSize(text)
		if _, noSize := readSize(text); err != nil && (noSize == nil || strings.Contains(text, ",")) {
			return nil, err // a size, and written in another way
		}
		if err != nil {
			return nil, errNoChoice(text, fmt.Sprintf("%q is neither off nor a size from 64KiB up", text), "one such as 4MiB", "off")
		}
		return &size, nil
	})
}

func parseCount(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not a whole number from 1 up; write one such as 32", text)
	}
	return n, nil
}

// parseBeta reads how eagerly to renew.
func parseBeta(text string) (float64, error) {
	if text == "off" {
		return 0, nil
	}
	beta, err := strconv.ParseFloat(text, 64)
	if err != nil || !(beta > 0) || beta > maxBeta {
		return 0, errNoChoice(text, fmt.Sprintf("%q is neither off nor a number above 0 and up to %d", text, maxBeta), "1, which suits most sites", "off")
	}
	return beta, nil
}

// parseText takes any text. Whether it is one of the choices is for check to say, which says it of
// JSON too.
func parseText(text string) (string, error) {
	if text == "" {
		return "", errors.New("the text is empty; write a word, or leave the line out")
	}
	return text, nil
}

func parseOnOff(text string) (bool, error) {
	if text != "on" && text != "off" {
		return false, fmt.Errorf("%q is neither on nor off; write one of them", text)
	}
	return text == "on", nil
}
