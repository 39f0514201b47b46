package device

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Assignment returns the hub that the device was connected to last; it is
// empty before the first connection.
func (c *Client) Assignment() Assignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.assignment
}

// Fetch asks the hub's HTTPS API in the device's name for a path below the
// device's own, such as updates/metadata/timestamp.json. It waits until the
// device is connected, so that the campaign that brings the connection back
// spaces these requests too; it tries once. Every status is an answer. The
// caller closes the body, which ends when ctx does.
func (c *Client) Fetch(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	s, err := c.connected(ctx)
	if err != nil {
		return nil, err
	}
	name, _ := c.config.address(s.hub)
	host := net.JoinHostPort(name, strconv.Itoa(c.config.HTTPSPort))
	if c.config.HTTPSPort == 443 {
		host = name
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/devices/"+escape(s.deviceID)+"/"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	for key, values := range header {
		request.Header[key] = values
	}
	request.Header.Set("User-Agent", userAgent)
	if token := c.token(s.hub+"/devices/"+s.deviceID, "", c.config.TokenLife); token != nil {
		request.Header.Set("Authorization", string(token))
	}
	response, err := c.https().Do(request)
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	return response, nil
}

// newHTTPS makes what Fetch asks with. A redirect is an answer like any other:
// the device's token is for its hub alone.
func (c *Client) newHTTPS() *http.Client {
	config := &tls.Config{RootCAs: c.config.CA, MinVersion: tls.VersionTLS12, ClientSessionCache: c.sessions}
	if c.config.Certificate != nil {
		config.Certificates = []tls.Certificate{*c.config.Certificate}
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: c.config.Dial, TLSClientConfig: config, TLSHandshakeTimeout: answerTimeout, ResponseHeaderTimeout: answerTimeout,
			DisableCompression: true, MaxIdleConns: 1, IdleConnTimeout: 30 * time.Second,
		},
	}
}
