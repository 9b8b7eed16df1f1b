package larder

import "time"

// crew is the goroutines that fetches run on. A fetch goes deep: through the inner handlers into a proxy's transport. A new goroutine begins with
// a small stack that has to be copied several times on the way, which cost a tenth of a miss without any proxy; a server's own goroutine, where
// the handlers would run without Larder, has grown once for all requests of its connection. So a goroutine whose fetch is over waits a moment for another.
type crew chan *fetch

// crewIdle is how long a goroutine waits for another fetch.
const crewIdle = 100 * time.Millisecond

func newCrew() crew { return make(crew) }

// run runs the fetch on a goroutine of its own, at once: where none is free there is a new one.
func (c crew) run(x *fetch) {
	select {
	case c <- x:
	default:
		go c.work(x)
	}
}

func (c crew) work(x *fetch) {
	idle := time.NewTimer(crewIdle)
	defer idle.Stop()
	for {
		x.run()
		x = nil // what it holds is not to outlive it
		idle.Reset(crewIdle)
		select {
		case x = <-c:
		case <-idle.C:
			return
		}
	}
}
