package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// room is how many slots a hashMap keeps, as far as it knows.
func (h *hashMap[V]) room() (slots int) {
	for i := range h.parts {
		slots += h.parts[i].most
	}
	return slots
}

// TestHashMapIsAMap compares a hashMap with one of Go's while it grows and shrinks.
func TestHashMapIsAMap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var h hashMap[int]
	want := map[uint64]int{}
	check := func() {
		t.Helper()
		for hash, value := range want {
			if got, known := h.get(hash); !known || got != value {
				t.Fatalf("%x: %d, %t, want %d", hash, got, known, value)
			}
		}
		if room, most := h.room(), 4*len(want)+mapParts*(rareRoom+4); room > most {
			t.Fatalf("%d slots for %d, want %d at most", room, len(want), most)
		}
	}
	for range 4 {
		for i := range 40_000 {
			hash := rng.Uint64()
			want[hash] = i
			h.set(hash, i)
		}
		check()
		leave := rng.IntN(8_000)
		for hash := range want {
			if len(want) == leave {
				break
			}
			delete(want, hash)
			h.delete(hash)
			if _, known := h.get(hash); known {
				t.Fatalf("%x is there still", hash)
			}
		}
		check()
	}
}

// TestTagIndexGivesRoomBack: what the memory tier's index of tags takes follows what there is, and
// not the most that there ever was, of tags that one page has and of those that several have.
func TestTagIndexGivesRoomBack(t *testing.T) {
	const pages, tags, group = 2048, 192, 64
	s := openStore(t, Config{}, Settings{Memory: 512 << 20})
	url := func(i int) string { return fmt.Sprint("http://example.com/", i) }
	for i := range pages {
		var names []string
		for n := range tags {
			names = append(names, fmt.Sprint("group ", i/group, " ", n))
			if n%3 == 0 {
				names = append(names, fmt.Sprint("page ", i, " ", n))
			}
		}
		if r := s.Put(testEntry(s, url(i), nil, names...), 0); r != Stored {
			t.Fatal(r)
		}
	}
	room := func() (slots, lists int) {
		for _, sh := range s.memory.shards {
			sh.mu.Lock()
			for i := range sh.index.tags {
				slots += sh.index.tags[i].most
				lists += cap(sh.index.tags[i].lists) + cap(sh.index.tags[i].free)
			}
			checkTagLists(t, sh.index)
			sh.mu.Unlock()
		}
		return slots, lists
	}
	if slots, lists := room(); slots < pages*tags/3 || lists < shardCount/2*pages/group*tags {
		t.Fatalf("%d slots, %d lists: it is not full", slots, lists)
	}
	for i := range pages {
		if i%group != 0 { // one of each group stays
			s.Remove(s.Peek(keyOf(url(i)), matchAny).releasedEntry())
		}
	}
	slots, lists := room()
	t.Logf("%d slots, %d lists", slots, lists)
	const least = shardCount * mapParts * rareRoom
	if most := 4*(tags+tags/3)*pages/group + least; slots > most {
		t.Errorf("%d slots for tags, want %d at most", slots, most)
	}
	if lists > 2*least {
		t.Errorf("%d places for lists of tags, want %d at most", lists, 2*least)
	}
}

// TestMomentsGiveRoomBack: the heap of what is due takes no more than four times what is in it.
func TestMomentsGiveRoomBack(t *testing.T) {
	var h dueHeap
	for i := range 20_000 {
		h.push(due{int64(i), ref(i + 1)})
	}
	for i := range 20_000 {
		if d := h.pop(); d.at != int64(i) {
			t.Fatalf("%d, want %d", d.at, i)
		}
		if room, most := cap(h), max(4*len(h)+4, expireStep); room > most {
			t.Fatalf("room for %d with %d, want %d at most", room, len(h), most)
		}
	}
}

// releasedEntry is the entry of a result that is released.
func (r Result) releasedEntry() *Entry {
	r.Release()
	return r.Entry
}
