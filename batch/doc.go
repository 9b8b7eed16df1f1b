// Package batch puts many requests for one item each into one request for all of them, and cuts the
// items out of its answer. It knows no cache, no server and no network.
//
// A [Rule] says which requests are meant, what is asked for in their place, and where the items
// stand in the JSON that comes back:
//
//	GET /products/7 ┐                                            ┌► {"id": 7, …}
//	GET /products/8 ┼► GET /products?ids=7,8,9 ─► {"products":[…]} ┼► {"id": 8, …}
//	GET /products/9 ┘                                            └► {"id": 9, …}
//
// # Where to read
//
//	rule.go    what a rule says, and what cannot be meant
//	ids.go     which requests it speaks of, and the URL for many ids
//	window.go  what comes together within a time
//	split.go   the items of an answer
//
// # The rules
//
//   - An id is a segment of a path, or a part of one. It is compared with what stands in the answer
//     as text, a number by its literal: 7 is not 7.0.
//   - An id that cannot be told from several ids in the URL is never asked for with others. Nor is
//     one that a server may take for a path of its own.
//   - The bytes of an item are those of the answer: numbers, spaces and escapes stay as they are.
//   - Where an answer leaves open which item is meant, none is: what has the same name or id twice
//     counts as ambiguous.
//   - What an answer has beside the ids that were asked for costs no memory.
//
// # Caveats
//
// [Rule.Split] reads the whole answer. What holds it bounds its length; encoding/json bounds how
// deep it is, at 10,000 levels.
package batch
