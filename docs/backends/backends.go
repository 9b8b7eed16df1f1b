// Package backends is the engine of docs/backends.md: a fleet on a server of one's own, over HTTP.
package backends

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	"github.com/caddyserver/caddy/v2"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/fleet"
)

func init() { caddy.RegisterModule(new(Module)) }

// Module is {"shared": {"engine": "http", "url": "http://10.0.0.1:9000", "fence": "10s"}}.
type Module struct {
	cfg.SharedConfig
	URL string `json:"url"`
}

// CaddyModule names it: the engine is what follows larder.shared.
func (*Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "larder.shared.http", New: func() caddy.Module { return new(Module) }}
}

// Fleet returns what the configuration says of the fleet.
func (m *Module) Fleet() cfg.SharedConfig { return m.WithDefaults() }

// Open connects to nothing: an engine connects when it is asked for something.
func (m *Module) Open(*slog.Logger) (fleet.Engine, error) { return NewEngine(m.URL), nil }

// Engine asks a server. A method is a POST to its name, with arguments and results in gob.
type Engine struct {
	url  string
	life context.Context
	end  context.CancelFunc
}

// NewEngine returns an engine for the server at a URL.
func NewEngine(url string) *Engine {
	life, end := context.WithCancel(context.Background())
	return &Engine{url: url, life: life, end: end}
}

// Close ends what is under way.
func (e *Engine) Close() error {
	e.end()
	return nil
}

type (
	in  []any // arguments, after the context
	out []any // pointers to results, before the error
)

func (e *Engine) ask(ctx context.Context, method string, arguments in, results out) error {
	return e.post(ctx, method, arguments, func(d *gob.Decoder) error {
		for _, result := range results {
			if err := d.Decode(result); err != nil {
				return err
			}
		}
		return nil
	})
}

// client has a transport of its own: what closes the idle connections of the default one, as a test
// server does that ends, breaks off calls that are about to use them.
var client = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}

func (e *Engine) post(ctx context.Context, method string, arguments in, read func(*gob.Decoder) error) error {
	if err := e.life.Err(); err != nil { // of which the next line learns a moment later
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	var body bytes.Buffer
	encoder := gob.NewEncoder(&body)
	for _, argument := range arguments {
		if err := encoder.Encode(argument); err != nil {
			return err
		}
	}
	//nolint:gosec // G704: the operator says where the server is
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/"+method, &body)
	if err != nil {
		return err
	}
	response, err := client.Do(request) //nolint:gosec // as above
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return read(gob.NewDecoder(response.Body))
	case http.StatusServiceUnavailable:
		return fleet.ErrReadOnly
	case http.StatusForbidden, http.StatusUnauthorized:
		return fleet.ErrRefused
	}
	return errors.New(response.Status)
}

// Beat implements fleet.Log.
func (e *Engine) Beat(ctx context.Context, has fleet.Place, node fleet.Node) (state fleet.State, err error) {
	err = e.ask(ctx, "Beat", in{has, node}, out{&state})
	return state, err
}

// Append implements fleet.Log.
func (e *Engine) Append(ctx context.Context, has fleet.Place, data []byte, replicas int) (appended fleet.Appended, err error) {
	err = e.ask(ctx, "Append", in{has, data, replicas}, out{&appended})
	return appended, err
}

// Read implements fleet.Log.
func (e *Engine) Read(ctx context.Context, has fleet.Place, after fleet.Generation, limit int, wait time.Duration) (
	records []fleet.Record, state fleet.State, err error,
) {
	err = e.ask(ctx, "Read", in{has, after, limit, wait}, out{&records, &state})
	return records, state, err
}

// Nodes implements fleet.Log.
func (e *Engine) Nodes(ctx context.Context) (nodes []fleet.Node, state fleet.State, err error) {
	err = e.ask(ctx, "Nodes", nil, out{&nodes, &state})
	return nodes, state, err
}

// Evict implements fleet.Log.
func (e *Engine) Evict(ctx context.Context, seen fleet.Node) error {
	return e.ask(ctx, "Evict", in{seen}, nil)
}

// Leave implements fleet.Log.
func (e *Engine) Leave(ctx context.Context, id string) error {
	return e.ask(ctx, "Leave", in{id}, nil)
}

// Find implements fleet.Tier.
func (e *Engine) Find(ctx context.Context, key, variant string) (record []byte, index map[string][]byte, err error) {
	err = e.ask(ctx, "Find", in{key, variant}, out{&record, &index})
	return orNil(record), index, err
}

// Record implements fleet.Tier.
func (e *Engine) Record(ctx context.Context, key, variant string) (record []byte, err error) {
	err = e.ask(ctx, "Record", in{key, variant}, out{&record})
	return orNil(record), err
}

// PutRecord implements fleet.Tier.
func (e *Engine) PutRecord(ctx context.Context, key, variant string, record, row []byte, ttl time.Duration) error {
	return e.ask(ctx, "PutRecord", in{key, variant, record, row, ttl}, nil)
}

// ReplaceRecord implements fleet.Tier.
func (e *Engine) ReplaceRecord(
	ctx context.Context, key, variant string, seen, record, row []byte, ttl time.Duration,
) (ok bool, err error) {
	err = e.ask(ctx, "ReplaceRecord", in{key, variant, seen, record, row, ttl}, out{&ok})
	return ok, err
}

