//go:build tools

// Package kwok pins the program.
package kwok

import _ "sigs.k8s.io/kwok/cmd/kwok"
