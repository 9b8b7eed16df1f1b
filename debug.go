package larder

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	cfg "github.com/larder-cache/larder/caddyfile"
)

// debugField carries the secret of the global option debug. No handler behind Larder sees it, with
// the right secret or a wrong one, and no key has it: it is taken out before anything is read.
const debugField = "Larder-Debug"

// debugSecret is the secret, as a hash of it: to compare hashes takes the same time for secrets of
// any length.
type debugSecret struct {
	sum   [sha256.Size]byte
	known bool
}

// newDebugSecret returns the secret of a configuration, which may have placeholders in it.
func newDebugSecret(text string) (debugSecret, error) {
	if text == "" {
		return debugSecret{}, nil
	}
	secret, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return debugSecret{}, fmt.Errorf("debug: %w", err)
	}
	if secret == "" {
		return debugSecret{}, errors.New("debug: the secret is empty; set what its placeholder stands for")
	}
	return debugSecret{sha256.Sum256([]byte(secret)), true}, cfg.CheckDebug(secret)
}

// isIn reports whether a request's header has the secret.
func (s *debugSecret) isIn(h http.Header) bool {
	if !s.known { // as nearly always, and a look-up costs more
		return false
	}
	values := h[debugField]
	if len(values) != 1 {
		return false
	}
	sum := sha256.Sum256([]byte(values[0]))
	return subtle.ConstantTimeCompare(sum[:], s.sum[:]) == 1
}
