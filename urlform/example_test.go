package urlform_test

import (
	"fmt"

	"github.com/larder-cache/larder/urlform"
)

// The form in which a purge names what is stored, whatever way its URL is written.
func ExampleParse() {
	for _, text := range []string{"HTTPS://Example.COM:443/caf\u00e9", "https://example.com/a%2Fb/../c", "/relative"} {
		form, err := urlform.Parse(text)
		if err != nil {
			form = err.Error()
		}
		fmt.Println(form)
	}
	// Output:
	// https://example.com/caf%C3%A9
	// https://example.com/a%2Fb/../c
	// is not an absolute URL; send one such as https://example.com/path?query
}
