package migrate

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// readOther says what becomes of options that are no settings of a directive.
func (b *block) readOther(o option) {
	switch o.name {
	case "api":
		b.readAPI(o)
	case "timeout":
		for _, sub := range o.subs {
			if sub.name == "backend" {
				b.missText(sub.line, "timeout "+sub.title(), "it is reverse_proxy's: transport http { response_header_timeout "+oneLine(sub.text())+" }")
				continue
			}
			b.missText(sub.line, "timeout "+sub.title(), "nothing waits for the store; of many machines `shared { timeout … }` is for one look-up")
		}
	case "cdn":
		b.miss(o, "Larder purges no CDN; have the program that purges call its API as well")
	case "log_level":
		b.miss(o, "Larder writes to Caddy's log, so set the level of that")
	case "cache_name":
		b.miss(o, "in Cache-Status the cache is called Larder")
	case "storers":
		b.miss(o, "there is one memory tier over one on disk")
	case "disable_surrogate_key":
		b.miss(o, "tags are always read, and sent to no client unless tags { keep_headers } says so")
	case "mapping_eviction_interval":
		b.miss(o, "there is nothing to clean up")
	case "import":
		b.miss(o, "it is no snippet of this file without arguments, so what it has was not read")
	default:
		switch {
		case !slices.Contains(storeOptions, o.name):
			b.miss(o, "neither migrate nor cache-handler 0.16 knows it")
		case !b.global:
			b.miss(o, "a store of its own for one site is a zone: `zone <name> { … }` in the global option, and `zone <name>` here")
		default:
			b.readStore(o)
		}
	}
}

func (b *block) readAPI(o option) {
	for _, sub := range o.subs {
		why := "Larder has its API at Caddy's admin endpoint alone: POST /larder/purge, GET /larder/entries"
		switch sub.name {
		case "souin":
			why += ". What sends PURGE to the site needs `purge_method { allow … }` in larder"
		case "prometheus":
			why = "the metrics caddy_larder_* stand with Caddy's own, at /metrics of the admin endpoint"
		}
		b.missText(sub.line, "api "+sub.title(), why)
	}
	if len(o.subs) == 0 {
		b.note(o.line, "api: has no lines, so nothing is left out")
	}
}

// readStore finds a counterpart for a storage.
func (b *block) readStore(o option) {
	configuration, _ := o.sub("configuration")
	switch o.name {
	case "redis":
		b.readRedis(o, configuration)
	case "otter":
		b.note(o.line, "otter: becomes `disk off`; without that line what is stored survives a restart")
		b.memoryOnly = true
		b.missSubs(o, "otter", "`memory <size>` is the budget, in bytes and not in entries")
	case "badger", "nuts", "simplefs":
		b.readDisk(o, configuration)
	default:
		b.miss(o, "what machines share is Redis or Valkey: `shared redis://<host>:6379`")
	}
}

// missSubs says of each line of a storage that it is left out.
func (b *block) missSubs(o option, within, why string, taken ...string) {
	for _, sub := range o.subs {
		switch {
		case slices.Contains(taken, sub.name):
		case len(sub.subs) > 0:
			b.missSubs(sub, within+" "+sub.name, why, taken...)
		default: // without its value, which may be a secret
			b.missText(sub.line, within+" "+oneLine(sub.name), why)
		}
	}
}

// readDisk takes the folder of a storage on disk. The files of another storage are no use to
// Larder, so it gets a folder within.
func (b *block) readDisk(o option, configuration option) {
	folder, taken := option{}, []string{}
	for _, place := range []struct {
		from option
		name string
	}{{configuration, "Dir"}, {configuration, "path"}, {o, "path"}} {
		if o.name == "badger" && place.name == "path" {
			continue // a file of its configuration
		}
		if found, ok := place.from.sub(place.name); ok && found.text() != "" {
			folder, taken = found, append(taken, place.name)
			break
		}
	}
	if inMemory, ok := configuration.sub("InMemory"); ok && o.name == "badger" && inMemory.text() != "false" {
		b.memoryOnly = true
		b.note(o.line, "badger InMemory: becomes `disk off`; without that line what is stored survives a restart")
		b.missSubs(o, o.name, "it is badger's own", "InMemory", "Dir", "ValueDir")
		return
	}
	budget := ""
	if directory, ok := configuration.sub("directory_size"); ok {
		if n, err := strconv.ParseUint(directory.text(), 10, 62); err == nil && n >= 1<<20 {
			budget, taken = " "+size(n), append(taken, "directory_size")
		}
	}
	switch {
	case folder.text() == "":
		b.miss(o, "it names no folder; `disk <folder> <size>` is where Larder stores, and by default <Caddy's data folder>/larder 1GiB")
		return
	case placeholder(folder.text()):
		b.miss(o, "its folder has a placeholder; write `disk <folder> <size>`")
		return
	case b.disk != "":
		b.miss(o, "there is one folder on disk, that of the storage above")
		return
	}
	b.disk = "disk " + quote(strings.TrimRight(folder.text(), "/")+"/larder") + budget
	b.note(o.line, "%s: Larder stores in the folder larder within that of %s, whose own files may be deleted; without a size `disk` takes 1GiB", o.name, o.name)
	b.missSubs(o, o.name, "it is "+o.name+"'s own", append(taken, "ValueDir")...)
}

// plainName is the name of a host, or its address, that needs no escaping.
var plainName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// plainHost reports whether a text is a host and a port.
func plainHost(text string) bool {
	name, port, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	return plainName.MatchString(name) && err == nil && n > 0
}

// readRedis makes a shared tier of one Redis. Several addresses may be a cluster or sentinels,
// which the file does not always tell.
func (b *block) readRedis(o, configuration option) {
	var hosts []arg
	if u, ok := o.sub("url"); ok {
		hosts = u.args
	}
	for _, name := range []string{"InitAddress", "Addrs", "Addr"} {
		if a, ok := configuration.sub(name); ok && len(hosts) == 0 {
			hosts = a.args
		}
	}
	_, sentinel := configuration.sub("MasterName")
	_, encrypted := configuration.sub("TLSConfig")
	if len(hosts) != 1 || sentinel || encrypted || !plainHost(hosts[0].text) {
		b.miss(o, "machines share a Redis by `shared redis://<user>:<password>@<host>:6379/<db>`, rediss:// for TLS; for sentinels and a cluster see docs/fleet.md")
		return
	}
	address := url.URL{Scheme: "redis", Host: hosts[0].text, Path: "/0"}
	user, _ := configuration.sub("Username")
	password, hasPassword := configuration.sub("Password")
	if hasPassword {
		address.User = url.UserPassword(user.text(), password.text())
	}
	for _, name := range []string{"SelectDB", "DB"} {
		if db, ok := configuration.sub(name); ok {
			n, err := strconv.ParseUint(db.text(), 10, 16)
			if err != nil {
				b.miss(db, "it is no number of a database")
			}
			address.Path = "/" + strconv.FormatUint(n, 10)
		}
	}
	if text := address.String(); placeholder(user.text()+password.text()) || b.shared != "" {
		b.miss(o, "its password has a placeholder, or it is the second; write `shared redis://<user>:<password>@<host>:6379/<db>`")
		return
	} else {
		b.shared = "shared " + quote(text)
	}
	b.note(o.line, "redis: becomes the tier that machines share, behind memory and disk of each; docs/fleet.md says what that promises")
	b.missSubs(o, "redis", "`shared { … }` has options of its own", "url", "InitAddress", "Addrs", "Addr", "Username", "Password", "SelectDB", "DB")
}
