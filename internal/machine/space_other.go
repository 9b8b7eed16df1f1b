//go:build !darwin && !freebsd && !linux && !windows

package machine

import "errors"

func spaceOf(string) (space, error) { return space{}, errors.ErrUnsupported }
