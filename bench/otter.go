package main

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/larder-cache/larder/bench/traces"
)

// otters are the caches of the otter library, in a program that is a module of its own, so that the
// library is no dependency of the plugin.
type otters struct {
	command *exec.Cmd
	in      io.WriteCloser
	traces  *gob.Encoder
	answers *json.Decoder
	folder  string // of the program
}

// What the program's caches are called there and in the table.
var otterCaches = []string{"W-TinyLFU", "S3-FIFO"}

// startOtters builds and starts the program.
func startOtters(ctx context.Context) (*otters, error) {
	module, err := moduleFolder(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "larder-bench-otter-*")
	if err != nil {
		return nil, err
	}
	o := &otters{folder: folder}
	program := filepath.Join(folder, "otter")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	build.Dir, build.Stderr = filepath.Join(module, "bench", "otter"), os.Stderr
	if err := build.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("building the caches of otter: %w", err), os.RemoveAll(folder))
	}
	o.command = exec.CommandContext(ctx, program)
	o.command.Stderr = os.Stderr
	out, err := o.command.StdoutPipe()
	if err == nil {
		o.in, err = o.command.StdinPipe()
	}
	if err == nil {
		err = o.command.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	o.traces, o.answers = gob.NewEncoder(o.in), json.NewDecoder(out)
	return o, nil
}

// stop ends the program, which ends when its input does.
func (o *otters) stop() error {
	return errors.Join(o.in.Close(), o.command.Wait(), os.RemoveAll(o.folder))
}

// ratios has the program's caches go through a trace, within the same budget and at the same costs
// as all others.
func (o *otters) ratios(t *traces.Trace, memory, overhead int64) ([]hitRow, error) {
	costs := make([]int64, len(t.Sizes))
	for i, size := range t.Sizes {
		costs[i] = size + overhead
	}
	objects := make([]int32, len(t.Requests))
	for i, q := range t.Requests {
		objects[i] = q.Object
	}
	err := o.traces.Encode(struct {
		Budget   int64
		Costs    []int64
		Requests []int32
	}{memory, costs, objects})
	if err != nil {
		return nil, err
	}
	var answers []struct{ Cache, Answers string }
	if err := o.answers.Decode(&answers); err != nil {
		return nil, fmt.Errorf("the answers of otter: %w", err)
	}
	var rows []hitRow
	for _, a := range answers {
		if len(a.Answers) != len(objects) || !slices.Contains(otterCaches, a.Cache) {
			return nil, fmt.Errorf("%d answers of %q for %d requests", len(a.Answers), a.Cache, len(objects))
		}
		ratio := traces.Count(t, func(request int) bool { return a.Answers[request] == 'h' })
		rows = append(rows, hitRow{t.Name, a.Cache, ratio.Objects, ratio.Bytes})
	}
	return rows, nil
}
