package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTooLarge(t *testing.T) {
	folder := t.TempDir()
	grown := filepath.Join(folder, "a", "grown")
	if err := os.MkdirAll(filepath.Dir(grown), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(grown, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(folder, "b", "made", "later")
	if err := os.Mkdir(filepath.Join(folder, "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	volumes := func(at string) (space, error) {
		switch at {
		case filepath.Join(folder, "a"):
			return space{"a", 50}, nil
		case filepath.Join(folder, "b"):
			return space{"b", 200}, nil
		}
		return space{}, errors.New(at + " is no volume")
	}
	for _, tt := range []struct {
		name  string
		files []File
		want  string
	}{
		{"what it has counts", []File{{grown, 150}}, ""},
		{"one byte more", []File{{grown, 151}}, "grown 151 of 150"},
		{"two files of a volume", []File{{grown, 100}, {filepath.Join(folder, "a", "new"), 51}}, "grown new 151 of 150"},
		{"each volume by itself", []File{{grown, 150}, {other, 200}}, ""},
		{"a folder that is made later", []File{{other, 201}}, "later 201 of 200"},
		{"both", []File{{other, 201}, {grown, 151}}, "later 201 of 200, grown 151 of 150"},
		{"a volume that does not tell", []File{{filepath.Join(folder, "c"), 1 << 60}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, full := range tooLarge(tt.files, volumes) {
				var names []string
				for _, name := range full.Files {
					names = append(names, filepath.Base(name))
				}
				got = append(got, fmt.Sprintf("%s %d of %d", strings.Join(names, " "), full.Budget, full.Room))
			}
			if got := strings.Join(got, ", "); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestThisMachine: what is asked of the system is answered.
func TestThisMachine(t *testing.T) {
	if memory := Memory(); memory < 1<<20 {
		t.Errorf("%d bytes of memory", memory)
	}
	at, err := spaceOf(t.TempDir())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil || at.volume == "" {
		t.Errorf("%+v, %v", at, err)
	}
	if full := TooLarge([]File{{filepath.Join(t.TempDir(), "no", "folder", "file"), 1 << 62}}); len(full) != 1 {
		t.Errorf("no disk is that large: %v", full)
	}
}
