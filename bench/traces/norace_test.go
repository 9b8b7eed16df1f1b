//go:build !race

package traces

const racing = false
