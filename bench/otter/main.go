// Command otter drives caches of the otter library with the traces of the bench: W-TinyLFU, which
// is otter v2, and S3-FIFO, which is otter v1. It reads traces as gob from standard input and
// writes a line of JSON for each. It is a module of its own, so that the library does not come into
// the requirements of the plugin.
package main

import (
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	otter1 "github.com/maypok86/otter"
	otter2 "github.com/maypok86/otter/v2"
)

// trace is what the bench sends: budget and costs in bytes, and the objects asked for, by number.
type trace struct {
	Budget   int64
	Costs    []int64
	Requests []int32
}

// answer has a letter for each request: h for a hit, m for a miss.
type answer struct {
	Cache  string `json:"cache"`
	Answer string `json:"answers"`
}

func main() {
	if err := drive(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "otter:", err)
		os.Exit(1)
	}
}

func drive(from io.Reader, to io.Writer) error {
	in, out := gob.NewDecoder(from), json.NewEncoder(to)
	for {
		var t trace
		if err := in.Decode(&t); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		wTinyLFU, err := t.wTinyLFU()
		if err != nil {
			return err
		}
		s3FIFO, err := t.s3FIFO()
		if err != nil {
			return err
		}
		if err := out.Encode([]answer{{"W-TinyLFU", wTinyLFU}, {"S3-FIFO", s3FIFO}}); err != nil {
			return err
		}
	}
}

// replay asks a cache for each object, and puts what it has not.
func (t *trace) replay(get func(object int32) bool, put func(object int32)) string {
	letters := make([]byte, len(t.Requests))
	for i, object := range t.Requests {
		if letters[i] = 'h'; !get(object) {
			letters[i] = 'm'
			put(object)
		}
	}
	return string(letters)
}

func (t *trace) wTinyLFU() (string, error) {
	cache, err := otter2.New(&otter2.Options[int32, struct{}]{
		MaximumWeight: uint64(t.Budget),
		Weigher:       func(object int32, _ struct{}) uint32 { return uint32(t.Costs[object]) },
		Executor:      func(fn func()) { fn() }, // its upkeep at once, so that what it does follows from the trace
	})
	if err != nil {
		return "", err
	}
	return t.replay(
		func(object int32) bool { _, hit := cache.GetIfPresent(object); return hit },
		func(object int32) { cache.Set(object, struct{}{}) },
	), nil
}

func (t *trace) s3FIFO() (string, error) {
	cache, err := otter1.MustBuilder[int32, struct{}](int(t.Budget)).
		Cost(func(object int32, _ struct{}) uint32 { return uint32(t.Costs[object]) }).
		Build()
	if err != nil {
		return "", err
	}
	defer cache.Close()
	return t.replay(cache.Has, func(object int32) {
		cache.Set(object, struct{}{})
		runtime.Gosched() // to the goroutine that evicts
	}), nil
}
