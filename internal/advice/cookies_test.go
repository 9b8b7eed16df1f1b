package advice

import (
	"regexp"
	"testing"
)

// TestAnalyticsAreWholeNames: what is taken out of requests is named by analytics, and is no cookie
// of a site that begins as one.
func TestAnalyticsAreWholeNames(t *testing.T) {
	is := regexp.MustCompile(`^(` + Analytics + `)$`).MatchString
	for _, name := range []string{"_ga", "_ga_3X7QW1", "_gac_UA-12-1", "_gat", "_gat_gtag_UA_12_1", "_gid", "_gcl_au", "_fbp", "_pk_id", "_hjSession_1", "__utma", "_uetsid"} {
		if !is(name) {
			t.Errorf("%s is a cookie of analytics", name)
		}
	}
	for _, name := range []string{"_gallery_session", "_gateway", "_gated", "_garage_id", "_gidget", "_fbx", "session", "ga"} {
		if is(name) {
			t.Errorf("%s is a cookie of a site", name)
		}
	}
}
