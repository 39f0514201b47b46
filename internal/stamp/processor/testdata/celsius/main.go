// A processor as a user would write one: degrees Fahrenheit become Celsius,
// and what has no temperature is dropped. Some messages have it misbehave.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines.Scan() {
		var message map[string]any
		if err := json.Unmarshal(lines.Bytes(), &message); err != nil {
			fmt.Fprintln(os.Stderr, "not JSON:", err)
			os.Exit(1)
		}
		body, _ := message["body"].(map[string]any)
		misbehave(out, body)
		fahrenheit, ok := body["temperature"].(float64)
		if !ok {
			fmt.Fprintln(out)
			continue
		}
		body["temperature"] = (fahrenheit - 32) / 1.8
		text, err := json.Marshal(message)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(out, string(text))
	}
}

func misbehave(out *bufio.Writer, body map[string]any) {
	switch body["misbehave"] {
	case "panic":
		panic("as asked")
	case "hang":
		for {
		}
	case "memory":
		var hoard [][]byte
		for {
			hoard = append(hoard, make([]byte, 1<<20))
			hoard[len(hoard)-1][0] = 1
		}
	case "flood":
		for {
			fmt.Fprintln(out, "more and more and more and more and more and more and more")
		}
	case "twice":
		fmt.Fprintln(out, "{}")
	case "look":
		if _, err := os.ReadFile("/etc/passwd"); err == nil {
			panic("a processor sees files")
		}
		if len(os.Environ()) > 0 {
			panic("a processor sees the environment")
		}
	}
}
