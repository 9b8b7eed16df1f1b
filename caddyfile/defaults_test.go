package caddyfile

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func TestHandlerDefaults(t *testing.T) {
	keep, slice := Span(time.Hour), Size(4<<20)
	want := HandlerConfig{
		Keep:             &keep,
		ClientDirectives: "obey",
		Key:              &KeyConfig{Query: &QueryConfig{}},
		Methods:          []string{"GET", "HEAD"},
		Tags:             &TagsConfig{From: []string{"Surrogate-Key", "Cache-Tag", "Xkey"}},
		SetCookie:        "refuse",
		MaxVariants:      32,
		Slice:            &slice,
		Coalesce:         &CoalesceConfig{Wait: caddy.Duration(10 * time.Second)},
		Targeted:         []string{"Larder-Cache-Control", "Cdn-Cache-Control"},
		Status:           "short",
		Zone:             "default",
	}
	got := HandlerConfig{}.WithDefaults()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := got.Check(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	if again := got.WithDefaults(); !reflect.DeepEqual(again, got) {
		t.Errorf("a second time gives %+v", again)
	}
}

func TestHandlerDefaultsKeepWhatIsSaid(t *testing.T) {
	said := HandlerConfig{
		Keep:             new(Span), // 0 is said
		Ignore:           []string{"vary"},
		ClientDirectives: "ignore",
		Key:              &KeyConfig{Query: &QueryConfig{Sort: true}, Header: []string{"accept-language"}},
		Methods:          []string{"GET"},
		Tags:             &TagsConfig{From: []string{"x-tags"}, KeepHeaders: true},
		SetCookie:        "strip",
		MaxVariants:      1,
		Slice:            new(Size),
		Coalesce:         &CoalesceConfig{Wait: caddy.Duration(time.Second)},
		Targeted:         []string{"my-cache-control"},
		Status:           "off",
		Zone:             "shop",
	}
	got := said.WithDefaults()
	want := said
	want.Ignore = []string{"Vary"}
	want.Key = &KeyConfig{Query: &QueryConfig{Sort: true}, Header: []string{"Accept-Language"}}
	want.Tags = &TagsConfig{From: []string{"X-Tags"}, KeepHeaders: true}
	want.Targeted = []string{"My-Cache-Control"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !slices.Equal(said.Key.Header, []string{"accept-language"}) || said.Tags.From[0] != "x-tags" {
		t.Error("the original was changed")
	}
}

func TestAppDefaults(t *testing.T) {
	folder := filepath.Join(caddy.AppDataDir(), "larder")
	for _, tc := range []struct {
		name   string
		config AppConfig
		disk   DiskConfig
		chosen bool
	}{
		{"nothing", AppConfig{}, DiskConfig{Path: folder, Budget: 1 << 30}, false},
		{"empty disk", AppConfig{Disk: &DiskConfig{}}, DiskConfig{Path: folder, Budget: 1 << 30}, false},
		{"budget", AppConfig{Disk: &DiskConfig{Budget: 5 << 20}}, DiskConfig{Path: folder, Budget: 5 << 20}, false},
		{"folder", AppConfig{Disk: &DiskConfig{Path: "/x"}}, DiskConfig{Path: "/x", Budget: 1 << 30}, true},
		{"off", AppConfig{Disk: &DiskConfig{Off: true}}, DiskConfig{Off: true}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.config.WithDefaults()
			want := AppConfig{Memory: 256 << 20, Disk: &tc.disk, Eviction: "lru", MaxBody: 64 << 20, Compress: "off"}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v with disk %+v, want %+v with disk %+v", got, got.Disk, want, want.Disk)
			}
			if s := tc.config.Stores()[0]; s.Required != tc.chosen || s.Zone != DefaultZone {
				t.Errorf("the store is %+v", s)
			}
			if err := got.Check(); err != nil {
				t.Errorf("the defaults are refused: %v", err)
			}
		})
	}
}

func TestPurgeMethodDefaults(t *testing.T) {
	said := HandlerConfig{PurgeMethod: &PurgeMethodConfig{Allow: []string{"10.0.0.1/8", "::ffff:192.0.2.7"}}}
	got := said.WithDefaults().PurgeMethod
	if want := []string{"Xkey", "Surrogate-Key", "Cache-Tags", "X-Cache-Tags", "X-Key"}; !slices.Equal(got.Tags, want) {
		t.Errorf("tags in %q, want %q", got.Tags, want)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32")}; !slices.Equal(got.Prefixes(), want) {
		t.Errorf("ranges %v, want %v", got.Prefixes(), want)
	}
	if said.PurgeMethod.Tags != nil {
		t.Error("what was said has changed")
	}
}

// TestZoneDefaults: what a zone does not say is as in the default zone, or a folder below its.
func TestZoneDefaults(t *testing.T) {
	c := AppConfig{
		Disk: &DiskConfig{Path: "/x", Budget: 5 << 20}, Eviction: "lfu", MaxBody: 1 << 20, Compress: "zstd",
		Zones: map[string]*ZoneConfig{"b": nil, "a": {Memory: 1 << 20, Disk: &DiskConfig{Path: "/y"}, Eviction: "fifo", Compress: "off"}},
	}
	want := []Store{
		{DefaultZone, ZoneConfig{256 << 20, c.Disk, "lfu", 1 << 20, "zstd"}, true},
		{"a", ZoneConfig{1 << 20, &DiskConfig{Path: "/y", Budget: 512 << 20}, "fifo", 1 << 20, "off"}, true},
		{"b", ZoneConfig{64 << 20, &DiskConfig{Path: "/x/b", Budget: 512 << 20}, "lfu", 1 << 20, "zstd"}, true},
	}
	if got := c.Stores(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	c.Disk = &DiskConfig{Off: true}
	for i, s := range c.Stores() {
		if named := s.Zone == "a"; s.Disk.Off == named || s.Required != named {
			t.Errorf("without a disk of the default zone, store %d is %+v with disk %+v", i, s, s.Disk)
		}
	}
	c.Disk = nil
	if s := c.Stores()[2]; s.Required || s.Disk.Path != filepath.Join(caddy.AppDataDir(), "larder", "b") {
		t.Errorf("below the default folder: %+v with disk %+v", s, s.Disk)
	}
	c.Disk, c.Zones["b"] = &DiskConfig{Off: true}, &ZoneConfig{Disk: &DiskConfig{Budget: 5 << 20}}
	if err := c.Check(); err == nil {
		t.Error("a zone whose disk has a budget and no folder is accepted")
	}
}
