//go:build tools

// Package keda pins the peer that the reaction benchmark measures against.
package keda

import (
	_ "github.com/kedacore/keda/v2/cmd/adapter"
	_ "github.com/kedacore/keda/v2/cmd/operator"
)
