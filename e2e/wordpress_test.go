//go:build linux

package e2e

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWordPress runs Debian's WordPress behind the example for it, as visitors, a member and a
// newcomer use it. It needs Debian's packages wordpress, mariadb-server, php-cli and php-mysql, and
// is run by .ci/long, which sets LARDER_WORDPRESS.
func TestWordPress(t *testing.T) {
	if os.Getenv("LARDER_WORDPRESS") == "" {
		t.Skip("LARDER_WORDPRESS is not set")
	}
	site, origin := freePort(t), freePort(t)
	wp := newWordPress(t, fmt.Sprintf("http://localhost:%d", site), origin)
	loadExample(t, example(t, "logins"), site, origin)

	t.Run("visitors share", wp.visitorsShare)
	t.Run("log in", wp.logIn)
	t.Run("comment", wp.comment)
	t.Run("reset", wp.reset)
	t.Run("register", wp.register)
	t.Run("nothing of it is shared", wp.visitorsShare)
}

const (
	wpPassword    = "correct horse battery staple 1"
	wpNewPassword = "another horse, another staple 2"
)

// wordPress is an installed site, with the folder in which its mail arrives.
type wordPress struct {
	url, dir string
}

// newWordPress installs WordPress, with a database of its own, and serves it on a port. Its pages
// say that they stand at url.
func newWordPress(t *testing.T, url string, port int) *wordPress {
	t.Helper()
	wp := &wordPress{url: url, dir: t.TempDir()}
	socket := wp.database(t)
	run(t, "cp", "-rL", "--no-preserve=mode", "/usr/share/wordpress", wp.file("www"))
	wp.write(t, "www/wp-config.php", fmt.Sprintf(`<?php
define('DB_NAME', 'wordpress'); define('DB_USER', 'root'); define('DB_PASSWORD', ''); define('DB_HOST', 'localhost:%s');
define('DB_CHARSET', 'utf8'); define('DB_COLLATE', ''); $table_prefix = 'wp_';
define('WP_HOME', '%s'); define('WP_SITEURL', '%[2]s');
define('WP_HTTP_BLOCK_EXTERNAL', true); define('DISABLE_WP_CRON', true); define('AUTOMATIC_UPDATER_DISABLED', true);
foreach (['AUTH', 'SECURE_AUTH', 'LOGGED_IN', 'NONCE'] as $k) { define($k . '_KEY', 'k' . $k); define($k . '_SALT', 's' . $k); }
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
`, socket, url))
	wp.write(t, "www/wp-content/mu-plugins/sender.php", `<?php
add_filter('wp_mail_from', function () { return 'wordpress@example.com'; });
add_filter('wp_is_comment_flood', '__return_false', 99);
`)
	wp.write(t, "sendmail", "#!/bin/sh\ncat >>"+wp.file("mail")+"\n")
	wp.write(t, "install.php", `<?php
define('WP_INSTALLING', true); $_SERVER['HTTP_HOST'] = 'localhost';
require __DIR__ . '/www/wp-load.php'; require ABSPATH . 'wp-admin/includes/upgrade.php';
wp_install('Larder', 'admin', 'admin@example.com', true, '', '`+wpPassword+`');
update_option('users_can_register', 1); update_option('comment_previously_approved', 0); update_option('show_comments_cookies_opt_in', 1);
`)
	php := []string{"-d", "sendmail_path=" + wp.file("sendmail"), "-d", "display_errors=0"}
	run(t, "php", append(php, wp.file("install.php"))...)
	cmd := exec.Command("php", append(php, "-S", fmt.Sprintf("localhost:%d", port), "-t", wp.file("www"))...)
	cmd.Env = append(os.Environ(), "PHP_CLI_SERVER_WORKERS=4")
	wp.background(t, cmd)
	eventually(t, "WordPress answers", func() bool {
		resp, err := http.Get(fmt.Sprintf("http://localhost:%d/readme.html", port))
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	})
	wp.takeMail(t) // about the installation
	return wp
}

