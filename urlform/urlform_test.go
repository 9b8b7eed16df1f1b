package urlform

import (
	"math/rand/v2"
	"net/url"
	"testing"
)

func TestAuthority(t *testing.T) {
	for _, tc := range []struct{ scheme, host, want string }{
		{"http", "example.com", "example.com"},
		{"http", "EXAMPLE.com", "example.com"},
		{"http", "example.com.", "example.com"},
		{"http", "example.com:80", "example.com"},
		{"http", "example.com.:80", "example.com"},
		{"http", "example.com..", "example.com"},
		{"https", "example.com...:8443", "example.com:8443"},
		{"http", "example.com:", "example.com"},
		{"http", "example.com:443", "example.com:443"},
		{"http", "example.com:080", "example.com"},
		{"https", "Example.com:000443", "example.com"},
		{"http", "example.com:08080", "example.com:8080"},
		{"https", "example.com:443", "example.com"},
		{"https", "example.com:80", "example.com:80"},
		{"https", "Example.COM.:8443", "example.com:8443"},
		{"http", "[::1]", "[::1]"},
		{"http", "[::1]:80", "[::1]"},
		{"http", "[FE80::A]:8080", "[fe80::a]:8080"},
		{"http", "[0:0::1]:80", "[::1]"},
		{"http", "[::0:1]:08080", "[::1]:8080"},
		{"http", "[2001:DB8:0:0:1::1]", "[2001:db8::1:0:0:1]"},
		{"http", "[::FFFF:192.0.2.1]", "[::ffff:192.0.2.1]"},
		{"http", "192.0.2.1:80", "192.0.2.1"},
		{"", "example.com:80", "example.com:80"},
		{"", "Example.com.:443", "example.com:443"},
	} {
		t.Run(tc.scheme+" "+tc.host, func(t *testing.T) {
			got, err := Authority(tc.scheme, tc.host)
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
			if again, err := Authority(tc.scheme, got); err != nil || again != got {
				t.Errorf("%q becomes %q the second time (%v)", got, again, err)
			}
		})
	}
}

// What inForm takes for the form is exactly what toForm leaves as it is, addresses in brackets
// aside, which only that one looks at.
func TestInFormIsWhatStaysAsItIs(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	pieces := []string{
		"a", "example", "Z", "0", "1", "9", "80", "443", "8080", "65535", "65536", "99999", "100000", ".", ":", "-", "_", "/", "é", "%", "@", " ", "",
	}
	var inTheForm int
	for range 100_000 {
		var text string
		for range random.IntN(6) {
			text += pieces[random.IntN(len(pieces))]
		}
		scheme := []string{"http", "https", ""}[random.IntN(3)]
		form, err := toForm(scheme, text)
		stays := err == nil && form == text
		if inForm(scheme, text) != stays {
			t.Fatalf("seed %d: %q of %q: inForm is %t; it becomes %q, %v", seed, text, scheme, !stays, form, err)
		}
		if stays {
			inTheForm++
		}
	}
	if inTheForm == 0 {
		t.Error("none was in the form")
	}
}

func TestSentIsToTheLetter(t *testing.T) {
	for _, target := range []string{
		"/", "/a%2Fb", "/a%2fb", "/(\u00fc", "/%2F(\u00fc!'*", "/\xff(", "/{a}|b", "/a\\b", "/a b", "/a#b", "//a", "/../a", "/%41", "/[a]", "*",
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		if got := PathAsSent(u); got != target && (target != "/a b" || got != "/a%20b") {
			t.Errorf("%q was sent, %q is told", target, got)
		}
	}
}

func TestNothingIsAllocatedForWhatIsInForm(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Authority("http", "localhost:8080"); err != nil {
			t.Error(err)
		}
		Query("a=1&b=%C3%BC")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
