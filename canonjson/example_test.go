package canonjson_test

import (
	"fmt"

	"github.com/larder-cache/larder/canonjson"
)

// Two texts that say the same come to the same bytes. One that readers take for different things
// has no form.
func ExampleCanonical() {
	for _, text := range []string{`{"b": 1, "a": "\u0065"}`, `{"a":"e","b":1}`, `{"a":1,"a":2}`} {
		form, err := canonjson.Canonical([]byte(text))
		fmt.Printf("%s %t\n", form, err == nil)
	}
	// Output:
	// {"a":"e","b":1} true
	// {"a":"e","b":1} true
	//  false
}