// database starts a MariaDB with an empty database, and returns its socket.
func (wp *wordPress) database(t *testing.T) string {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	socket, data := wp.file("db.sock"), "--datadir="+wp.file("db")
	run(t, "mariadb-install-db", data, "--user="+me.Username, "--auth-root-authentication-method=normal", "--skip-test-db")
	wp.background(t, exec.Command("/usr/sbin/mariadbd", "--no-defaults", data, "--user="+me.Username, "--socket="+socket,
		"--skip-networking", "--pid-file="+wp.file("db.pid")))
	eventually(t, "the database answers", func() bool {
		return exec.Command("mariadb-admin", "--no-defaults", "--user=root", "--socket="+socket, "ping").Run() == nil
	})
	run(t, "mariadb", "--no-defaults", "--user=root", "--socket="+socket, "-e", "CREATE DATABASE wordpress")
	return socket
}

func (wp *wordPress) file(name string) string { return filepath.Join(wp.dir, name) }

func (wp *wordPress) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(wp.file(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(wp.file(name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// background starts a program and ends it, with what it has started, when the test ends.
func (wp *wordPress) background(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

// takeMail waits for mail and returns it, once.
func (wp *wordPress) takeMail(t *testing.T) string {
	t.Helper()
	var mail []byte
	eventually(t, "mail comes", func() bool {
		mail, _ = os.ReadFile(wp.file("mail"))
		return len(mail) > 0
	})
	if err := os.Remove(wp.file("mail")); err != nil {
		t.Fatal(err)
	}
	return string(mail)
}

// browser is one person's, with cookies of analytics from the start.
type browser struct {
	*http.Client
	t  *testing.T
	wp *wordPress
}

func (wp *wordPress) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(wp.url)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(u, []*http.Cookie{{Name: "_ga", Value: "GA1.1.2.3"}})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{Client: &http.Client{Jar: jar, Transport: transport, Timeout: time.Minute}, t: t, wp: wp}
}

// page is what a browser shows in the end, after all redirects.
type page struct {
	at          string // its URL
	text        string
	cacheStatus string
}

func (b *browser) get(target string) page {
	b.t.Helper()
	resp, err := b.Get(b.wp.absolute(target))
	return b.page(resp, err)
}

func (b *browser) post(target string, fields ...string) page {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	resp, err := b.PostForm(b.wp.absolute(target), form)
	return b.page(resp, err)
}

func (wp *wordPress) absolute(target string) string {
	if strings.HasPrefix(target, "http://") {
		return target
	}
	return wp.url + target
}

func (b *browser) page(resp *http.Response, err error) page {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return page{at: resp.Request.URL.String(), text: string(text), cacheStatus: resp.Header.Get("Cache-Status")}
}

// shows fails the test unless a page has the text.
func (p page) shows(t *testing.T, text string) {
	t.Helper()
	if !strings.Contains(p.text, text) {
		t.Fatalf("%s does not show %q (Cache-Status %q):\n%s", p.at, text, p.cacheStatus, p.text)
	}
}

// own fails the test if a page that is for one person has to do with the store.
func (p page) own(t *testing.T) {
	t.Helper()
	if strings.Contains(p.cacheStatus, "hit") || strings.Contains(p.cacheStatus, "stored") {
		t.Errorf("%s: Cache-Status %q", p.at, p.cacheStatus)
	}
}

// visitorsShare has two people come who have not signed in.
func (wp *wordPress) visitorsShare(t *testing.T) {
	for _, path := range []string{"/", "/?p=1"} {
		wp.browser(t).get(path)
		p := wp.browser(t).get(path)
		if !strings.HasPrefix(p.cacheStatus, "Larder; hit") {
			t.Errorf("%s: a second visitor: %q", path, p.cacheStatus)
		}
		p.shows(t, "Hello world!")
		for _, secret := range []string{"wpadminbar", "Log Out", "logged-in"} {
			if strings.Contains(p.text, secret) {
				t.Errorf("%s: a visitor sees a member's page: %q is in it", path, secret)
			}
		}
	}
}

// signIn logs in at the form, as a browser would.
func (b *browser) signIn(name, pass string) page {
	b.t.Helper()
	b.get("/wp-login.php").own(b.t)
	p := b.post("/wp-login.php", "log", name, "pwd", pass, "testcookie", "1", "redirect_to", b.wp.absolute("/wp-admin/profile.php"))
	p.own(b.t)
	return p
}

func (wp *wordPress) logIn(t *testing.T) {
	b := wp.browser(t)
	b.signIn("admin", "wrong").shows(t, "The password you entered for the username")
	p := b.signIn("admin", wpPassword)
	p.shows(t, "admin@example.com")
	for range 2 {
		p = b.get("/")
		p.shows(t, "wpadminbar")
		p.own(t)
	}
	// It is still a login form to others.
	wp.browser(t).get("/wp-admin/").shows(t, "Lost your password?")
	out := regexp.MustCompile(`href=['"]([^'"]*action=logout[^'"]*)`).FindStringSubmatch(p.text)
	if out == nil {
		t.Fatalf("no link to log out in %s", p.text)
	}
	b.get(html.UnescapeString(out[1])).shows(t, "You are now logged out.")
	if p = b.get("/"); strings.Contains(p.text, "wpadminbar") {
		t.Error("logged out, and the page still shows a member")
	}
}

// comment is written by somebody whose name WordPress keeps in a cookie, and by somebody who does
// not want that.
func (wp *wordPress) comment(t *testing.T) {
	for i, keep := range []string{"yes", ""} {
		b, text := wp.browser(t), fmt.Sprintf("What I have to say, part %d.", i+1)
		wp.browser(t).get("/?p=1")
		fields := []string{"comment_post_ID", "1", "comment_parent", "0", "author", "Eve", "email", fmt.Sprintf("eve%d@example.com", i), "comment", text}
		if keep != "" {
			fields = append(fields, "wp-comment-cookies-consent", keep)
		}
		b.post("/wp-comments-post.php", fields...).shows(t, text)
		if p := b.get("/?p=1"); keep != "" {
			p.own(t)
			p.shows(t, `value="Eve"`) // from the cookie
		}
		p := wp.browser(t).get("/?p=1") // the comment has dropped the page that was stored
		p.shows(t, text)
		if strings.Contains(p.text, `value="Eve"`) {
			t.Error("a visitor sees another's name in the form")
		}
	}
}

// choose follows the link in a mail to the form for a new password, which WordPress gives only to
// those who come back with its cookie.
func (b *browser) choose(mail, pass string) {
	b.t.Helper()
	mail = strings.ReplaceAll(strings.ReplaceAll(mail, "=\r\n", ""), "=\n", "")
	link := regexp.MustCompile(regexp.QuoteMeta(b.wp.url) + `/wp-login\.php\?action=rp[^\s>]*`).FindString(mail)
	if link == "" {
		b.t.Fatalf("no link in the mail:\n%s", mail)
	}
	form := b.get(link)
	form.own(b.t)
	key := regexp.MustCompile(`name="rp_key" value="([^"]+)"`).FindStringSubmatch(form.text)
	if key == nil {
		b.t.Fatalf("the link in the mail leads to %s, which is no form for a password (Cache-Status %q):\n%s", form.at, form.cacheStatus, form.text)
	}
	b.post("/wp-login.php?action=resetpass", "pass1", pass, "pass2", pass, "pw_weak", "on", "rp_key", html.UnescapeString(key[1])).
		shows(b.t, "Your password has been reset.")
}

func (wp *wordPress) reset(t *testing.T) {
	b := wp.browser(t)
	b.get("/wp-login.php?action=lostpassword").own(t)
	b.post("/wp-login.php?action=lostpassword", "user_login", "admin").shows(t, "Check your email")
	b.choose(wp.takeMail(t), wpNewPassword)
	b.signIn("admin", wpPassword).shows(t, "The password you entered for the username")
	wp.browser(t).signIn("admin", wpNewPassword).shows(t, "admin@example.com")
}

func (wp *wordPress) register(t *testing.T) {
	b := wp.browser(t)
	b.get("/wp-login.php?action=register").own(t)
	b.post("/wp-login.php?action=register", "user_login", "newcomer", "user_email", "newcomer@example.com").shows(t, "Registration complete")
	b.choose(wp.takeMail(t), wpNewPassword)
	p := b.signIn("newcomer", wpNewPassword)
	p.shows(t, "newcomer@example.com")
}
