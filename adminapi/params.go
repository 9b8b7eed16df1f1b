package adminapi

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// Param is a parameter of a query string.
type Param struct {
	// Name is the parameter's, as it is sent.
	Name string
	// Read takes the value. Its error is a sentence, to which the name is added.
	Read func(value string) error
}

// ReadParams reads the query string of a request. Every parameter may be left out, and stands once
// at most; one that is not among params is an error. Its errors are bad requests.
func ReadParams(r *http.Request, params ...Param) error {
	if err := readParams(r.URL.RawQuery, params); err != nil {
		return BadRequest(err)
	}
	return nil
}

func readParams(raw string, params []Param) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return errors.New("the query string is malformed; send it percent-encoded")
	}
	// In order, so that the first error of several is the same at every call.
	for _, name := range slices.Sorted(maps.Keys(values)) {
		i := slices.IndexFunc(params, func(p Param) bool { return p.Name == name })
		if i < 0 {
			return unknownParam(name, params)
		}
		if len(values[name]) > 1 {
			return fmt.Errorf("parameter %q stands twice; send it once", name)
		}
		if err := params[i].Read(values[name][0]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func unknownParam(name string, params []Param) error {
	if len(params) == 0 {
		return fmt.Errorf("unknown parameter %s; send none", Quote(name))
	}
	names := make([]string, 0, len(params))
	for _, p := range params {
		names = append(names, p.Name)
	}
	return fmt.Errorf("unknown parameter %s; send %s", Quote(name), oneOf(names))
}

// TextParam is a parameter whose value is put into field, in the form that normalize gives it.
func TextParam(name string, field *string, normalize func(string) (string, error)) Param {
	return Param{name, func(text string) error {
		if text == "" {
			return errors.New("the value is empty; send a text or leave the parameter out")
		}
		normalized, err := normalize(text)
		*field = normalized
		return err
	}}
}
