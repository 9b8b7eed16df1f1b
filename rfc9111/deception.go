package rfc9111

import (
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// typesOf says which media types a file of an extension can have: one type ("text/css"), or all
// that begin so ("image/*"). To the guard, an extension that is not listed here is none of a file.
var typesOf = func() map[string][]string {
	script := []string{"text/javascript", "application/javascript", "application/x-javascript", "text/ecmascript", "application/ecmascript"}
	data := []string{"application/json", "text/json", "application/manifest+json", "application/geo+json"}
	image := []string{"image/*", "video/*"} // negotiated: a .gif may come as a film
	media := []string{"audio/*", "video/*", "application/ogg", "application/vnd.apple.mpegurl", "application/dash+xml"}
	font := []string{"font/*", "application/font*", "application/x-font*", "application/vnd.ms-fontobject"}
	archive := []string{"application/zip", "application/gzip", "application/x-*", "application/vnd.*"}
	types := make(map[string][]string)
	for extensions, list := range map[string][]string{
		"css":                                 {"text/css"},
		"js mjs cjs":                          script,
		"json map webmanifest":                data,
		"txt":                                 {"text/plain"},
		"csv":                                 {"text/csv", "text/plain"},
		"xml":                                 {"application/xml", "text/xml", "application/rss+xml", "application/atom+xml"},
		"wasm":                                {"application/wasm"},
		"pdf":                                 {"application/pdf"},
		"png jpg jpeg gif webp avif ico bmp":  image,
		"svg tif tiff heic jxl":               image,
		"woff woff2 ttf otf eot":              font,
		"mp3 mp4 m4a ogg oga ogv wav webm":    media,
		"flac aac mov avi mkv m3u8 mpd":       media,
		"zip gz tgz bz2 xz 7z rar jar apk":    archive,
		"exe dmg iso deb rpm msi":             archive,
		"doc docx xls xlsx ppt pptx odt epub": {"application/msword", "application/vnd.*", "application/epub+zip"},
	} {
		for extension := range strings.FieldsSeq(extensions) {
			types[extension] = list
		}
	}
	return types
}()

// ExtensionAgrees reports whether the extension at the end of rawURL and the Content-Type can be
// those of one file. It is a guard against web cache deception: a victim is led to /account/x.css,
// the origin answers with the account, and something in front of it has called all that ends in
// .css public.
//
// An extension that is not known to be a file's says nothing, so it agrees, and so does
// application/octet-stream, which servers send for what they do not know and browsers do not show.
// A file's extension without a Content-Type does not agree. The path is read as the loosest origin
// would: unescaped, with and without what follows a semicolon, a NUL, a question mark or a
// fragment.
func ExtensionAgrees(rawURL string, h http.Header) bool {
	path := pathOf(rawURL)
	if unescaped, err := url.PathUnescape(path); err == nil {
		path = unescaped
	}
	whole := path[strings.LastIndexAny(path, `/\`)+1:]
	bare := whole
	if i := strings.IndexAny(whole, ";?#\x00\n\r"); i >= 0 {
		bare = whole[:i]
	}
	mediaType := mediaTypeOf(h)
	return typeAgrees(whole, mediaType) && typeAgrees(bare, mediaType)
}

// pathOf cuts the escaped path out of an absolute URL.
func pathOf(rawURL string) string {
	if _, behind, ok := strings.Cut(rawURL, "://"); ok {
		rawURL = behind
	}
	path, _, _ := strings.Cut(rawURL, "?")
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[i:]
	}
	return ""
}

// mediaTypeOf is the Content-Type without parameters, empty if there is none or more than one.
func mediaTypeOf(h http.Header) string {
	if lines := h["Content-Type"]; len(lines) != 1 || longer(lines, maxField) {
		return ""
	}
	mediaType, _, err := mime.ParseMediaType(h["Content-Type"][0])
	if err != nil {
		return ""
	}
	return mediaType
}

func typeAgrees(file, mediaType string) bool {
	i := strings.LastIndexByte(file, '.')
	if i < 0 {
		return true
	}
	types, isFile := typesOf[ToLower(TrimOWS(file[i+1:]))]
	if !isFile || mediaType == "application/octet-stream" {
		return true
	}
	return slices.ContainsFunc(types, func(t string) bool {
		if beginning, many := strings.CutSuffix(t, "*"); many {
			return strings.HasPrefix(mediaType, beginning)
		}
		return mediaType == t
	})
}
