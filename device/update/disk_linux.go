package update

import "syscall"

// freeBytes is how much a file system takes of who has no privileges.
func freeBytes(directory string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(directory, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}
