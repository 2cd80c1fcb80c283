//go:build tools

// Package tools pins the migration tools, written in Go, whose ledgers the tests have Belay take over.
package tools

import (
	_ "github.com/golang-migrate/migrate/v4/cmd/migrate"
	_ "github.com/pressly/goose/v3/cmd/goose"
)
