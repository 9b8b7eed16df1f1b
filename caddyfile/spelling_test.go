package caddyfile

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestWordsOfOtherCaches: proxy_cache_valid, pass, edge_ttl, mode and others were answered with
// nothing but the list of all words.
func TestWordsOfOtherCaches(t *testing.T) {
	p := &handlerParser{}
	for text, want := range map[string]string{
		"proxy_cache_valid": "ttl, ", "fastcgi_cache_valid": "ttl, ", "edge_ttl": "ttl, ", "Edge-TTL": "ttl, ",
		"proxy_cache_bypass": "a matcher: ", "proxy_no_cache": "a matcher: ", "pass": "a matcher: ",
		"proxy_cache_use_stale": "stale_if_error, ", "proxy_cache_background_update": "stale_while_revalidate, ",
		"proxy_cache_key": "key, ", "hash_data": "key, ", "proxy_cache_path": "memory and disk, ", "keys_zone": "memory and disk, ",
		"proxy_cache_lock": "what is so ", "proxy_cache_lock_age": "coalesce wait, ", "proxy_cache_methods": "methods",
		"proxy_pass": "a handler behind larder, ", "fastcgi_pass": "a handler behind larder, ",
		"proxy_ignore_headers": "ignore", "proxy_cache_purge": "purge_method", "mode": "client_directives ", "api": "nothing: ",
		"swr": "stale_while_revalidate, ", "sie": "stale_if_error, ", "cache_ttl": "ttl, ", "ignore_query": "query ignore, ",
	} {
		_, err := findWord(text, directiveWords, p.words())
		if err == nil || !strings.Contains(err.Error(), "; here that is "+want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	for _, ours := range []string{"ttl", "key", "proxy_", "proxy_cache", "proxy_pass_header", "stale"} {
		if words := foreign(ours); words != "" {
			t.Errorf("%s is %s", ours, words)
		}
	}
}

// TestWordsOfOtherCachesInKey: ignore_query in key was answered with the list of words alone.
func TestWordsOfOtherCachesInKey(t *testing.T) {
	p := &handlerParser{}
	_, err := findWord("ignore_query", "key", p.keyWords(&KeyConfig{}))
	if err == nil || !strings.Contains(err.Error(), "; here that is query ignore, ") {
		t.Error(err)
	}
}

// TestUnitsApart: `ttl 5 minutes` was answered with 5s.
func TestUnitsApart(t *testing.T) {
	for args, want := range map[string]string{
		"5 minutes": "5m", "10 min 404": "10m", "5Minutes": "5m", "1 hour": "1h", "256 MiB": "256MiB", "./cache 1 GB": "1GB",
		"5": "", "5m": "", "1GiB /var/lib/larder": "", "minutes": "", "5 404": "", "1.5 hours": "", "": "",
	} {
		if got := unitApart(strings.Fields(args)); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}

// TestWordsOfThePage: each word in the table of docs/configuration.md is known to the program.
func TestWordsOfThePage(t *testing.T) {
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(strings.ReplaceAll(string(page), "\r\n", "\n"), "| a word of other caches | here |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	found := 0
	for row := range strings.Lines(table) {
		theirs := strings.Split(row, "|")[1]
		for _, match := range regexp.MustCompile("`([a-z_]+)").FindAllStringSubmatch(theirs, -1) {
			found++
			if foreign(match[1]) == "" {
				t.Errorf("%s is not known", match[1])
			}
		}
	}
	if found < 9 {
		t.Errorf("%d words in the table", found)
	}
}
