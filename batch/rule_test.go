package batch

import (
	"strings"
	"testing"
	"time"
)

// TestNewSaysWhatToWrite: what cannot be meant is an error that has the word and an example.
func TestNewSaysWhatToWrite(t *testing.T) {
	fine := Config{Path: "/products/{id}", URL: "/products?ids={ids}"}
	for _, test := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Path = "products/{id}" }, "begins with a slash, such as /products/{id}"},
		{func(c *Config) { c.Path = "" }, "begins with a slash"},
		{func(c *Config) { c.Path = "/products/*" }, "has not one {id}"},
		{func(c *Config) { c.Path = "/{id}/{id}" }, "has not one {id}"},
		{func(c *Config) { c.Path = "/{host}/{id}" }, "has not one {id}"},
		{func(c *Config) { c.Path = "/products?id={id}" }, "write the path alone"},
		{func(c *Config) { c.URL = "" }, "url is missing; write"},
		{func(c *Config) { c.URL = "https://other/products?ids={ids}" }, "not a path of the same site"},
		{func(c *Config) { c.URL = "//other/products?ids={ids}" }, "not a path of the same site"},
		{func(c *Config) { c.URL = "/products" }, "has not one {ids}"},
		{func(c *Config) { c.URL = "/products/{id}" }, "has not one {ids}"},
		{func(c *Config) { c.URL = "/{ids}/{ids}" }, "has not one {ids}"},
		{func(c *Config) { c.URL = "/a b?ids={ids}" }, "a space is %20"},
		{func(c *Config) { c.URL = "/%zz?ids={ids}" }, "write it as in /products?ids={ids}"},
		{func(c *Config) { c.Join = ", " }, "write one such as `,`"},
		{func(c *Config) { c.Join = "#" }, "write one such as `,`"},
		{func(c *Config) { c.Window = -1 }, "write one of up to 10s"},
		{func(c *Config) { c.Window = 11 * time.Second }, "write one of up to 10s"},
		{func(c *Config) { c.Max = 1 }, "write one from 2 to 10000"},
		{func(c *Config) { c.Max = 10_001 }, "write one from 2 to 10000"},
		{func(c *Config) { c.Items = "data..items" }, "write member names with dots between them"},
		{func(c *Config) { c.ID = ".id" }, "write member names with dots between them"},
	} {
		config := fine
		test.change(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", config, err, test.want)
		}
	}
	if _, err := New(fine); err != nil {
		t.Error(err)
	}
}
