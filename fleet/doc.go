// Package fleet makes the caches of many machines one: they share what they store, fetch once for
// all, and keep the promise of a purge on every machine. It knows no server's commands, see Engine,
// and neither Caddy nor RFC 9111.
//
// # The promise
//
// Once Fleet.Purge has returned without error, no request that begins later on any node is answered
// by anything whose fetch began before the call.
//
// # The idea
//
// The server orders purges in a log. It keeps responses too, but knows nothing of purges: a stored
// response carries a Stamp, the place in the log at which its fetch began, and each node judges it
// by the purges that it has applied itself. A node answers from what it has only while it holds a
// pass, which it gets by a beat: the server's reply tells how long the log was then, and the pass
// holds for a fence from when the beat was sent, as soon as the log is applied so far. A purge
// waits until each node of the list has applied it, or until its passes must be over. Only the
// rates of clocks matter, and they may differ by 5 %.
//
//	Begin, Judge, Pass   what requests ask                masks.go, pass.go
//	node                 gives passes; no clock, no deeds   node.go
//	waiting, sightings   what a purge waits for; likewise   ack.go
//	act, perform         do what node leaves to do          run.go, apply.go
//	beat, read, ask      talk to the server                 run.go
//	Purge, Invalidate    append                             purge.go, invalidate.go
//
// # Terms
//
// A server may lose its newest writes (a failover, a restart), or all of them, without saying so.
// It appends a mark then, and State has the newest. A mark is the end of a log and the beginning of
// another: termName makes one name of epoch and mark, and stamps, acknowledgements and positions
// are of a term by that name. So generations are only compared within a term, in which none is lost
// and none given twice. Nothing rests on the generations of a new term being higher.
//
// That holds while the log only grows. Somebody may put the server's keys back to an older state
// under it (a backup that is loaded, RESTORE), and then generations of the term are given twice. So
// each record has a random ID, and each call of a node says which record it has applied last and
// which of its beats was replied to last (node.place). A call that reads ahead says which record it
// goes on from (Fleet.placeAhead). Beats have numbers, of which the list has the highest: one of
// before that comes late would make a time in an older list a newer one. The server begins a new
// epoch where it has not got the one or the other (Log), and every node reads a new epoch's log
// from its beginning.
//
// # The argument
//
// Let P be a purge of generation g, in term T, and R a request that begins after P's answer, on
// node N. By waiting.listed and Fleet.here, P answers after a reply of the server in term T, and N
// was either (1) seen with g applied in T, (2) waited for, or (3) not in the list. Of two logs that
// have had g in T, N has applied the one with P: the server has compared N's place with its log
// before it listed it, or g was trimmed, and then waiting.listed does not count it. This node has
// seen P itself come back at g (Fleet.here, Fleet.comeBack).
//
// (1) N had applied P. Fleet.self says what has been applied under the lock that Fleet.act holds
// from hearing of P until done, so P was in force before:
//
//   - What N stores, and its flights: Caches.Apply, by the argument in store/purge.go.
//   - What is shared: its fetch began before P, so its stamp is below g, whenever it is written,
//     overwritten or comes back. Either N's masks have P, and Judge finds it, or N's floor is above
//     the stamp (node.heard raises it to marks and to what was trimmed, node.view to hard purges of
//     all and to what the masks have no room for), or N is in another term, and Judge does not take
//     it.
//   - What comes home meanwhile: publish puts P among the masks, and only then perform puts it in
//     force in the caches. The ticket under which a shared response goes into the caches was begun
//     before Judge. Where Judge did not know P the ticket is older than P in the caches, which
//     masks what is put under it. In the other order there is a moment at which the caches have had
//     P, a ticket begins, and Judge does not know P: the response would stay. For the same reason a
//     purge is not applied on the node that makes it before it comes back in the log: the caches
//     would have had it, and an old shared response could come home behind it, with nothing to mask
//     it if the log's own P were then left out as one that had been applied.
//   - Stamps of N's own fetches: done raises applied last. A fetch that began before that has an
//     older stamp: it is fetched once more at worst.
//
// (2) N was waited for: since P was in the log, or since N was seen to have beaten last, 1.05 × its
// fence have passed (waiting.wait; a beat says the fence). Every pass of N is of a beat that was
// sent at most a fence before its end. Of a beat before P: that pass is over. Of a beat after P:
// its reply has a tail of g or more, so node.beaten makes it a promise, and node.done a pass only
// when P is applied: it has to know the record at that tail again (node.knows), and has not where
// it has applied others in a log that was put back since. R asks Pass after it started and before
// it looks anything up: a pass that it reads there has P applied, and (1) holds. A pass that is
// read after the look-up may be newer than what was found.
//
// (3) N was not in the list. It has left (Close gives up the pass first); or its first beat came
// after P, which is as in (2); or it was evicted. A node is evicted when it has not beaten for 1.05
// × its fence (sightings.silentFor), and Evict does nothing where it has beaten since: all its
// passes are over, and those to come are of beats after P. It is not enough that a purge has waited
// for it. A beat since that purge may have left a promise, which becomes a pass as soon as the node
// catches up: if it was off the list by then, the next purge would not wait for it.
//
// What the server loses:
//
//   - P is lost before its answer: the term is another, so waiting.listed, or Fleet.here, has it
//     appended again. That N has applied it does no harm.
//   - N's registration is lost, and P appended after that without N: P waits until its term is
//     older than 1.05 × fence, the longest of its own and those in the list (rule 3). N's beats of
//     the old term were sent before it began, so their passes are over.
//   - P is lost after its answer, and N meets the new term (node.adopt) without a pass: node.lose
//     has all in its caches be validated before its next use, what is being fetched as well. With a
//     pass: then that pass is of a beat before P, or N has applied P. If of a beat before P, the
//     term ended before P can have been answered, as its answer waits for that pass and comes after
//     a reply of the old term. So what N has may stay.
//   - What is shared is of another term, for every node: it is not used.
//   - A beat's reply of before, that comes after: node.heard takes no reply of another term that
//     was asked for before the node learned of its own, and promises go with their term.
//   - The log was trimmed past N, or may have been: Read returns the State of the same moment, in
//     which node.read sees it, and N's caches are suspect before it acknowledges anything.
//   - N reads ahead while it applies what came before, and the log is another one by then. That
//     call has named the last record of the reply before, so the server has compared it, as if N
//     had applied it: what comes is of the log that has it, or N learns of a new epoch. node.read
//     takes the reply only where N has applied just so far, and node.heard takes none of another
//     term that was asked for before N learned of its own.
//   - P was removed from the log before N has read it. Generations of a term have no gaps
//     (node.follows): N's caches are suspect, and its floor is above the gap, before it
//     acknowledges anything. The node of P has not seen it come back, and appends it again.
//   - The log and the list were put back. The next call of a node that has applied what is lost, or
//     has had a reply to a beat that is lost, ends the epoch, as does the Append of a purge that
//     such a node makes: it waits as after the loss of a registration. With a new epoch N applies
//     all that its log has, whatever N had applied at the same places before (node.adopt), and what
//     is shared is of another epoch. Where an older epoch was put back, a call of a
//     node that has applied a later one ends it, be it what N's caches had at the start: epochs
//     have an order. And N knows it again (node.heard).
//   - replicas: appendOnce takes nothing for appended that too few have.
//
// What N loses: a crash after the acknowledgement. The position that the caches have on disk is
// never ahead of the purges in it. A new process reads the whole log for its masks, and has purges
// from the position on applied to the caches (node.reaches). Where the position is of another term,
// or there is none, the caches are suspect. Until it has caught up it has no pass.
//
// What N does not understand purges everything, see understand.
//
// # Without a reply
//
// A purge is appended once more, which does no harm. If there is no reply again it is put in force
// on this node, over its shared tier too (Fleet.applied), and Purge returns ErrNotEverywhere.
//
// # What is given up
//
// After a loss of the server what is shared is fetched anew, and purges take a fence for as long. A
// node that beats and does not apply is not evicted: each purge waits a fence for it. A node with
// Options.Serve answers from older content by the operator's choice; purges name it as uncertain,
// for as long as that may be.
//
// Invalidations of unsafe requests are batched, and no one waits for them. On the node of the
// request they are in force before its answer. Invalidate puts them among the masks, and only then
// the caller looks at its caches and purges them: the order of (1), for the same reason. The masks
// have them at the end of the log as this node knows it: what another node has stamped further on
// is not masked until the log brings the invalidation. It is appended until the server takes it,
// and goes into the masks of each new term meanwhile. What waits is bounded: too many become one of
// their host, or of everything, as store.Invalid (gathered). A crash loses what waits, and what the
// server loses of them is not appended again.
//
// Not solved: a node that is cut off, has a longer fence than all in the list, and whose
// registration is lost, because rule 3 does not know of it; a machine whose clock stands still
// while it answers requests (now goes on while a machine sleeps, where the system has such a
// clock); a server's clock that is set ahead by a fence within the first fence of a term; two
// servers that both take writes for the same nodes, for which Redis has min-replicas-to-write.
//
// Nor is a log that was put back, until a node has called that knows of a record or of a reply to a
// beat of its own that was lost: a tenth of a fence as a rule, for ever where all of them have
// ended without a position that their caches kept. Until then a purge that is made by a node which
// knows of neither (it has been started since, or the older state is younger than its last beat)
// does not wait for a node that has been registered since, and such a node may take shared
// responses of before for newer ones.
package fleet
