package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// listen opens the HTTP address. An address that others can reach needs a token.
func listen(ctx context.Context, addr string, hasToken bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address such as 127.0.0.1:7700 or :7700; give one with --http", addr)
	}
	if !hasToken && !loopback(host) {
		return nil, fmt.Errorf("--http %s can be reached from other machines, and no token is set: anyone could run jobs here. Make a token and name its file, for example: head -c 24 /dev/urandom | base64 > token && orrery server --http %s --token-file token; or listen on 127.0.0.1 only", addr, addr)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("the address %s is in use; stop the program that has it, or choose another with --http HOST:PORT", addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("no permission to listen on %s; ports below 1024 need privileges, choose another with --http HOST:PORT", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("this machine has no address %s; choose another with --http HOST:PORT", addr)
	default:
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
}

// loopback reports whether only this machine can reach the host. A name counts
// only when it is localhost, because what others resolve to may change.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// ReadToken reads a token file: one line, at least 16 characters.
func ReadToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	t := strings.TrimSpace(string(b))
	if len(t) < 16 || strings.ContainsAny(t, " \t\r\n") {
		return "", fmt.Errorf("the token file %s must hold one word of at least 16 characters; make one with: head -c 24 /dev/urandom | base64 > %s", path, path)
	}
	return t, nil
}
