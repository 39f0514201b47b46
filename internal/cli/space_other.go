//go:build !unix

package cli

import "errors"

// freeSpace is not known how to find here.
func freeSpace(string) (uint64, error) {
	return 0, errors.New("the free space cannot be found out on this system")
}
