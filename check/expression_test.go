package check

import (
	"encoding/json"
	"testing"
)

// TestExpressions: a matcher for cookies that was written as an expression was none to the rules
// about members.
func TestExpressions(t *testing.T) {
	for expr, want := range map[string]cookieTest{
		`{http.request.cookie.session} == ""`:                            wantsNoCookie,
		`{cookie.session} == null`:                                       wantsNoCookie,
		`{http.request.cookie.session} != ""`:                            wantsCookie,
		`!({http.request.cookie.session} != "")`:                         wantsNoCookie,
		`{http.request.cookie.theme} == "dark"`:                          wantsCookie,
		`{http.request.cookie.theme} != "dark"`:                          testsOther,
		`{http.request.header.Cookie} == ''`:                             wantsNoCookie,
		`{http.request.cookie.session}.matches('.+')`:                    wantsCookie,
		`header({'Cookie': '*session=*'})`:                               wantsCookie,
		`header({"Cookie": ["*a=*", "*b=*"]})`:                           wantsCookie,
		`!header({'Cookie':'*session=*'})`:                               wantsNoCookie,
		`!header({'Cookie':'*a=*'}) && !header({'Cookie':'*b=*'})`:       wantsNoCookie,
		`!(header({'Cookie':'*a=*'}) || header({'Cookie':'*b=*'}))`:      wantsNoCookie,
		`!(header({'Cookie':'*a=*'}) && header({'Cookie':'*b=*'}))`:      testsOther,
		`(!header({'Cookie':'*a=*'})) || (!header({'Cookie':'*b=*'}))`:   testsOther,
		`header_regexp('Cookie', 'wordpress_logged_in_(.*)')`:            wantsCookie,
		`!header_regexp('', 'Cookie', '(a|b)&&c')`:                       wantsNoCookie,
		`!header({'Cookie':'*a=*'}) && method('GET', 'HEAD')`:            noCookieBeside,
		`(!header({'Cookie':'*a=*'}) && path('/a')) && {cookie.b} == ""`: noCookieBeside,
		`!header({'Cookie':'*a=*'}) || method('POST')`:                   testsOther,
		`!(method('GET') && header({'Cookie':'*a=*'}))`:                  testsOther,
		`header({'Cookie':'*a=*'}) && path('/a')`:                        testsOther,
		`header({'X-Cookie':'*'})`:                                       testsOther,
		`method('GET')`:                                                  testsOther,
		`")" == {http.request.cookie.a} || (`:                            testsOther,
		``:                                                               testsOther,
	} {
		raw, err := json.Marshal(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := expressionTest(raw); got != want {
			t.Errorf("%s: %d, want %d", expr, got, want)
		}
		if raw, err = json.Marshal(map[string]string{"expr": expr, "name": "a"}); err != nil {
			t.Fatal(err)
		}
		if got := expressionTest(raw); got != want {
			t.Errorf("named %s: %d, want %d", expr, got, want)
		}
	}
}
