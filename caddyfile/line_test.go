package caddyfile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// grammar is all words that there are, with the name of their block.
func grammar() (all []block) {
	for _, level := range blocks() {
		all = append(all, level...)
	}
	return append(all, block{"zone <name> { … }", zoneWords(&ZoneConfig{})})
}

// usageLines are the lines that a usage shows: `disk <folder> [<size>], or disk off` has two.
func usageLines(w word) []string {
	return strings.FieldsFunc(strings.ReplaceAll(w.usage, " or "+w.name, ", "+w.name), func(r rune) bool { return r == ',' })
}

// filled has an argument for each kind in a usage.
var filled = strings.NewReplacer(
	"<duration>", "10 m", "<min>", "1 s", "<max>", "10 m", "<size>", "64 MiB", "<n>/<s|m|h>", "5/s", "<n>", "10", "<folder>", "/folder",
	"<status>...", "404", "<burst>", "7", "<by>", "{client_ip}", "[", "", "]", "",
)

// TestSpacesInQuantities: a size or a duration with a space in it was answered with "wrong number
// of arguments", or not understood. Wherever a word takes one, the line to write is told.
func TestSpacesInQuantities(t *testing.T) {
	quantity := regexp.MustCompile(`<duration>|<size>|<min>|<max>`)
	found := 0
	for _, b := range grammar() {
		for _, w := range b.words {
			for _, usage := range usageLines(w) {
				if !quantity.MatchString(usage) {
					continue
				}
				found++
				// Of alternatives the quantity is the first.
				line := regexp.MustCompile(`\|[a-z0]+`).ReplaceAllString(filled.Replace(usage), "")
				want := "; write " + strings.NewReplacer("10 m", "10m", "1 s", "1s", "64 MiB", "64MiB").Replace(strings.TrimSpace(line))
				args := strings.Fields(line)[1:]
				if err := w.take(args); err == nil || !strings.HasSuffix(err.Error(), want) {
					t.Errorf("%s: %s: %v, want %q", b.name, line, err, want)
				}
			}
		}
	}
	if found < 24 {
		t.Errorf("%d words with a size or a duration", found)
	}
}

