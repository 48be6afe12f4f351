//go:build !linux

package cluster

import "errors"

func newAlarm() (alarm, error) { return nil, errors.New("it needs Linux") }
