package caddyfile

import (
	"net/http"
	"path/filepath"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/rfc9111"
)

// WithDefaults returns a copy in which everything that was left out has its default. Key,
// Key.Query, Keep, Slice, Tags and Coalesce are never nil; the words of set_cookie,
// client_directives, status and zone are never empty; header names are in their canonical form.
// MaxBody stays 0 where the zone's limit holds. TTL, ForceTTL, MaxTTL, RefreshEarly and the stale
// windows stay as they are, because off is their default. The receiver is not changed, and shares
// no list with the copy that the copy could change.
func (c HandlerConfig) WithDefaults() HandlerConfig {
	c.Ignore = canonical(c.Ignore)
	c.ClientDirectives = orDefault(c.ClientDirectives, clientDirectivesObey)
	c.Key = keyWithDefaults(c.Key)
	if c.Keep == nil {
		keep := Span(rfc9111.DefaultKeep)
		c.Keep = &keep
	}
	if c.Slice == nil {
		size := Size(httpcache.DefaultSlice)
		c.Slice = &size
	}
	c.Methods = orList(c.Methods, httpcache.DefaultMethods...)
	c.Tags = tagsWithDefaults(c.Tags)
	c.SetCookie = orDefault(c.SetCookie, setCookieRefuse)
	c.MaxVariants = orDefault(c.MaxVariants, httpcache.DefaultMaxVariants)
	c.Coalesce = copyOrNew(c.Coalesce)
	c.Coalesce.Wait = orDefault(c.Coalesce.Wait, caddy.Duration(httpcache.DefaultWait))
	c.Targeted = canonical(orList(c.Targeted, rfc9111.DefaultTargeted...))
	c.Status = orDefault(c.Status, statusShort)
	c.PurgeMethod = purgeMethodWithDefaults(c.PurgeMethod)
	c.Zone = orDefault(c.Zone, DefaultZone)
	return c
}

func keyWithDefaults(k *KeyConfig) *KeyConfig {
	k = copyOrNew(k)
	k.Query = copyOrNew(k.Query)
	k.Header = canonical(k.Header)
	return k
}

func tagsWithDefaults(t *TagsConfig) *TagsConfig {
	t = copyOrNew(t)
	t.From = canonical(orList(t.From, rfc9111.DefaultTagFields...))
	return t
}

// WithDefaults returns a copy in which everything that was left out has its default; Disk is never
// nil, that of a zone neither. With the disk tier off, its path and budget stay empty. The receiver
// is not changed.
func (c AppConfig) WithDefaults() AppConfig {
	c.Memory = orDefault(c.Memory, 256<<20)
	c.Disk = copyOrNew(c.Disk)
	if !c.Disk.Off {
		c.Disk.Path = orDefault(c.Disk.Path, filepath.Join(caddy.AppDataDir(), "larder"))
		c.Disk.Budget = orDefault(c.Disk.Budget, 1<<30)
	}
	c.Eviction = orDefault(c.Eviction, evictionLRU)
	c.MaxBody = orDefault(c.MaxBody, Size(httpcache.DefaultMaxBody))
	c.Compress = orDefault(c.Compress, compressOff)
	c.Zones = zonesWithDefaults(&c)
	return c
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

func orList(list []string, fallback ...string) []string {
	if len(list) == 0 {
		return slices.Clone(fallback)
	}
	return slices.Clone(list)
}

func copyOrNew[T any](p *T) *T {
	fresh := new(T)
	if p != nil {
		*fresh = *p
	}
	return fresh
}

// canonical returns the header names in the form in which net/http keeps them.
func canonical(names []string) []string {
	out := slices.Clone(names)
	for i, name := range out {
		out[i] = http.CanonicalHeaderKey(name)
	}
	return out
}
