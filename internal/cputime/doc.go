// Package cputime is the clock of tests and benchmarks on a machine that does other work, too.
package cputime
