package migrate

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/larder-cache/larder/migrate/rewrite"
)

// optionLines are lines of a cache block: each kind of option, as documents and public files have
// it.
var optionLines = []string{
	"ttl 5s", "ttl 1000s", "ttl 1h30m", "ttl 0s", "ttl 3d", "ttl", `ttl "10m"`, "stale 200s", "stale 0.5s", "stale never",
	"default_cache_control no-store", "default_cache_control public", "default_cache_control public, max-age=60",
	"default_cache_control \"s-maxage=0\"", "default_cache_control `a\"b`", "default_cache_control stale-while-revalidate=5,max-age=1",
	"mode strict", "mode bypass", "mode bypass_request", "mode bypass_response", "mode x",
	"max_cacheable_body_bytes 1", "max_cacheable_body_bytes 67108865", "max_cacheable_body_bytes 18446744073709551615", "max_cacheable_body_bytes many",
	"allowed_http_verbs GET POST", "allowed_http_verbs get head query", "allowed_http_verbs POST PUT", "allowed_http_verbs",
	"allowed_additional_status_codes 202 206 404 99 x", "allowed_additional_status_codes 418",
	"regex {\n exclude /a.*\n}", "regex {\n exclude `^/(b|c)$`\n include /d\n}", "regex",
	"headers Authorization X-A", "headers x-a X-A", "headers \"not a name\" `#`",
	"key {\n disable_body\n disable_host\n disable_method\n disable_query\n disable_scheme\n disable_vary\n}",
	"key {\n hash\n hide\n sort_query\n headers X-B x-b\n}", "key {\n template {http.request.method}-{http.request.host}\n}", "key {\n template \"a b\"\n template\n}", "key",
	"cache_keys {\n /e.* {\n headers X-C Authorization\n template x\n disable_vary\n hide\n }\n .+\\.css {\n disable_query\n }\n}",
	"api {\n basepath /x\n souin\n prometheus\n}", "api", "cdn {\n provider fastly\n api_key k\n dynamic\n}", "log_level debug", "cache_name Pages",
	"timeout {\n backend 10s\n cache 100ms\n}", "storers otter redis", "disable_coalescing", "disable_surrogate_key", "mapping_eviction_interval 1h", "unknown a b",
	"badger {\n path /x.json\n}", "badger {\n configuration {\n Dir /tmp/badger\n InMemory\n }\n}", "badger {\n configuration {\n Dir `/a b/`\n ValueThreshold 1\n }\n}",
	"nuts {\n path ./nuts\n}", "nuts {\n configuration {\n Dir {$NUTS}\n }\n}", "simplefs {\n path /f\n configuration {\n size 5\n directory_size 100\n }\n}", "simplefs {\n configuration {\n path /g\n directory_size 4294967296\n }\n}",
	"otter", "otter {\n configuration {\n size 100\n }\n}", "olric {\n url olric:3320\n}", "etcd {\n configuration {\n Endpoints a:1 b:2\n }\n}", "nats {\n url nats://x:4222\n}",
	"redis {\n url 127.0.0.1:6379\n}", "redis {\n url redis://a:1/2\n}", "redis {\n configuration {\n Addrs a.b:6379\n Username u@v\n Password p:/?#[]@\n SelectDB 15\n }\n}",
	"redis {\n configuration {\n InitAddress h:1 i:2\n }\n}", "redis {\n configuration {\n Addrs h:1\n DB x\n }\n}", "redis {\n configuration {\n Addrs h:99999\n MasterName m\n }\n}", "redis {\n url h:99999\n}", "redis",
	"import gone.conf", "import words", "# a comment \\",
}

// TestAnyOptions adapts what becomes of options that are drawn, the same in each run, in the global
// option and in sites, with matchers of all kinds.
func TestAnyOptions(t *testing.T) {
	const rounds = 40
	random := rand.New(rand.NewPCG(23, rounds))
	draw := func(lines []string) string { return lines[random.IntN(len(lines))] }
	options := func() string {
		var b strings.Builder
		for range random.IntN(6) {
			b.WriteString("\n\t" + draw(optionLines))
		}
		return " {" + b.String() + "\n}\n"
	}
	matchers := []string{"", " *", " /p/*", " @m", " @n", " @o"}
	for range rounds {
		text := "(words) {\n\tttl 7s\n\tstale 1s\n}\n{\n\torder cache first\n" + draw([]string{"", "cache\n", "cache" + options()}) + "}\n"
		for i := range 2 {
			text += fmt.Sprintf("s%d.example {\n@m path /m\n@n {\n\tmethod GET\n\tpath /n\n}\n@o `path('/o')`\ncache%s%shandle /h {\ncache%s%s}\n}\n",
				i, draw(matchers), options(), draw(matchers), options())
		}
		result, err := rewrite.Caddyfile([]byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		expectAdapts(t, string(result.Text))
		expectMigrated(t, result.Text)
		if t.Failed() {
			t.Fatalf("it was\n%s", text)
		}
	}
}
