package warm

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress tells how far a run is: by a bar on a terminal, by lines elsewhere.
type progress struct {
	out      io.Writer
	terminal bool
}

// How often it tells.
const (
	barEvery  = 200 * time.Millisecond
	lineEvery = 5 * time.Second
)

// during tells until stop is called, and once more then.
func (p progress) during(t *tally) (stop func()) {
	every, show, end := lineEvery, p.line, func() {}
	if p.terminal {
		every = barEvery
		show, end = p.bar(t.summary(time.Now()).Requests)
	}
	ended := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		ticks := time.NewTicker(every)
		defer ticks.Stop()
		for {
			select {
			case <-ticks.C:
				show(t.summary(time.Now()))
			case <-ended:
				return
			}
		}
	})
	return func() {
		close(ended)
		telling.Wait()
		end()
	}
}

// line is for a log.
func (p progress) line(s *Summary) { fmt.Fprintln(p.out, s.Line()) }

// bar draws over itself, and is gone at the end: the summary says the same.
func (p progress) bar(total int) (show func(*Summary), end func()) {
	bar := progressbar.NewOptions(
		total,
		progressbar.OptionSetWriter(p.out),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("requests"),
		progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(true),
	)
	_ = bar.Set(0) // from where its rate counts
	told := 0
	show = func(s *Summary) {
		if s.Failed != told {
			told = s.Failed
			bar.Describe(number(told) + " failed")
		}
		_ = bar.Set(s.Done) // a terminal that is gone is no reason to stop
	}
	return show, func() { _ = bar.Clear() }
}
