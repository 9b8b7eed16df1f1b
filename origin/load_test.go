package origin

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("", Limits{MaxConcurrent: 2, Queue: 5, Wait: time.Minute, Pauses: true}, nil)
		expect := func(want Load) {
			t.Helper()
			if got := b.Load(time.Now()); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
		expect(Load{Limit: 2})
		first, second := take(t, b, ClassWaiting), take(t, b, ClassWaiting)
		go func() {
			var third Place
			if b.Take(t.Context(), &third, ClassWaiting) == nil {
				third.Done()
			}
		}()
		synctest.Wait()
		expect(Load{Standing: Busy, Taken: 2, Limit: 2, Waiting: 1})
		first.Failed(30 * time.Second)
		expect(Load{Standing: Paused, Taken: 2, Limit: 2, Waiting: 1})
		first.Done()
		second.Done()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		expect(Load{Standing: Failing, Limit: 2})
	})
}
