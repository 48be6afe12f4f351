package port

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// advertised decides how other nodes reach the address that is bound.
func advertised(listen, advertise string, bound *net.TCPAddr) (string, error) {
	port := strconv.Itoa(bound.Port)
	if advertise != "" {
		return explicit(advertise, port)
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("%s is no address to listen on: %w", listen, err)
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return net.JoinHostPort(host, port), nil
	}
	ip := privateAddress()
	if ip == "" {
		return "", fmt.Errorf("the cluster port listens on all addresses (%s), and this machine has no private one: say how other nodes reach it with --advertise HOST:PORT", listen)
	}
	return net.JoinHostPort(ip, port), nil
}

// explicit completes an address that was given.
func explicit(advertise, port string) (string, error) {
	host, p, err := net.SplitHostPort(advertise)
	if err != nil { // no port, or an IPv6 address without brackets
		host, p = advertise, ""
		if ip := net.ParseIP(trimBrackets(host)); ip != nil {
			host = ip.String()
		} else if h, _, again := net.SplitHostPort(host + ":0"); again != nil || h == "" {
			return "", fmt.Errorf("%s can't be advertised, because it is not HOST:PORT: %w", advertise, err)
		}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return "", fmt.Errorf("%s can't be advertised: other nodes need an address of this machine that they can reach", advertise)
	}
	if p == "" || p == "0" {
		p = port
	}
	return net.JoinHostPort(host, p), nil
}

func trimBrackets(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}

// privateAddress finds the address of this machine in a private network: that of the
// default route when it is one, else the first, IPv4 before IPv6; "" when there is
// none.
func privateAddress() string {
	// Nothing is sent: connecting a UDP socket only asks for the route.
	if c, err := (&net.Dialer{}).DialContext(context.Background(), "udp", "192.0.2.1:9"); err == nil {
		local, _ := c.LocalAddr().(*net.UDPAddr)
		_ = c.Close()
		if local != nil && local.IP.IsPrivate() {
			return local.IP.String()
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	six := ""
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		switch {
		case !ok || !n.IP.IsPrivate():
		case n.IP.To4() != nil:
			return n.IP.String()
		case six == "":
			six = n.IP.String()
		}
	}
	return six
}
