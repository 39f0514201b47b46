package artifact

import (
	"context"
	"errors"
	"io"

	"github.com/slipway/slipway/internal/blob"
)

// Content reads a file from any place on.
type Content struct {
	About File
	ctx   context.Context
	files *blob.Store
	at    int64
	open  io.ReadCloser // at the place, once something was read
}

// Read implements io.Reader.
func (c *Content) Read(p []byte) (n int, err error) {
	if c.at >= c.About.Size {
		return 0, io.EOF
	}
	if c.open == nil {
		if c.open, err = c.files.Open(c.ctx, c.About.SHA256, c.at); err != nil {
			return 0, err
		}
	}
	n, err = c.open.Read(p)
	if c.at += int64(n); err == io.EOF && c.at < c.About.Size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Seek implements io.Seeker.
func (c *Content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += c.About.Size
	}
	if offset < 0 {
		return 0, errors.New("artifact: a place before the beginning")
	}
	if offset == c.at {
		return offset, nil
	}
	c.at = offset
	return offset, c.Close()
}

// Close implements io.Closer.
func (c *Content) Close() error {
	if c.open == nil {
		return nil
	}
	err := c.open.Close()
	c.open = nil
	return err
}
