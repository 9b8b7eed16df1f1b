package batch

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestID(t *testing.T) {
	r := rule(t, "", "id")
	image, err := New(Config{Path: "/shop é/{id}.json", URL: "/all/{ids}", Join: "%7C"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		rule     *Rule
		path, id string
		fit      Fit
	}{
		{r, "/products/7", "7", Fits},
		{r, "/products/a%20b", "a b", Fits},
		{r, "/products/%C3%A9", "é", Fits},
		{r, "/products/a+b&c=d", "a+b&c=d", Fits},
		{r, "/products/", "", OtherPath},
		{r, "/products", "", OtherPath},
		{r, "/products/7/price", "", OtherPath},
		{r, "/other/7", "", OtherPath},
		{r, "/products/7%", "", OtherPath},
		{r, "/products/7,8", "7,8", Unlistable},
		{r, "/products/7%2C8", "7,8", Unlistable},
		{r, "/products/..", "..", Unlistable},
		{r, "/products/%2e", ".", Unlistable},
		{r, "/products/a%2Fb", "a/b", Unlistable},
		{r, "/products/a%5Cb", `a\b`, Unlistable},
		{r, "/products/a%00", "a\x00", Unlistable},
		{r, "/products/%FF", "\xff", Unlistable},
		{r, "/products/%EF%BF%BD", "\ufffd", Unlistable},
		{r, "/products/" + strings.Repeat("x", MaxID), strings.Repeat("x", MaxID), Fits},
		{r, "/products/" + strings.Repeat("x", MaxID+1), strings.Repeat("x", MaxID+1), TooLong},
		{image, "/shop%20%C3%A9/7.json", "7", Fits},
		{image, "/shop%20%C3%A9/7.xml", "", OtherPath},
		{image, "/shop%20%C3%A9/7%7C8.json", "7|8", Unlistable},
		{image, "/shop%20%C3%A9/a%257Cb.json", "a%7Cb", Unlistable},
	} {
		if id, fit := test.rule.ID(test.path); id != test.id || fit != test.fit {
			t.Errorf("%s: %q, %s; want %q, %s", test.path, id, fit, test.id, test.fit)
		}
	}
}

// TestTarget: whatever the ids, a server reads them as they were.
func TestTarget(t *testing.T) {
	ids := []string{"7", "a b", "é", "a+b", "x&ids=9", "a=b", "50%", "#?", "{ids}", "~_.-"}
	for join, parse := range map[string]func(url.Values) []string{
		",":     func(v url.Values) []string { return strings.Split(v.Get("ids"), ",") },
		"%2C":   func(v url.Values) []string { return strings.Split(v.Get("ids"), ",") },
		"&ids=": func(v url.Values) []string { return v["ids"] },
	} {
		r, err := New(Config{Path: "/p/{id}", URL: "/p?full=1&ids={ids}", Join: join})
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.ParseRequestURI(r.Target(ids))
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(u.Query()); !slices.Equal(got, ids) || u.Query().Get("full") != "1" {
			t.Errorf("join %s: the server reads %q of %s", join, got, u)
		}
	}
	r, err := New(Config{Path: "/p/{id}", URL: "/p/{ids}?full=1"})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.ParseRequestURI(r.Target(ids))
	if err != nil {
		t.Fatal(err)
	}
	if want := "/p/" + strings.Join(ids, ","); u.Path != want {
		t.Errorf("the server reads the path %q, want %q", u.Path, want)
	}
}

// TestTagsExpandNoID: a client that writes a placeholder into its path reads nothing by it.
func TestTagsExpandNoID(t *testing.T) {
	r, err := New(Config{Path: "/p/{id}", URL: "/p/{ids}", Tags: []string{"product-{id}", "{host}-{id}-{id}", "plain"}})
	if err != nil {
		t.Fatal(err)
	}
	expand := strings.NewReplacer("{host}", "shop", "{env.SECRET}", "secret").Replace
	want := []string{"product-{env.SECRET}", "shop-{env.SECRET}-{env.SECRET}", "plain"}
	if got := r.Tags("{env.SECRET}", expand); !slices.Equal(got, want) {
		t.Errorf("tags %q, want %q", got, want)
	}
	if got := r.Tags("a é", expand); got[0] != "product-a%20%C3%A9" {
		t.Errorf("tag %q, want what a tag may be", got[0])
	}
}

// FuzzID: an id that fits is read again from the URL for many, as itself and as one.
func FuzzID(f *testing.F) {
	for _, seed := range []string{"7", "a%20b", "7,8", "7%2C8", "..", "%FF", "a+b", "%7Bids%7D", "a%5Cb", "%26ids%3D9"} {
		f.Add(seed)
	}
	r := rule(f, "", "id")
	f.Fuzz(func(t *testing.T, segment string) {
		id, fit := r.ID("/products/" + segment)
		if fit != Fits {
			return
		}
		u, err := url.ParseRequestURI(r.Target([]string{"1", id, "2"}))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Split(u.Query().Get("ids"), ","); !slices.Equal(got, []string{"1", id, "2"}) || len(u.Query()) != 1 {
			t.Fatalf("%q: the server reads %q", id, got)
		}
	})
}
