package larder

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/origin"
)

// configuration provisions an app with larder handlers of these configurations, as one
// configuration of Caddy has them. It returns what Caddy does when that one goes.
func configuration(t *testing.T, handlers ...string) (provisioned []*Handler, goes func(), err error) {
	t.Helper()
	_, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	app := new(App)
	if err := json.Unmarshal([]byte(`{"disk":{"off":true}}`), app); err != nil {
		t.Fatal(err)
	}
	goes = func() {
		for _, h := range provisioned {
			if err := h.Cleanup(); err != nil {
				t.Error(err)
			}
		}
		cancel()
	}
	for i, config := range handlers {
		h := &Handler{app: app}
		if err := json.Unmarshal([]byte(config), h); err != nil {
			t.Fatal(err)
		}
		provisioned = append(provisioned, h)
		if err := h.Check(); err != nil {
			return provisioned, goes, err
		}
		if _, err := h.budget(&caddyhttp.Server{Listen: []string{":808" + string(rune('0'+i))}}); err != nil {
			return provisioned, goes, err
		}
	}
	return provisioned, goes, nil
}

// Handlers that give an origin the same name share its places, also those that give the name alone.
// A reload shares them too, with the limits of the new configuration. One that fails changes
// nothing.
func TestNamedOriginsAreShared(t *testing.T) {
	const one, two = `{"origin":{"name":"api","max_concurrent":1,"queue":{"length":0}}}`, `{"origin":{"name":"api","max_concurrent":2,"queue":{"length":0}}}`
	first, firstGoes, err := configuration(t, one, `{"origin":{"name":"api"}}`, one, `{"origin":{"name":"other","max_concurrent":1}}`)
	if err != nil {
		t.Fatal(err)
	}
	api := first[0].origin.pooled.budget
	if first[1].origin.pooled.budget != api || first[2].origin.pooled.budget != api || first[3].origin.pooled.budget == api {
		t.Fatal("origins are not shared by name")
	}
	free := func(want int) {
		t.Helper()
		places := make([]origin.Place, 5)
		n := 0
		for i := range places {
			if api.Take(t.Context(), &places[i], origin.ClassWaiting) == nil {
				n++
			}
		}
		for i := range places {
			places[i].Done()
		}
		if n != want {
			t.Errorf("%d places are free, want %d", n, want)
		}
	}
	free(1)
	var held origin.Place
	if err := api.Take(t.Context(), &held, origin.ClassWaiting); err != nil {
		t.Fatal(err)
	}
	_, failedGoes, err := configuration(t, two, `{"origin":{"name":"api","rate":{"count":1}}}`)
	if err == nil || !strings.Contains(err.Error(), "api has other limits in a larder handler of the server at :8081 than in one of the server at :8080") {
		t.Errorf("%v", err)
	}
	free(1) // those of the configuration that is being loaded
	failedGoes()
	free(0)
	second, secondGoes, err := configuration(t, two)
	if err != nil {
		t.Fatal(err)
	}
	firstGoes()
	if second[0].origin.pooled.budget != api {
		t.Error("a reload has another budget")
	}
	free(1) // what is under way since before the reload counts
	held.Done()
	free(2)
	secondGoes()
	third, thirdGoes, err := configuration(t, `{"origin":{"name":"api"}}`)
	if err != nil {
		t.Fatal(err)
	}
	defer thirdGoes()
	if third[0].origin.pooled.budget == api {
		t.Error("a name that no handler uses any more does not begin anew")
	}
}

// A reload that takes the limits away leaves none, as a start with that configuration has none.
func TestReloadTakesLimitsAway(t *testing.T) {
	first, firstGoes, err := configuration(t, `{"origin":{"name":"open","max_concurrent":1,"queue":{"length":0}}}`)
	if err != nil {
		t.Fatal(err)
	}
	_, secondGoes, err := configuration(t, `{"origin":{"name":"open"}}`)
	if err != nil {
		t.Fatal(err)
	}
	defer secondGoes()
	var places [2]origin.Place
	take := func(n int) error {
		return first[0].origin.pooled.budget.Take(t.Context(), &places[n], origin.ClassWaiting)
	}
	if err := take(0); err != nil {
		t.Fatal(err)
	}
	if take(1) == nil {
		t.Error("the limits are gone before their configuration is")
	}
	firstGoes()
	if err := take(1); err != nil {
		t.Errorf("after the reload: %v", err)
	}
	for i := range places {
		places[i].Done()
	}
}

