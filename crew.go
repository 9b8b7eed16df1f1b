package larder

import "time"

// crew is the goroutines that fetches run on. A fetch goes deep: through the inner handlers into a proxy's transport. A new goroutine begins with
// a small stack that has to be copied several times on the way, which cost a tenth of a miss without any proxy; a server's own goroutine, where
// the handlers would run without Larder, has grown once for all requests of its connection. So a goroutine whose fetch is over waits a moment for another.
type crew chan runner

// runner is a *fetch.
type runner interface{ run() }

// crewIdle is how long a goroutine waits for another fetch.
const crewIdle = 100 * time.Millisecond

func newCrew() crew { return make(crew) }

// run runs the fetch on a goroutine of its own, at once: where none is free there is a new one.
func (c crew) run(x runner) {
	select {
	case c <- x:
	default:
		go c.work(x)
	}
}

func (c crew) work(x runner) {
	idle := time.NewTimer(crewIdle)
	defer idle.Stop()
	for ; x != nil; x = c.next(idle) {
		x.run()
	}
}

// next waits for another fetch; nil when none has come. It is a function of its own so that nothing of the last one is kept meanwhile.
func (c crew) next(idle *time.Timer) runner {
	idle.Reset(crewIdle)
	select {
	case x := <-c:
		return x
	case <-idle.C:
		return nil
	}
}
