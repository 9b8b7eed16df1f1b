// Package browser has no code of its own. Its tests open the dashboard in a Chromium, against the
// binary of cmd/caddy, with a Caddy behind it or with an admin API of figures that are made up.
//
// It is a module of its own, so that go.mod of Larder does not name what drives the browser: who
// builds Larder neither downloads nor audits it. It imports nothing of Larder's and needs none of
// its requirements.
//
//	LARDER_CHROMIUM=required go test ./...   fails where there is no Chromium, instead of skipping
//	LARDER_AXE=<file>                        axe.js of axe-core, whose rules the page is held to
//	go test -run TestScreenshots -screenshots ../../docs   makes those of docs/dashboard.md
package browser
