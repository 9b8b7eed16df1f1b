package main

import "errors"

// halt stops a program where it is, which signals do, and there are none here.
func (p *process) halt() error {
	return errors.New("a program cannot be stopped where it is on Windows")
}
