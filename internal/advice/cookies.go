// Package advice has what explain, check, migrate and observe say to do about cookies that keep a
// response from being shared. They have one rule: a cookie is taken out of requests by its name,
// and never all of them are, because what tells a site who is logged in is a cookie, too.
package advice

import "strings"

// Analytics are the names of cookies that programs of analytics give to browsers, as a regular
// expression. Pages do not depend on them.
const Analytics = `_ga[ct]?(_[\w-]+)?|_gid|_gcl_\w+|_fb[cp]|_pk_\w+|mtm_\w+|_hj\w+|__utm\w|_clck|_clsk|_uet[sv]id`

// TakeOut has the lines of a Caddyfile that take cookies out of requests, and no other cookie. The
// regular expression names is for whole names. The second line takes away what stood before the
// next cookie: strict parsers find no cookie behind that.
func TakeOut(names string) string {
	if strings.Contains(names, "|") {
		names = "(" + names + ")"
	}
	return "`request_header Cookie \"(^|;\\s*)" + names + "=[^;]*\" \"\"`, and below it `request_header Cookie \"^[;\\s]+\" \"\"`"
}

// Cookies says what to do where nothing is known of the cookies that visitors have.
func Cookies() string {
	return "take those that change no page out in front of larder, and no other: for those of analytics " + TakeOut(Analytics) +
		"; `cookie <name>` in `key` is for one that pages depend on"
}
