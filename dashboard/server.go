package dashboard

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"path"
	"time"
)

// Options are what a Server needs.
type Options struct {
	// Admin sends a request to the admin API. Scheme and host of the URL are made up; the
	// RoundTripper knows where the API is.
	Admin http.RoundTripper
	// Address is where that is, as the page and errors name it.
	Address string
	// Hosts are the names and addresses by which the server may be called, next to localhost and
	// the loopback addresses. They have no port and are in lower case.
	Hosts []string
	// AnyAddress accepts every IP address as the host too: the server listens on all of them.
	// A name that is rebound is no address.
	AnyAddress bool
}

// Server serves the page, and passes calls on to the admin API. It is an http.Handler.
type Server struct {
	options Options
	token   string
	digest  [sha256.Size]byte // of the token
	files   map[string]file   // by path
}

// New returns a Server with a token of its own.
func New(options Options) *Server {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	token := hex.EncodeToString(random)
	return &Server{options: options, token: token, digest: sha256.Sum256([]byte(token)), files: page}
}

// URL returns what the operator opens: the page's address, with the token in the fragment.
func (s *Server) URL(address net.Addr) string {
	return "http://" + address.String() + "/#token=" + s.token
}

// Serve answers requests until ctx ends, and then ends those under way.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setSecurityHeaders(w.Header())
	if refused := s.admit(r); refused != nil {
		refused.write(w)
		return
	}
	if isAPI(r.URL.Path) {
		s.serveAPI(w, r)
		return
	}
	s.serveFile(w, r)
}

// contentSecurityPolicy allows what the page is made of and nothing else: no inline script or
// style, nothing from elsewhere, no frame around it, no text that becomes HTML or a script.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

//go:embed static
var static embed.FS

// file is a file of the page.
type file struct {
	content     []byte
	contentType string
	etag        string
}

// page has the files by the path at which they are served.
var page = readPage()

func readPage() map[string]file {
	files := map[string]file{}
	err := fs.WalkDir(static, "static", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := static.ReadFile(name)
		sum := sha256.Sum256(content)
		files["/"+name] = file{content, typeOf(name), `"` + hex.EncodeToString(sum[:8]) + `"`}
		return err
	})
	if err != nil {
		panic(err) // what is embedded can be read
	}
	files["/"] = files["/static/index.html"]
	delete(files, "/static/index.html")
	return files
}

// typeOf asks no table of the system: a wrong one would keep the browser from running the page.
func typeOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.FormatMediaType("text/plain", map[string]string{"charset": "utf-8"})
}

func (s *Server) serveFile(w http.ResponseWriter, r *http.Request) {
	f, found := s.files[r.URL.Path]
	if !found {
		refuse(http.StatusNotFound, "The dashboard has no such page; it is at /.").write(w)
		return
	}
	if refused := allowMethods(r, http.MethodGet, http.MethodHead); refused != nil {
		refused.write(w)
		return
	}
	header := w.Header()
	header.Set("Content-Type", f.contentType)
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", f.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
