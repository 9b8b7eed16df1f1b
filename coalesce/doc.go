// Package coalesce lets many requests share one fetch. A flight has one fetch that fills it, and
// any number of members that wait for its header and then read its growing body, each from the
// start and at its own pace. The package knows keys, bytes and time. Its caller decides what is
// fetched, and whether it may be shared.
//
// # Where to read
//
//	group.go     joining: one flight for each key; registry.go has all flights and ends their lives
//	flight.go    a flight's state, and when its fetch goes on
//	member.go    a request's place on a flight: waiting, leaving, trying again
//	decide.go    what the fetch decides at the header; the loan of the leader's writer
//	write.go     the fetch's side of the body: room, windows; body.go has the chunks, and memory.go
//	             their memory
//	reader.go    the readers' side
//	pace.go      how fast a reader is that others wait for, and a fetch that newcomers join
//	spill.go     bodies that are not whole in memory
//	parts.go     what lies between the readers of a window, on disk
//	kept.go      readers of what keeps others from being stored
//	accounts.go  what of the Budget a flight has, and why
//	end.go       the end, the retry of a failed attempt, handing the body over
//	info.go      what can be asked of a flight; errors.go
//
// # The states of a flight
//
//	Join, Solo, Retry
//	      │
//	      ▼
//	  fetching ──Share──► streaming ──past max, no room, too old──► windowed
//	      │ │
//	      │ ├──Release──► released      followers: Released, each fetches for itself
//	      │ └──Reject───► rejected      followers: Failed, they gather by Retry
//	      ▼                             leader, of both: stays parked for TakeOver
//	  every state ends by Finish (clean) or Fail (broken);
//	  a flight that finished while streaming is over by Settle
//
//	  fetching   joinable        members are parked in Wait
//	  streaming  joinable        all of the body is kept, in memory or, but for its end, in a Spill;
//	                             the fetch waits for no reader
//	  windowed   not joinable    what all readers have passed is freed. Where a Spill has what lies
//	                             between them, the fetch waits for none. Else the slowest one
//	                             paces it, and is dropped if it is too slow while another waits
//	  released   not joinable    the body goes to the leader's writer, past this package
//	  rejected   not joinable    the same; another attempt follows if followers waited
//
// A flight that is cancelled, or that Join has replaced by a newer one, is joinable in no state.
//
// # Who does what
//
// The member that Join tells to start is the leader. It runs the fetch on a goroutine of its own
// and then waits like the others, so that its client neither slows nor ends the fetch. The fetch
// calls, from that one goroutine and in this order:
//
//	SetQueued                           while it waits for its turn to ask
//	Inform                              before the header, for what only the leader gets
//	Keep, Expect, SpillTo               as soon as it knows
//	Group.Move                          where the header tells of a narrower key
//	Share | Release | Reject            once, at the header
//	Write …         | TakeOver          the body
//	Finish | Fail                       once; further calls are without effect
//	HandOver, MoveTo | TakeBack | TakeBackCopy, Settle after Finish, when the body is to be stored
//
// OnUnstorable tells a store when it cannot have the body any more, though its fetch goes on.
//
// `defer f.Settle()` at the start of the fetch is a safe habit: it fails a flight that nothing has
// ended, and gives back what one that is over still holds.
//
// A member calls Wait, then Reader if the result is Shared or Retry if it is Failed, and always
// Leave.
//
// # When a fetch goes on
//
// Before its header a fetch goes on for a while without members: the answer may be worth storing.
// One that is queued does not, since nothing has been spent on it.
// After Share it goes on while the flight has members or Keep(true) stands. After Release and
// Reject the leader's client ends it, or TakeOver tells that this client has gone.
//
// The body of a windowed flight will not be stored, so Keep no longer counts for it. Limits.Life
// caps the time to the header and, after that, the time in which newcomers may join: an old flight
// that streams becomes windowed, and those that read it go on. One that spills costs no memory and
// stays whole, but Keep no longer counts for it.
//
// An Attendant is told while a fetch goes on without members. It may call GiveUp, because others
// need what the fetch takes.
//
// A flight without members is given up after Limits.Unattended: before its header, whatever Keep
// says, as soon as it has had none for so long; after it, once nothing of its body has come for so
// long as well. A body that dribbles is one that comes, and Limits.Life bounds it. A flight that
// Join has replaced is given up when it has had no members for Limits.Unattended, whether its body
// comes or not. Before the header their number is bounded as well: past Limits.Orphans the oldest
// is given up, but for those of the Background.
//
// # Failure
//
// A failed first attempt is followed by one more, its retry: a flight that takes the failed one's
// place in the group at the very moment of the failure, with all followers as members that have had
// no byte. The first of them to call Retry starts it, or a newcomer that is quicker. If the first
// call of Retry created it, a newcomer between failure and Retry would begin one more fetch, and
// followers could be carried from first attempt to first attempt without end.
//
// A third and last attempt follows a second that fails, for those of its followers who call Retry
// then: a user of the package that knows why the two may have failed leaves out whom that concerns.
// Newcomers cannot join it, and begin with a first attempt beside it. So those who wait together
// for what fails make three fetches at most, one after the other, however many they are.
//
// A flight that had left the group before it failed (cancelled, windowed, replaced) has a retry
// that only its own followers know. It may then be under way beside a newer flight of its key. If
// it joined that one, its last attempt would depend on another's first.
//
// # Memory
//
// Body bytes are copied into chunks, whose capacity is reserved in the Budget before it is
// allocated. Published bytes are never written again, so readers get slices of the chunks
// themselves. The reservation is given back exactly once: by HandOver to make room for a copy in
// another account, piece by piece in a window or into the Spill, and else when the flight is over
// and its last member has left.
//
// After HandOver the chunks are there a second time while a member reads them, so MoveTo has
// readers go on in the copy. Otherwise clients that take nothing, each of another body, would hold
// any number of uncounted bytes. Where the copy was refused, TakeBack counts the chunks again, and
// TakeBackCopy does where readers have all of a small body in hand.
// Where there is no room for them, kept.go looks at their readers until there is.
//
// The Budget has three accounts: what is to be kept; what goes beyond that for a while on its way
// to a Spill; and what is only passed on, in windows and of flights without Keep. The third keeps
// nothing from being stored, since a client that takes nothing holds its window for as long as it
// likes. The fuller that account is, the less a window may hold. Where it has no room at all, one
// chunk of 4 KiB at a time is allocated, which counts nowhere: no reader could make room for a
// fetch that holds nothing. So all flights together hold what the accounts have, and 4 KiB each.
//
// What a flight holds when its window begins moves to the third account, and so does what is left
// for readers of a body that is not stored. If there is no room for it, it stays in the first, and
// readers that take too little of it are dropped, see kept.go.
//
// # Large bodies
//
// A flight that was given a Spiller begins to spill when more than Limits.Resident of its body is
// in memory, or when the Budget refuses and the body is not small: full chunks are appended to the
// Spill, and what is written there leaves memory. Where the Budget refuses still, the flight takes
// 384 KiB beyond it, for a chunk and for what the Spill holds back until it fills one of its own.
// All such are one account. Where that is full, the flight becomes windowed. What it has is in the
// Spill then, from where readers have it.
//
//	body      0 ─────────── covered ─────────── written ─── appended ─── size
//	readers     from the Spill   from memory, where most of them are
//
// The fetch waits only when the Spill is behind by Limits.Resident, never for a reader. A
// reader that is slow or late reads from the Spill, at its own pace and outside of the flight's
// lock. A Spill that fails before anything has left memory is forgotten. One that fails later makes
// the flight windowed, in which those behind read on from what is written. A reader that cannot
// read there gets ErrSpill; others notice nothing.
//
// A windowed flight has a Spill of what its window holds when a reader waits for more and another
// is behind. So a slow client slows none of those that share its fetch, as long as the Spiller has
// room for what it is behind with.
//
// # Caveats
//
//   - Write, Finish, Fail and the decisions are for the one goroutine of the fetch. Cancel, Keep
//     and what only reads may be called from any.
//   - A Member and its Reader belong to one goroutine.
//   - A slice from Next must not be changed, nor used from the next call of Next, Skip or Leave on.
//     Where the Budget is a Memory, others have its bytes then. So a writer must not keep what it
//     was given when Write has returned, be it with an error: io.Writer says so, and net/http keeps
//     to it.
//   - What a reader has loaded from a Spill is not counted in the Budget: 32 KiB for each reader
//     that is behind, which is what a proxy has in hand for a client.
//   - A fetch that ignores its context is waited for by its leader until the leader's own client
//     goes, as it would be without this package.
//   - Every change wakes all readers that wait for one. A hundred readers of a body that arrives in
//     tiny pieces cost a hundred wake-ups a piece, unless they fall behind.
//   - The Group has one lock for its map, held for a look-up only and never while a caller's
//     function runs. A whole flight without followers takes 1 to 2 µs, of which the map is the
//     least part, so the map is not sharded.
//   - Tag, what is shared, trailer and the lent writer are any, not type parameters: a dozen of the
//     package's hundred methods touch them, and every one would have to carry the three types.
//
// Lock order: Group.mu, then Flight.mu (an older flight before its retry), then registry.mu.
// Attendant is called under the flight's, and so may Budget.Refused be. The rest of Budget, Spill,
// usable and OnDrop's function are called under none of them. OnDrop's has a lock of its own, for
// which Leave waits last.
package coalesce
