//go:build !windows

package main

import "syscall"

// halt stops the program where it is, as a machine that hangs: its connections stay, and it says
// nothing.
func (p *process) halt() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }
