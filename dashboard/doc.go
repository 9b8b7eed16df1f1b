// Package dashboard serves the page on which an operator sees what Larder does: a server on
// loopback, in front of the admin API of a running Caddy.
//
// # Where to read
//
//	server.go   the server and the files of the page
//	guard.go    which requests are refused, and by what sentence
//	api.go      which calls of the admin API are passed on
//	listen.go   on which addresses it listens
//	command.go  `caddy larder dashboard`
//	static/     the page: HTML, CSS and ES modules, as they are; nothing is built
//
// # Why a server of its own
//
// Caddy's admin listener refuses what a browser sends (Sec-Fetch-Mode, a Referer), and rightly: any
// page on the web could otherwise send it a configuration. The dashboard's server is a browser's
// way to eight calls below /larder/, and to nothing else. /load, /config and the rest of the admin
// API are out of its reach: a table has what is passed on.
//
// # Who may call
//
// Three things keep out the pages that the operator's browser has open, and the other users of the
// machine:
//
//   - Host must name this server: localhost, a loopback address, or the host of --listen. A page
//     whose name is rebound to 127.0.0.1 sends its own name (DNS rebinding).
//   - Origin must be this server's own where there is one, and Sec-Fetch-Site must not say that
//     another site asks (CSRF). The port in them is the one that the browser sees, so the dashboard
//     works through `ssh -L` with any port.
//   - Every call of the admin API carries the token, compared in constant time. It has 256 bits, is
//     made at the start, and ends with the process.
//
// # Why the token is a header and no cookie
//
// The URL that the command prints carries the token in its fragment, which a browser sends to no
// server. The page moves it to the tab's session storage, takes it out of the address bar, and
// sends it as Authorization: Bearer. A cookie would be easier and weaker, because cookies know no
// ports: every other server on localhost that the same browser visits would be sent it, and could
// set it. The attribute that keeps a cookie to its site does not help either, since two ports of
// localhost are the same site. Session storage belongs to one origin with its port, and to one tab;
// a request that the page's own script did not make carries no token, so that CSRF finds nothing to
// ride on. What a script in the page could steal it could also do at once; the
// Content-Security-Policy allows no script but the embedded files, and Trusted Types refuse every
// text that would become HTML.
//
// So the page's own files are served to those who have no token. They are the same for everyone and
// tell nothing. Without a token the page says where to find the URL that has one.
package dashboard