// RemoveRecord implements fleet.Tier.
func (e *Engine) RemoveRecord(ctx context.Context, key, variant string, seen []byte) error {
	return e.ask(ctx, "RemoveRecord", in{key, variant, seen}, nil)
}

// Chunks implements fleet.Tier.
func (e *Engine) Chunks(ctx context.Context, id string, numbers []int) (chunks [][]byte, err error) {
	err = e.ask(ctx, "Chunks", in{id, numbers}, out{&chunks})
	for i := range chunks {
		chunks[i] = orNil(chunks[i])
	}
	return chunks, err
}

// PutChunk implements fleet.Tier.
func (e *Engine) PutChunk(ctx context.Context, id string, number int, chunk []byte, ttl time.Duration) error {
	return e.ask(ctx, "PutChunk", in{id, number, chunk, ttl}, nil)
}

// HasChunks implements fleet.Tier.
func (e *Engine) HasChunks(ctx context.Context, id string, n int) (all bool, err error) {
	err = e.ask(ctx, "HasChunks", in{id, n}, out{&all})
	return all, err
}

// KeepChunks implements fleet.Tier.
func (e *Engine) KeepChunks(ctx context.Context, id string, n int, ttl time.Duration) (all bool, err error) {
	err = e.ask(ctx, "KeepChunks", in{id, n, ttl}, out{&all})
	return all, err
}

// Take implements fleet.Leases.
func (e *Engine) Take(ctx context.Context, key, token, node string, seen []byte, ttl time.Duration) (
	lease fleet.Lease, err error,
) {
	err = e.ask(ctx, "Take", in{key, token, node, seen, ttl}, out{&lease})
	return lease, err
}

// Hold implements fleet.Leases.
func (e *Engine) Hold(ctx context.Context, key, token string, facts []byte, ttl time.Duration) (ok bool, err error) {
	err = e.ask(ctx, "Hold", in{key, token, facts, ttl}, out{&ok})
	return ok, err
}

// Release implements fleet.Leases.
func (e *Engine) Release(ctx context.Context, key, token string, message []byte, keep time.Duration) (ok bool, err error) {
	err = e.ask(ctx, "Release", in{key, token, message, keep}, out{&ok})
	return ok, err
}

// Look implements fleet.Leases.
func (e *Engine) Look(ctx context.Context, key string) (lease fleet.Lease, err error) {
	err = e.ask(ctx, "Look", in{key}, out{&lease})
	return lease, err
}

// Listen has an answer that goes on: keys and messages, after a first line that says that it
// listens.
func (e *Engine) Listen(ctx context.Context, node string, ready func(), wake func(key string, message []byte)) error {
	return e.post(ctx, "Listen", in{node}, func(d *gob.Decoder) error {
		var news wakeUp
		if err := d.Decode(&news); err != nil {
			return err
		}
		for ready(); ; wake(news.Key, news.Message) {
			news = wakeUp{}
			if err := d.Decode(&news); err != nil {
				return err
			}
		}
	})
}

type wakeUp struct {
	Key     string
	Message []byte
}

// orNil: gob has one word for nothing and for what is empty.
func orNil(data []byte) []byte {
	if len(data) == 0 {
		return nil
	}
	return data
}

// Handler is the server: it does what it is asked by what keeps it, which is an engine as well.
func Handler(keeper fleet.Engine) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[1:]
		method := reflect.ValueOf(keeper).MethodByName(name)
		if _, asked := reflect.TypeFor[fleet.Engine]().MethodByName(name); !asked || name == "Close" {
			http.NotFound(w, r)
			return
		}
		decoder := gob.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<20))
		if name == "Listen" {
			listen(w, r, keeper, decoder)
			return
		}
		arguments := []reflect.Value{reflect.ValueOf(r.Context())}
		for i := 1; i < method.Type().NumIn(); i++ {
			argument := reflect.New(method.Type().In(i))
			if err := decoder.DecodeValue(argument); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			arguments = append(arguments, argument.Elem())
		}
		answer(w, method.Call(arguments))
	})
}

func answer(w http.ResponseWriter, results []reflect.Value) {
	last := len(results) - 1
	if err, failed := reflect.TypeAssert[error](results[last]); failed {
		status := http.StatusInternalServerError
		if errors.Is(err, fleet.ErrReadOnly) {
			status = http.StatusServiceUnavailable
		}
		http.Error(w, err.Error(), status)
		return
	}
	encoder := gob.NewEncoder(w)
	for _, result := range results[:last] {
		if err := encoder.EncodeValue(result); err != nil {
			panic(fmt.Errorf("%s: %w", result.Type(), err))
		}
	}
}

func listen(w http.ResponseWriter, r *http.Request, keeper fleet.Engine, decoder *gob.Decoder) {
	var node string
	if err := decoder.Decode(&node); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	encoder := gob.NewEncoder(w)
	send := func(key string, message []byte) {
		// Who does not hear it any more has the request end.
		_ = encoder.Encode(wakeUp{key, message})
		_ = http.NewResponseController(w).Flush()
	}
	_ = keeper.Listen(r.Context(), node, func() { send("", nil) }, send)
}
