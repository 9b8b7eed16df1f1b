package purge

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http/httptest"
	"reflect"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// logCase is a purge and the line that is logged of it.
type logCase struct {
	name      string
	subject   string // of the client certificate, if any
	selectors Selectors
	err       error
	level     zapcore.Level
	message   string
	want      map[string]any
}

func TestLogPurge(t *testing.T) {
	many := make([]string, 25)
	for i := range many {
		many[i] = fmt.Sprint("t", i)
	}
	var first20 []any
	for _, tag := range many[:20] {
		first20 = append(first20, tag)
	}
	for _, tc := range []logCase{
		{
			name:      "by address",
			selectors: Selectors{Tags: []string{"a"}, Hosts: []string{"h"}, Soft: true},
			level:     zapcore.InfoLevel, message: "purge",
			want: map[string]any{"remote_addr": "192.0.2.1:1234", "tags": []any{"a"}, "hosts": []any{"h"}, "all": false, "soft": true, "dry_run": false, "matched": int64(7)},
		},
		{
			name: "by certificate", subject: "deploy",
			selectors: Selectors{URLs: []string{"u"}, Prefixes: []string{"p"}, All: true, DryRun: true},
			level:     zapcore.InfoLevel, message: "purge",
			want: map[string]any{"remote_addr": "192.0.2.1:1234", "client_certificate": "CN=deploy", "urls": []any{"u"}, "prefixes": []any{"p"}, "all": true, "soft": false, "dry_run": true, "matched": int64(7)},
		},
		{
			name:      "many selectors",
			selectors: Selectors{Tags: many},
			level:     zapcore.InfoLevel, message: "purge",
			want: map[string]any{"remote_addr": "192.0.2.1:1234", "tags": append(first20, "… and 5 more"), "all": false, "soft": false, "dry_run": false, "matched": int64(7)},
		},
		{
			name:      "failed",
			selectors: Selectors{All: true},
			err:       errors.New("disk full"),
			level:     zapcore.ErrorLevel, message: "purge failed",
			want: map[string]any{"remote_addr": "192.0.2.1:1234", "all": true, "soft": false, "dry_run": false, "matched": int64(7), "error": "disk full"},
		},
	} {
		t.Run(tc.name, tc.check)
	}
}

func (tc logCase) check(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	r := httptest.NewRequest("POST", "/larder/purge", nil)
	if tc.subject != "" {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: tc.subject}}
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	}
	logPurge(zap.New(core), r, tc.selectors, Purged{Matched: 7}, tc.err)

	if logs.Len() != 1 {
		t.Fatalf("%d log lines, want 1", logs.Len())
	}
	line := logs.All()[0]
	if line.Level != tc.level || line.Message != tc.message {
		t.Errorf("logged %s %q, want %s %q", line.Level, line.Message, tc.level, tc.message)
	}
	if got := line.ContextMap(); !reflect.DeepEqual(got, tc.want) {
		t.Errorf("fields %v, want %v", got, tc.want)
	}
}
