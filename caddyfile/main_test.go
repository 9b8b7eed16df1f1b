package caddyfile_test

import (
	"os"
	"testing"

	"github.com/larder-cache/larder/caddyfile/caddyfiletest"
)

func TestMain(m *testing.M) {
	caddyfiletest.Register()
	os.Exit(m.Run())
}