// TestLinesToWrite: each line to write instead begins with its word.
func TestLinesToWrite(t *testing.T) {
	for line, want := range map[string]string{
		"ttl 200 302 10m":               "ttl 10m 200 302",
		"ttl 200 302 10 m":              "ttl 10m 200 302",
		"force_ttl 4xx 1m":              "force_ttl 1m 4xx",
		"stale_if_error 503 unlimited":  "stale_if_error unlimited 503",
		"repeats 1m 10 refuse":          "repeats 10 1m refuse",
		"repeats 1 m 10":                "repeats 10 1m",
		"queue 10s 100":                 "queue 100 10s",
		"max_body 1.5 GiB":              "max_body 1.5GiB",
		"ttl 1 d 404 5xx":               "ttl 1d 404 5xx",
		"disk 1GiB /var/lib/larder":     "disk /var/lib/larder 1GiB",
		"disk 1 GiB /var/lib/larder":    "disk /var/lib/larder 1GiB",
		"disk 1,5GiB /var/lib/larder":   "disk /var/lib/larder 1.5GiB",
		`disk 1GiB "/var/lib/my files"`: `disk "/var/lib/my files" 1GiB`,
		`max_ttl "5 m"`:                 "max_ttl 5m",
	} {
		t.Run(line, func(t *testing.T) {
			args := regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(line, -1)
			for i := range args {
				args[i] = strings.Trim(args[i], `"`)
			}
			var w word
			for _, b := range grammar() {
				if i := slices.IndexFunc(b.words, func(w word) bool { return w.name == args[0] && w.args != nil }); i >= 0 {
					w = b.words[i]
					break
				}
			}
			if err := w.take(args[1:]); err == nil || !strings.HasSuffix(err.Error(), "; write "+want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}

// TestMisspeltChoices: of a word that has to be one of a few, a misspelt one is answered with that
// which was meant. Behind query, coalesce and lost it was called a wrong number of arguments.
func TestMisspeltChoices(t *testing.T) {
	const site, global = "example.com {\n%s\nrespond hello\n}\n", "{\nlarder {\n%s\n}\n}\n"
	asked := make(map[string]bool)
	for _, tt := range []struct{ file, lines, misspelt, meant string }{
		{site, "larder {\n%s\n}", "client_directives obay", "obey"},
		{site, "larder {\n%s\n}", "ignore Cache-Contrl", "Cache-Control"},
		{site, "larder {\n%s\n}", "methods GET HED", "HEAD"},
		{site, "larder {\n%s\n}", "methods get", "GET"},
		{site, "larder {\n%s\n}", "set_cookie stirp", "strip"},
		{site, "larder {\n%s\n}", "status ful", "full"},
		{site, "larder {\n%s\n}", "keep unlimted", "unlimited"},
		{site, "larder {\n%s\n}", "stale_if_error unlimted 503", "unlimited"},
		{site, "larder {\n%s\n}", "slice of", "off"},
		{site, "larder {\n%s\n}", "refresh_early of", "off"},
		{site, "larder {\n%s\n}", "coalesce wiat 10s", "wait"},
		{site, "larder {\n%s\n}", "coalesce of", "off"},
		{site, "larder {\nkey {\n%s\n}\n}", "query ingore utm_*", "ignore"},
		{site, "larder {\nkey {\n%s\n}\n}", "query onlyy a", "only"},
		{site, "larder {\nkey {\n%s\n}\n}", "query srot", "sort"},
		{site, "larder {\npurge_method {\n%s\n}\n}", "allow private_range", "private_ranges"},
		{site, "larder {\nbatch /p/{id} {\nurl /p?ids={ids}\n%s\n}\n}", "missing singel", "single"},
		{site, "%s", "larder tll 5m", "ttl"},
		{global, "%s", "eviction lruu", "lru"},
		{global, "%s", "compress zst", "zstd"},
		{global, "shared redis://localhost {\n%s\n}", "lost serv 10s", "serve"},
		{global, "shared redis://localhost {\n%s\n}", "lost validat", "validate"},
		{global, "%s", "shared redi://localhost", "redis"},
		{global, "zone shop {\n%s\n}", "eviction ffo", "fifo"},
		{"{\nlarder {\nzone shop\n}\n}\n" + site, "larder {\n%s\n}", "zone shpo", "shop"},
	} {
		asked[strings.Fields(tt.misspelt)[0]] = true
		file := fmt.Sprintf(tt.file, fmt.Sprintf(tt.lines, tt.misspelt))
		if err := adapt(t, file); !strings.Contains(err, "; did you mean "+tt.meant+"? Write ") {
			t.Errorf("%s: %s", tt.misspelt, err)
		}
	}
	for _, b := range grammar() {
		for _, w := range b.words {
			// Both of on and off are told.
			usage := regexp.MustCompile(`<[^>]*>/?|on\|off`).ReplaceAllString(w.usage, "")
			if (strings.Contains(usage, "|") || len(w.next) > 0) && w.name != "disk" && !asked[w.name] {
				t.Errorf("%s: no misspelt word stands behind %s", b.name, w.name)
			}
		}
	}
}

// TestOffForDisk: a word that was to turn the disk off was taken for the name of a folder.
func TestOffForDisk(t *testing.T) {
	for _, text := range []string{"Off", "of", "no", "none", "false", "0", "on"} {
		if got := adapt(t, "{\n\tlarder {\n\t\tdisk "+text+"\n\t}\n}\n"); !strings.Contains(got, "is no folder; write disk <folder> [<size>], or disk off") {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// TestSizeForFolder: a size with a comma in the place of the folder became a folder of that name.
func TestSizeForFolder(t *testing.T) {
	for _, text := range []string{"1GiB", "1,5GiB", "1,500MiB", "10737418240"} {
		if got := adapt(t, "{\nlarder {\ndisk "+text+"\n}\n}\n"); !strings.Contains(got, `"`+text+`" is no folder; write disk <folder> [<size>]`) {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// TestNumbersWithoutUnit: a number above 32 bits, or one with a fraction, passed as bytes.
func TestNumbersWithoutUnit(t *testing.T) {
	for line, want := range map[string]string{
		"memory 8589934592":                       `memory: "8589934592" has no unit; write 8589934592B if these are bytes`,
		"disk /x 10737418240":                     `disk: "10737418240" has no unit; write 10737418240B if these are bytes`,
		"max_body 1.5":                            `max_body: "1.5" has no unit; write 1.5MiB`,
		"max_body 100000000000.5":                 `max_body: "100000000000.5" has no unit`,
		`max_body "64 "`:                          `max_body: "64 " has no unit`,
		"shared redis://h {\nfence 1.5\n}":        `fence: "1.5" has no unit; write 1.5s if these are seconds`,
		"shared redis://h {\nfence 8589934592\n}": `fence: "8589934592" has no unit`,
		"shared redis://h {\nfence 1,500s\n}":     `fence: "1,500s" has a comma; write 1500s`,
		"shared redis://h {\nfence 1,5s\n}":       `fence: "1,5s" has a comma; write 1.5s`,
		"shared redis://h {\nfence 1m,30s\n}":     `fence: "1m,30s" has a comma; write 1m30s`, // was 1m.30s
		"shared redis://h {\nfence 1m,1,5s\n}":    `fence: "1m,1,5s" has a comma; write 1m1.5s`,
	} {
		if got := adapt(t, "{\nlarder {\n"+line+"\n}\n}\n"); !strings.Contains(got, want) {
			t.Errorf("%s: %s", line, got)
		}
	}
}

// TestSecondWordsAlone: a word that stands behind another, alone on its line, was said to belong to
// another block, or to be unknown.
func TestSecondWordsAlone(t *testing.T) {
	for line, want := range map[string]string{
		"key {\nignore utm_*\n}": "ignore stands behind query in key; write query sort, query ignore",
		"key {\nsort\n}":         "sort stands behind query in key",
		"wait 10s":               "wait stands behind coalesce in larder; write coalesce off, or coalesce wait <duration>",
	} {
		if got := adapt(t, "example.com {\nlarder {\n"+line+"\n}\nrespond hello\n}\n"); !strings.Contains(got, want) {
			t.Errorf("%s: %s", line, got)
		}
	}
}
