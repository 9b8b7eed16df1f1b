package larder

import (
	"reflect"
	"strings"
	"sync"
	"time"
)

// The vars of a client's request are a map without a lock. Caddy's own handlers come one after the
// other, but two kinds of goroutine may read it at any time:
//
//   - a fetch, by a placeholder that outer handlers have set (`map {vars.x}`). Its provider keeps
//     the client's replacer. So what fetches ask of that and what they leave in the vars take
//     turns.
//   - a connection that a proxy in front of larder still dials (forward_auth), although its request
//     went over another one. It takes no turns. So only what has changed is written, and nothing
//     that a proxy keeps for its transport.

// sharedVars has those who read the vars of a client and those who write them take turns. One who
// reads may begin to read again meanwhile: a placeholder stands for others. So while one reads
// another may begin, as with no sync.RWMutex. Where none does, one who waits to write goes first.
type sharedVars struct {
	mu      sync.Mutex
	reading int
	writing int        // those who wait to write
	changed *sync.Cond // nil until one waits to write
}

func (v *sharedVars) beginReading() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for v.reading == 0 && v.writing > 0 {
		v.changed.Wait()
	}
	v.reading++
}

func (v *sharedVars) endReading() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.reading--; v.reading == 0 && v.writing > 0 {
		v.changed.Broadcast()
	}
}

// beginWriting waits until none reads. Until endWriting none begins to.
func (v *sharedVars) beginWriting() {
	v.mu.Lock()
	if v.reading == 0 {
		return
	}
	if v.changed == nil {
		v.changed = sync.NewCond(&v.mu)
	}
	v.writing++
	for v.reading > 0 {
		v.changed.Wait()
	}
	v.writing--
}

func (v *sharedVars) endWriting() {
	if v.changed != nil {
		v.changed.Broadcast()
	}
	v.mu.Unlock()
}

// giveVar writes a var of a fetch to the client's.
func giveVar(vars map[string]any, name string, value any) {
	if !strings.HasPrefix(name, transportVars) && !sameVar(vars[name], value) {
		vars[name] = value
	}
}

// transportVars is how names of vars begin that reverse_proxy sets for its own transport, each time
// anew.
const transportVars = "reverse_proxy."

// sameVar reports whether two vars are the same, as far as that can be told.
func sameVar(a, b any) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if !x.IsValid() || !y.IsValid() || x.Type() != y.Type() {
		return false
	}
	switch x.Kind() {
	case reflect.Slice:
		return x.Len() == y.Len() && x.UnsafePointer() == y.UnsafePointer()
	case reflect.Map, reflect.Func:
		return x.UnsafePointer() == y.UnsafePointer()
	case reflect.Struct, reflect.Array: // which to compare may panic, and to ask that allocates
		at, isTime := a.(time.Time)
		return isTime && at.Equal(b.(time.Time))
	default:
		return a == b
	}
}
