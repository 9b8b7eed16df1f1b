package store

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// setAside renames the file, which must not be open, so that it is never used again. Of the files
// set aside only this one is kept.
func (d *disk) setAside(why string, now time.Time) (name string, err error) {
	var aside string
	err = d.apart(d.wait(), func() (err error) {
		if aside, err = d.rename(why, now); err == nil {
			d.removeAside(aside)
		}
		return err
	}, nil)
	if err != nil {
		return "", fmt.Errorf("set aside: %w", err)
	}
	return aside, nil
}

// asideName is what rename appends to the file's name.
var asideName = regexp.MustCompile(`^\.(corrupt|replaced|purged)-[0-9]+(-[0-9]+)?$`)

// removeAside removes the files that were set aside before the one that is kept: a disk that
// damages one file after the other would be full of them. One that cannot be removed stays.
func (d *disk) removeAside(kept string) {
	folder, err := os.ReadDir(filepath.Dir(d.path))
	if err != nil {
		return
	}
	for _, entry := range folder {
		suffix, ours := strings.CutPrefix(entry.Name(), filepath.Base(d.path))
		if name := d.path + suffix; ours && name != kept && asideName.MatchString(suffix) {
			_ = os.Remove(name)
		}
	}
}

// rename is setAside for who can wait.
func (d *disk) rename(why string, now time.Time) (string, error) {
	name := d.path + "." + why + "-" + strconv.FormatInt(now.Unix(), 10)
	for i := 1; ; i++ {
		if _, err := os.Lstat(name); err != nil { // free, or no name in this folder is
			break
		}
		name = d.path + "." + why + "-" + strconv.FormatInt(now.Unix(), 10) + "-" + strconv.Itoa(i)
	}
	if err := os.Rename(d.path, name); err != nil {
		return "", err
	}
	d.removeBodies()
	d.syncFolder()
	return name, nil
}

// syncFolder makes a change of the file's name durable, where folders can be synced.
func (d *disk) syncFolder() {
	if folder, err := os.Open(filepath.Dir(d.path)); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
}
