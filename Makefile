# What one does with this repository. Everything that a target needs, it prepares by itself.
# BELAY_KUBECONFIG=<file> makes every target use that cluster instead of one on this machine.

.DEFAULT_GOAL := help
.PHONY: help cluster cluster-down image deploy demo demo-down test fuzz bench generate clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

cluster: ## a whole Kubernetes on this machine (root, Debian, Go; the first time some 10 minutes)
	@tests/cluster/up

cluster-down: ## end it, leaving nothing of it running
	@tests/cluster/down

image: ## the operator's image, and into the cluster when one is up (BELAY_PROFILE: cargo's profile)
	@tests/cluster/image >/dev/null

deploy: cluster ## install or upgrade the operator in the cluster, with the image of this tree
	@tests/cluster/deploy

# Whoever tries Belay for the first time waits for its compilation: the quick one will do.
demo: export BELAY_PROFILE := $(or $(BELAY_PROFILE),dev)
demo: deploy ## a shop's database, migrated, broken and caught
	@tests/cluster/with-cluster examples/demo.sh

demo-down: ## take the demo away
	@tests/cluster/with-cluster examples/demo.sh down

test: ## every test: formatting, lints, units, PostgreSQL, cluster
	@tests/run

fuzz: ## the fuzzer on the reader of SQL (SECONDS_OF_FUZZING: 1800; installs cargo-fuzz, needs a C++ compiler)
	@fuzz/run

bench: ## measure what the documentation claims
	@tests/cluster/with-cluster tests/bench

generate: ## write again what is generated from the code: CRDs, chart, plain manifests, reference
	@BELAY_GENERATE=1 cargo test --quiet --locked --test generated -- --test-threads 1

clean: ## end this clone's cluster, and remove all that was built here (the cache in ~/.cache/belay stays)
	@tests/cluster/down own
	@rm -rf target
