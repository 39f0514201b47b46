package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// versions tells each asset's version: part of its address, so that browsers
// may keep it for ever.
var versions = assetVersions()

func assetVersions() map[string]string {
	known := map[string]string{}
	err := fs.WalkDir(assetFiles, "assets", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := assetFiles.ReadFile(path)
		sum := sha256.Sum256(content)
		known[strings.TrimPrefix(path, "assets/")] = hex.EncodeToString(sum[:6])
		return err
	})
	if err != nil {
		panic(err) // the files are part of the binary
	}
	return known
}

// asset is the address of an asset.
func asset(name string) string { return "/assets/" + name + "?v=" + versions[name] }

func serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	version, known := versions[name]
	if !known {
		http.Error(w, "there is no such asset", http.StatusNotFound)
		return
	}
	w.Header().Set("ETag", `"`+version+`"`)
	if r.URL.Query().Get("v") == version {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeFileFS(w, r, assetFiles, "assets/"+name)
}
