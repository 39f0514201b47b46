package serve

import "embed"

//go:embed examples/*.yaml
var examples embed.FS

// Example is a commented configuration file of a plane.
func Example(plane string) (text string, known bool) {
	file, err := examples.ReadFile("examples/" + plane + ".yaml")
	return string(file), err == nil
}
