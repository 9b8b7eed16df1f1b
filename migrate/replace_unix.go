//go:build unix

package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a file the owner and the group of another one: a Caddyfile that only they may
// read would be closed to Caddy otherwise.
func keepOwner(file *os.File, like fs.FileInfo) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	want, known := like.Sys().(*syscall.Stat_t)
	has, alsoKnown := info.Sys().(*syscall.Stat_t)
	if !known || !alsoKnown || has.Uid == want.Uid && has.Gid == want.Gid {
		return nil
	}
	if err := file.Chown(int(want.Uid), int(want.Gid)); err != nil {
		return fmt.Errorf("keeping the owner of the file: %w", err)
	}
	return nil
}

// syncFolder has the names in a folder on disk.
func syncFolder(name string) error {
	folder, err := os.Open(name) //nolint:gosec // G304: that of the file which the operator names
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
