package origin

import (
	"testing"
	"time"
)

// BenchmarkAdmit measures what a request of the origin costs where none waits: taking a place,
// reporting, giving it back.
func BenchmarkAdmit(b *testing.B) {
	for name, limits := range map[string]Limits{
		"unlimited": {},
		"limited":   {MaxConcurrent: 100, Rate: Rate{Count: 1 << 30, Per: time.Second}, Queue: 10, Wait: time.Second},
	} {
		budget := New("", limits, nil)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var p Place
			for b.Loop() {
				if err := budget.Take(b.Context(), &p, ClassWaiting); err != nil {
					b.Fatal(err)
				}
				p.Succeeded()
				p.Done()
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var p Place
				for pb.Next() {
					if err := budget.Take(b.Context(), &p, ClassWaiting); err != nil {
						b.Error(err)
						return
					}
					p.Succeeded()
					p.Done()
				}
			})
		})
	}
}

// BenchmarkStanding measures what a request costs that is answered stale while the origin fails.
func BenchmarkStanding(b *testing.B) {
	budget := New("", Limits{}, nil)
	var p Place
	if err := budget.Take(b.Context(), &p, ClassWaiting); err != nil {
		b.Fatal(err)
	}
	p.Failed(time.Hour)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if budget.Standing(now, 0) != Failing || budget.RefreshDue(now, 0, 0) {
			b.Fatal("not failing")
		}
	}
}

// Admitting allocates nothing.
func TestAdmitAllocatesNothing(t *testing.T) {
	b := New("", Limits{MaxConcurrent: 1, Rate: Rate{Count: 1 << 30, Per: time.Second}}, nil)
	var p Place
	if n := testing.AllocsPerRun(100, func() {
		if err := b.Take(t.Context(), &p, ClassWaiting); err != nil {
			t.Fatal(err)
		}
		p.Succeeded()
		p.Done()
	}); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}
