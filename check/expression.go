package check

import (
	"encoding/json"
	"regexp"
	"strings"
)

// cookieTest is what a CEL expression asks of a request's cookies.
type cookieTest int

const (
	testsOther     cookieTest = iota // something else, or it is not known
	wantsCookie                      // nothing but that there is some cookie
	wantsNoCookie                    // nothing but that there is not some cookie
	noCookieBeside                   // that there is not some cookie, and something else
)

// expressionTest reads the matcher expression, as it is in JSON. It knows the forms that a
// Caddyfile has for cookies; of what it does not know it says testsOther.
func expressionTest(raw json.RawMessage) cookieTest {
	var named struct {
		Expr string `json:"expr"`
	}
	if json.Unmarshal(raw, &named.Expr) != nil && json.Unmarshal(raw, &named) != nil {
		return testsOther
	}
	return testOf(named.Expr)
}

func testOf(expr string) cookieTest {
	expr = strings.TrimSpace(expr)
	if parts := splitOutside(expr, "||"); len(parts) > 1 {
		return anyOf(parts)
	}
	if parts := splitOutside(expr, "&&"); len(parts) > 1 {
		return allOf(parts)
	}
	if inner, negated := strings.CutPrefix(expr, "!"); negated {
		return testOf(inner).negated(len(splitOutside(unwrapped(inner), "&&")) > 1)
	}
	if inner := unwrapped(expr); inner != expr {
		return testOf(inner)
	}
	return atomTest(expr)
}

// anyOf is the test of alternatives. Where each is that a cookie is missing, who has only one of
// them gets through.
func anyOf(parts []string) cookieTest {
	for _, part := range parts {
		if testOf(part) != wantsCookie {
			return testsOther
		}
	}
	return wantsCookie
}

func allOf(parts []string) cookieTest {
	with, without, other := 0, 0, 0
	for _, part := range parts {
		switch testOf(part) {
		case wantsCookie:
			with++
		case wantsNoCookie:
			without++
		case noCookieBeside:
			without++
			other++
		case testsOther:
			other++
		}
	}
	switch {
	case without > 0 && with+other > 0:
		return noCookieBeside
	case without > 0:
		return wantsNoCookie
	case other == 0:
		return wantsCookie
	}
	return testsOther
}

// negated is the test behind a !. all says that several tests stood in it, of which one may fail.
func (t cookieTest) negated(all bool) cookieTest {
	switch {
	case all:
		return testsOther
	case t == wantsCookie:
		return wantsNoCookie
	case t == wantsNoCookie:
		return wantsCookie
	}
	return testsOther
}

var (
	cookieCompared = regexp.MustCompile(`(?i)^\{(?:http\.request\.)?(?:cookie\.[^}]+|header\.cookie)\}\s*(==|!=)\s*("[^"]*"|'[^']*'|null)$`)
	cookieMatched  = regexp.MustCompile(`(?i)^\{(?:http\.request\.)?(?:cookie\.[^}]+|header\.cookie)\}\.(?:matches|contains|startsWith|endsWith)\([^()]*\)$`)
	cookieHeader   = regexp.MustCompile(`(?i)^header\(\s*\{\s*['"]Cookie['"]\s*:\s*(?:'[^']*'|"[^"]*"|\[[^\]]*\])\s*\}\s*\)$`)
	cookieRegexp   = regexp.MustCompile(`(?i)^header_regexp\(\s*(?:['"][^'"]*['"]\s*,\s*)?['"]Cookie['"]\s*,`)
)

// atomTest is the test of what is joined by no operator.
func atomTest(expr string) cookieTest {
	if m := cookieCompared.FindStringSubmatch(expr); m != nil {
		empty := m[2] == "null" || len(m[2]) == len(`""`)
		switch {
		case m[1] == "==" && empty:
			return wantsNoCookie
		case m[1] == "==" || empty:
			return wantsCookie
		}
		return testsOther
	}
	if cookieMatched.MatchString(expr) || cookieHeader.MatchString(expr) || cookieRegexp.MatchString(expr) {
		return wantsCookie
	}
	return testsOther
}

// splitOutside splits at an operator outside of texts and brackets.
func splitOutside(expr, operator string) (parts []string) {
	begin := 0
	outside(expr, func(i int) bool {
		if i >= begin && strings.HasPrefix(expr[i:], operator) {
			parts = append(parts, expr[begin:i])
			begin = i + len(operator)
		}
		return true
	})
	return append(parts, expr[begin:])
}

// unwrapped is an expression without the parentheses around all of it.
func unwrapped(expr string) string {
	expr = strings.TrimSpace(expr)
	if !strings.HasPrefix(expr, "(") || !strings.HasSuffix(expr, ")") {
		return expr
	}
	whole := true
	outside(expr, func(i int) bool {
		whole = i == 0 || i == len(expr) // what stands outside is more than the two
		return whole
	})
	if !whole {
		return expr
	}
	return unwrapped(expr[1 : len(expr)-1])
}

// outside calls do for each byte outside of texts and brackets, an opening bracket among them,
// until it returns false.
func outside(expr string, do func(i int) bool) {
	depth := 0
	var quote byte
	for i := 0; i < len(expr); i++ {
		c := expr[i]
		switch {
		case quote != 0:
			switch c {
			case '\\':
				i++
			case quote:
				quote = 0
			}
			continue
		case depth == 0 && !do(i):
			return
		}
		switch c {
		case '"', '\'', '`':
			quote = c
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		}
	}
}
