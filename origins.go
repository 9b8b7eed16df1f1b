package larder

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/origin"
)

// origins has the budget of every named origin in use, by its name. It outlives configurations:
// what is under way when a configuration goes counts on in the one that comes, and an origin that
// fails or is paused goes on to be left alone. A name that a configuration drops begins anew when
// it comes back.
var origins = caddy.NewUsagePool()

// pooledOrigin is the budget of a named origin, with the limits that handlers give it.
type pooledOrigin struct {
	budget *origin.Budget

	mu     sync.Mutex
	claims []*originClaim // oldest first
}

// Destruct implements caddy.Destructor. Requests that are under way keep the budget.
func (*pooledOrigin) Destruct() error { return nil }

// originClaim is one handler's claim on a named origin.
type originClaim struct {
	name   string
	pooled *pooledOrigin
	limits origin.Limits
	own    bool // the handler gives the limits; else those of another one hold, if there is one
}

// namedOrigin is an origin as a handler of a configuration limits it.
type namedOrigin struct {
	limits origin.Limits
	server string // of the handler, by where it listens
}

func listensAt(server *caddyhttp.Server) string {
	if server == nil {
		return "no server"
	}
	return "the server at " + strings.Join(server.Listen, ", ")
}

// budget returns the budget of the handler's origin. Without a name it is the handler's own. server
// is the one that the handler belongs to, nil outside of any.
func (h *Handler) budget(server *caddyhttp.Server) (*origin.Budget, error) {
	if h.Origin == nil {
		return origin.New("", origin.Limits{}, collectors.ofOrigin("")), nil
	}
	limits, ok := h.Origin.Limits()
	if h.Origin.Name == "" {
		return origin.New("", limits, collectors.ofOrigin("")), nil
	}
	if ok {
		if err := h.app.limitOrigin(h.Origin, limits, listensAt(server)); err != nil {
			return nil, err
		}
	}
	claim, err := claimOrigin(h.Origin.Name, limits, ok)
	if err != nil {
		return nil, err
	}
	h.origin = claim
	return claim.pooled.budget, nil
}

// limitOrigin notes the limits that a handler gives a named origin. Other limits than those of
// another handler are an error. A Caddyfile has passed the same check, which names file and line.
func (a *App) limitOrigin(c *cfg.OriginConfig, limits origin.Limits, server string) error {
	before, again := a.origins[c.Name]
	if again && before.limits != limits {
		return fmt.Errorf("origin: %s has other limits in a larder handler of %s than in one of %s; write the same in both, or the name alone in one of them",
			c.Name, server, before.server)
	}
	if a.origins == nil {
		a.origins = make(map[string]namedOrigin)
	}
	a.origins[c.Name] = namedOrigin{limits, server}
	return nil
}

// claimOrigin claims a named origin and puts the limits in force, if they are the handler's own.
func claimOrigin(name string, limits origin.Limits, own bool) (*originClaim, error) {
	v, _, err := origins.LoadOrNew(name, func() (caddy.Destructor, error) {
		return &pooledOrigin{budget: origin.New(name, limits, collectors.ofOrigin(name))}, nil
	})
	if err != nil {
		return nil, err
	}
	c := &originClaim{name: name, pooled: v.(*pooledOrigin), limits: limits, own: own}
	c.pooled.add(c)
	return c, nil
}

// release ends the claim. It may be nil.
func (c *originClaim) release() error {
	if c == nil {
		return nil
	}
	c.pooled.remove(c)
	_, err := origins.Delete(c.name)
	return err
}

func (p *pooledOrigin) add(c *originClaim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = append(p.claims, c)
	p.apply()
}

// remove takes a claim away, and its limits. So the limits of a configuration that fails to load do
// not outlive it.
func (p *pooledOrigin) remove(c *originClaim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = slices.DeleteFunc(p.claims, func(o *originClaim) bool { return o == c })
	p.apply()
}

// apply puts the limits of the newest configuration in force. Where all handlers give the name
// alone, as after a reload that takes the limits away, the origin has none.
func (p *pooledOrigin) apply() {
	if len(p.claims) == 0 {
		return
	}
	newest := p.claims[len(p.claims)-1]
	for _, c := range slices.Backward(p.claims) {
		if c.own {
			newest = c
			break
		}
	}
	p.budget.Apply(newest.limits)
}

// originMetrics are the counts of one origin, those of all without a name together.
type originMetrics struct {
	waiting prometheus.Gauge
	refused [origin.WhyCount]prometheus.Counter
}

// originStats is what GET /larder/stats tells of a named origin.
type originStats struct {
	State   string            `json:"state"`             // busy, paused or failing; empty where it takes requests
	Taken   int               `json:"taken"`             // requests under way
	Limit   int               `json:"max_concurrent"`    // 0: any number
	Waiting int               `json:"waiting"`           // requests in the queue
	Refused map[string]uint64 `json:"refused,omitempty"` // by why, those that have occurred
}

// statsOfOrigins returns what the named origins have taken on at now, by name.
func statsOfOrigins(now time.Time) map[string]originStats {
	all := map[string]originStats{}
	origins.Range(func(key, value any) bool {
		name := key.(string)
		load := value.(*pooledOrigin).budget.Load(now)
		all[name] = originStats{
			State: load.Standing.String(), Taken: load.Taken, Limit: load.Limit, Waiting: load.Waiting,
			Refused: collectors.ofOrigin(name).refusals(),
		}
		return true
	})
	return all
}

// refusals returns the counts that are not 0.
func (o *originMetrics) refusals() map[string]uint64 {
	counts := map[string]uint64{}
	for why := origin.Admitted + 1; why < origin.WhyCount; why++ {
		if n := read(o.refused[why]); n > 0 {
			counts[why.String()] = n
		}
	}
	return counts
}

// ofOrigin returns the counts of the origin with this name.
func (m *metrics) ofOrigin(name string) *originMetrics {
	o := &originMetrics{waiting: m.originWaiting.WithLabelValues(name)}
	for why := origin.Admitted + 1; why < origin.WhyCount; why++ {
		o.refused[why] = m.originRefused.WithLabelValues(name, why.String())
	}
	return o
}

// Waiting implements origin.Metrics.
func (o *originMetrics) Waiting(by int) { o.waiting.Add(float64(by)) }

// Refused implements origin.Metrics.
func (o *originMetrics) Refused(why origin.Why) { o.refused[why].Inc() }

// Interface guards.
var (
	_ caddy.Destructor = (*pooledOrigin)(nil)
	_ origin.Metrics   = (*originMetrics)(nil)
)
