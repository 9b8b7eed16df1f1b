package fleet_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/frames"
	"github.com/larder-cache/larder/internal/frames/framestest"
)

// init makes the encoder before there is a bubble, which would keep its channels to itself. The
// decoder is made with it.
func init() {
	packed, _ := frames.Append(nil, make([]byte, 4096))
	f, err := frames.Open(packed, 4096)
	if err == nil {
		err = f.ReadAll(make([]byte, 4096))
	}
	if err != nil {
		panic(err)
	}
}

// Nodes with and without compression have each other's responses, as they were. What can be
// compressed takes less room on the server, and comes home to be renewed and purged as any other.
func TestNodesThatCompressAndThatDoNot(t *testing.T) {
	for _, length := range []int{100, 2000, 64 << 10, 64<<10 + 1, 1 << 20, 4 << 20} {
		for name, body := range map[string][]byte{"page": framestest.HTML(length, 1), "noise": framestest.Noise(length, 1)} {
			for _, compress := range []bool{true, false} {
				inBubble(t, func(t *testing.T) {
					s := newSite(t, 2, func(w http.ResponseWriter, _ *http.Request) {
						w.Header().Set("Cache-Control", "max-age=60")
						w.Header().Set("Content-Type", "text/html")
						_, _ = w.Write(body)
					}, nil)
					s.nodes[0].compress, s.nodes[1].compress = compress, !compress
					s.nodes[0].get("/")
					s.nodes[0].awaitIdle()
					time.Sleep(2 * time.Second)
					if got := s.nodes[1].get("/"); got.body != string(body) || got.cache != "hit" || s.calls.Load() != 1 {
						t.Errorf("%s of %d, %v: %v, %d calls", name, length, compress, got, s.calls.Load())
					}
					smaller := compress && name == "page" && length > 1<<10
					if uploaded := s.uploaded.Load(); smaller != (uploaded < int64(length)/2) && length > 2000 {
						t.Errorf("%s of %d, %v: %d bytes were uploaded", name, length, compress, uploaded)
					}
					if st := s.nodes[0].tier.Stats(); smaller != (st.Compressed > 0) || st.CompressedStored > st.Compressed {
						t.Errorf("%s of %d, %v: %+v", name, length, compress, st)
					}
				})
			}
		}
	}
}
