package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// backupOf names the file that keeps what another one was before. It begins with a dot: an
// `import sites/*` takes no such file, and every other one in the folder.
func backupOf(name string) string {
	return filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".before-larder")
}

// replaceFile puts a file with another text in the place of one, and keeps the old text beside it.
// A reader finds the old text or the new one, and so it is after a crash: the new file is on disk
// before it gets the name. Mode and owner stay. Of a symbolic link it is the file at its end, since
// a rename would put a file in the place of the link.
//
// An error leaves the file as it was, and no backup, unless it says that the file is replaced. A
// backup of before is not written over.
func replaceFile(name string, before, after []byte) error {
	name, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file; leave --write out", name)
	}
	changed, err := os.CreateTemp(filepath.Dir(name), ".larder-migrate-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(changed.Name()) }() // it has the other name when all went well
	if err := fill(changed, after, info); err != nil {
		return err
	}
	if err := keepBackup(backupOf(name), before, info); err != nil {
		return err
	}
	if err := os.Rename(changed.Name(), name); err != nil {
		return errors.Join(err, os.Remove(backupOf(name)))
	}
	if err := syncFolder(filepath.Dir(name)); err != nil {
		return fmt.Errorf("%s is replaced, but a crash may undo that: %w", name, err)
	}
	return nil
}

// keepBackup writes the old text to a file that there is not yet.
func keepBackup(name string, text []byte, info fs.FileInfo) error {
	backup, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // G304: the operator names the file
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; move it away first", name)
	}
	if err != nil {
		return err
	}
	if err := fill(backup, text, info); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// fill writes a file with the owner and the mode of another one, has it on disk, and closes it.
func fill(file *os.File, text []byte, like fs.FileInfo) error {
	err := keepOwner(file, like)
	if err == nil {
		err = file.Chmod(like.Mode().Perm())
	}
	if err == nil {
		_, err = file.Write(text)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
