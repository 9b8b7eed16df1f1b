module github.com/larder-cache/larder/bench/otter

go 1.26.0

require (
	github.com/maypok86/otter v1.2.4
	github.com/maypok86/otter/v2 v2.4.0
)

require (
	github.com/dolthub/maphash v0.1.0 // indirect
	github.com/gammazero/deque v0.2.1 // indirect
)
