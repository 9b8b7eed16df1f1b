package warm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// pacer says when the next request may go: at a rate, one at a time, and not before a pause is
// over.
type pacer struct {
	limiter *rate.Limiter // nil: as fast as the workers are

	mu    sync.Mutex
	until time.Time
}

func newPacer(perSecond float64) *pacer {
	if perSecond == 0 {
		return new(pacer)
	}
	return &pacer{limiter: rate.NewLimiter(rate.Limit(perSecond), 1)}
}

// wait returns when a request may go, or with the error of ctx. The rate is asked after a pause: a
// place taken before it would be kept by all who wait, and they would go at once at its end.
func (p *pacer) wait(ctx context.Context) error {
	for { // a pause may begin, or be made longer, meanwhile
		if err := p.waitForPause(ctx); err != nil {
			return err
		}
		if p.limiter == nil {
			return nil
		}
		if err := p.limiter.Wait(ctx); err != nil {
			return err
		}
		if time.Until(p.pausedUntil()) <= 0 {
			return nil
		}
	}
}

func (p *pacer) waitForPause(ctx context.Context) error {
	for {
		rest := time.Until(p.pausedUntil())
		if rest <= 0 {
			return ctx.Err()
		}
		select {
		case <-time.After(rest):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pause lets no request go for a time. A longer pause stays.
func (p *pacer) pause(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); until.After(p.until) {
		p.until = until
	}
}

func (p *pacer) pausedUntil() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until
}

// parseRate reads the value of --rate: 5/s, 30/m, 100/h. Empty is no limit, which is 0.
func parseRate(text string) (perSecond float64, err error) {
	if text == "" {
		return 0, nil
	}
	count, per, _ := strings.Cut(text, "/")
	seconds := map[string]float64{"s": 1, "m": 60, "h": 3600}[per]
	n, err := strconv.ParseFloat(count, 64)
	if err != nil || seconds == 0 || !(n > 0) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("--rate %s is no rate; give one such as 5/s, 30/m or 100/h", shorten(text))
	}
	return n / seconds, nil
}

var errConcurrency = errors.New("--concurrency is how many requests are made at once; give a number from 1 to 1000")