// An origin that fails does so after a reload as well.
func TestReloadKeepsHealth(t *testing.T) {
	const api = `{"origin":{"name":"health","max_concurrent":5}}`
	first, firstGoes, err := configuration(t, api)
	if err != nil {
		t.Fatal(err)
	}
	var p origin.Place
	if err := first[0].origin.pooled.budget.Take(t.Context(), &p, origin.ClassWaiting); err != nil {
		t.Fatal(err)
	}
	p.Failed(time.Hour)
	p.Done()
	second, secondGoes, err := configuration(t, api)
	if err != nil {
		t.Fatal(err)
	}
	defer secondGoes()
	firstGoes()
	if got := second[0].origin.pooled.budget.Standing(time.Now(), 0); got != origin.Paused {
		t.Errorf("%s after a reload", got)
	}
}

// TestStatsOfOrigins tells what the named origins have taken on, and of no other.
func TestStatsOfOrigins(t *testing.T) {
	handlers, goes, err := configuration(t, `{"origin":{"name":"told","max_concurrent":1,"queue":{"length":0}}}`, `{"origin":{"max_concurrent":1}}`)
	if err != nil {
		t.Fatal(err)
	}
	told := handlers[0].origin.pooled.budget
	var place, none origin.Place
	if err := told.Take(t.Context(), &place, origin.ClassWaiting); err != nil {
		t.Fatal(err)
	}
	if told.Take(t.Context(), &none, origin.ClassWaiting) == nil {
		t.Fatal("a second place is free")
	}
	want := originStats{State: "busy", Taken: 1, Limit: 1, Refused: map[string]uint64{"queue-full": 1}}
	all := statsOfOrigins(time.Now())
	if got := all["told"]; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, found := all[""]; found {
		t.Error("it tells of origins without a name")
	}
	place.Done()
	goes()
	if all := statsOfOrigins(time.Now()); len(all) > 0 {
		t.Errorf("without a configuration there is %v", all)
	}
}

// What cannot be meant, in JSON, which no adapter has checked.
func TestOriginsOfJSON(t *testing.T) {
	for config, want := range map[string]string{
		`{"origin":{}}`:                                    "neither a name nor a limit",
		`{"origin":{"max_concurrent":-1}}`:                 "max_concurrent: -1 is negative",
		`{"origin":{"rate":{}}}`:                           "0 is no number of requests",
		`{"origin":{"rate":{"count":1,"per":-1}}}`:         "the time is negative",
		`{"origin":{"rate":{"count":1,"burst":-1}}}`:       "burst: -1 is negative",
		`{"origin":{"queue":{"length":-1}}}`:               "-1 is negative",
		`{"origin":{"queue":{"wait":-1}}}`:                 "the duration is negative",
		`{"origin":{"queue":{"length":0,"wait":1}}}`:       "nobody waits",
		`{"origin":{"backoff":{"min":2,"max":1}}}`:         "shorter than the first",
		`{"origin":{"name":"{env.X}","max_concurrent":1}}`: "is not a name",
		`{"origin":{"name":"a b","max_concurrent":1}}`:     "is not a name",
	} {
		_, goes, err := configuration(t, config)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
		goes()
	}
	handlers, goes, err := configuration(t, `{"origin":{"name":"defaults","max_concurrent":10,"rate":{"count":5,"per":"1m"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	defer goes()
	want := origin.Limits{
		MaxConcurrent: 10, Rate: origin.Rate{Count: 5, Per: time.Minute, Burst: 1}, Queue: 1000, Wait: 10 * time.Second,
		BackoffMin: time.Second, BackoffMax: time.Minute, Pauses: true,
	}
	if got, _ := handlers[0].Origin.Limits(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
