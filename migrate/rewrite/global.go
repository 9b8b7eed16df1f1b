package rewrite

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
				b.missText(sub.line, "timeout "+sub.title(), "it is reverse_proxy's: `response_header_timeout "+oneLine(sub.text())+"` in `transport http`")
				continue
			}
			b.missText(sub.line, "timeout "+sub.title(), "nothing waits for the store; of many machines `timeout` in `shared` is for one look-up")
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
		b.miss(o, "tags are always read, and sent to no client unless `keep_headers` in `tags` says so")
	case "mapping_eviction_interval":
		b.miss(o, "there is nothing to clean up")
	case "import":
		b.miss(o, "it is no snippet of this file without arguments, so what it has was not read")
	default:
		switch {
		case !slices.Contains(storeOptions, o.name):
			b.miss(o, "neither migrate nor cache-handler 0.16 knows it")
		case !b.global:
			b.miss(o, "a store of its own for one site is a zone: `zone <name>` with a block in the global option, and `zone <name>` here")
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
			why += ". What sends PURGE to the site needs `allow …` in `purge_method` of larder"
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
		b.memoryOnly = option{name: "otter", line: o.line}
		b.missSubs(o, "otter", "`memory <size>` is the budget, in bytes and not in entries")
	case "badger", "nuts", "simplefs":
		b.readDisk(o, configuration)
	default:
		b.miss(o, "what machines share is Redis or Valkey: `shared redis://<host>:6379`")
	}
}

// missSubs says of each line of a storage that it is left out, but for those that are taken.
func (b *block) missSubs(o option, within, why string, taken ...int) {
	for _, sub := range o.subs {
		switch {
		case slices.Contains(taken, sub.line):
		case len(sub.subs) > 0:
			b.missSubs(sub, within+" "+sub.name, why, taken...)
		default: // without its value, which may be a secret
			b.missText(sub.line, within+" "+oneLine(sub.name), why)
		}
	}
}

// readDisk takes the folder of a storage on disk. The files of another storage are no use to
// Larder, so it gets a folder within.
func (b *block) readDisk(o, configuration option) {
	var taken []int
	if file, ok := o.sub("path"); ok && o.name == "badger" {
		taken = append(taken, file.line)
		b.missText(file.line, "badger path", "the file has badger's own settings and was not read; where it names a folder (Dir), `disk <folder> <size>` is where Larder stores")
	}
	if inMemory, ok := configuration.sub("InMemory"); ok && o.name == "badger" && inMemory.text() != "false" {
		b.memoryOnly = option{name: "badger InMemory", line: o.line}
		b.missSubs(o, o.name, "it is badger's own", append(taken, inMemory.line)...)
		return
	}
	folder := folderOf(o, configuration)
	switch {
	case folder.text() == "":
		b.miss(o, "it names no folder; `disk <folder> <size>` is where Larder stores, and by default <Caddy's data folder>/larder 1GiB")
	case placeholder(folder.text()):
		b.miss(o, "its folder has a placeholder; write `disk <folder> <size>`")
	case b.disk != "":
		b.miss(o, "there is one folder on disk, that of the storage above")
	default:
		budget, line := budgetOf(configuration)
		taken = append(taken, line)
		b.disk = "disk " + quote(strings.TrimRight(folder.text(), "/")+"/larder") + budget
		b.note(o.line, "%s: Larder stores in the folder larder within that of %s, whose own files may be deleted; without a size `disk` takes 1GiB", o.name, o.name)
	}
	if values, ok := configuration.sub("ValueDir"); ok && values.text() == folder.text() {
		taken = append(taken, values.line)
	}
	b.missSubs(o, o.name, "it is "+o.name+"'s own", append(taken, folder.line)...)
}

// folderOf finds the line that names the folder of a storage.
func folderOf(o, configuration option) option {
	places := []struct {
		from option
		name string
	}{{configuration, "Dir"}, {configuration, "path"}, {o, "path"}}
	if o.name == "badger" {
		places = places[:1] // its path is a file
	}
	for _, place := range places {
		if found, ok := place.from.sub(place.name); ok && found.text() != "" {
			return found
		}
	}
	return option{}
}

// budgetOf is the budget of a storage on disk and its line, empty where it has none.
func budgetOf(configuration option) (budget string, line int) {
	directory, _ := configuration.sub("directory_size")
	n, err := strconv.ParseUint(directory.text(), 10, 62)
	if err != nil || n < 1<<20 {
		return "", 0
	}
	return " " + size(n), directory.line
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
	hosts, _ := o.sub("url")
	for _, name := range []string{"InitAddress", "Addrs", "Addr"} {
		if a, ok := configuration.sub(name); ok && len(hosts.args) == 0 {
			hosts = a
		}
	}
	_, sentinel := configuration.sub("MasterName")
	_, encrypted := configuration.sub("TLSConfig")
	if len(hosts.args) != 1 || sentinel || encrypted || !plainHost(hosts.text()) {
		b.miss(o, "machines share a Redis by `shared redis://<user>:<password>@<host>:6379/<db>`, rediss:// for TLS; for sentinels and a cluster see docs/fleet.md")
		return
	}
	user, hasUser := configuration.sub("Username")
	password, hasPassword := configuration.sub("Password")
	if placeholder(user.text()+password.text()) || b.shared != "" {
		b.miss(o, "its user or password has a placeholder, or it is the second; write `shared redis://<user>:<password>@<host>:6379/<db>`")
		return
	}
	database, lines := b.databaseOf(configuration)
	address := url.URL{Scheme: "redis", Host: hosts.text(), Path: "/" + strconv.FormatUint(database, 10)}
	switch {
	case hasPassword:
		address.User = url.UserPassword(user.text(), password.text())
	case hasUser:
		address.User = url.User(user.text())
	}
	b.shared = "shared " + quote(address.String())
	b.note(o.line, "redis: becomes the tier that machines share, behind memory and disk of each; where Redis does not answer, requests are answered all the same and purges with 503, and docs/fleet.md says what that promises")
	b.missSubs(o, "redis", "`shared` has options of its own", append(lines, hosts.line, user.line, password.line)...)
}

// databaseOf is the number of the database, and the lines that name it.
func (b *block) databaseOf(configuration option) (database uint64, lines []int) {
	for _, name := range []string{"SelectDB", "DB"} {
		db, ok := configuration.sub(name)
		if !ok {
			continue
		}
		lines = append(lines, db.line)
		n, err := strconv.ParseUint(db.text(), 10, 16)
		if err != nil {
			b.missText(db.line, "redis configuration "+name, "it is no number of a database, and without one that is 0")
			continue
		}
		database = n
	}
	return database, lines
}
