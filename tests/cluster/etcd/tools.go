//go:build tools

// Package tools pins etcd, whose dependencies are of other versions than Kubernetes'.
package tools

import _ "go.etcd.io/etcd/server/v3"
