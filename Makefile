# One line each: the logic lives in xtask. `make` lists the targets.
PREFIX ?= /usr/local
BIN = $(DESTDIR)$(PREFIX)/bin

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
build: ## Build everything, optimised
	cargo build --release --workspace --locked
install: build ## Install orb8 and orb8-agent below PREFIX (/usr/local)
	install -D -t $(BIN) target/release/orb8 target/release/orb8-agent
package: build ## Make Debian and RPM packages and a tarball in target/package
	cargo xtask package
test: ## Run all tests; the kernel tests need root
	cargo test --workspace --locked
kernel-test: ## Run the kernel tests on this kernel, as root
	cargo test --package orb8-agent --test kernel --locked
vm-test: ## Run the kernel tests on stock kernels in VMs
	cargo xtask vm-test
e2e: ## Run the agent in a kind cluster of two nodes; needs Docker
	e2e/run
envtest: ## Run the watches against a real kube-apiserver; says how to get one
	e2e/envtest
fuzz: ## Fuzz every parser for a minute
	cargo xtask fuzz --seconds 60
bench: ## Measure what the agent costs, as root
	cargo xtask bench
probes: ## Rebuild the eBPF objects
	cargo xtask probes
probes-check: ## Rebuild the eBPF objects elsewhere and compare
	cargo xtask probes --check
codegen: ## Regenerate the gRPC code
	cargo xtask codegen
fmt: ## Format everything
	cargo fmt --all && cd orb8-probes && cargo fmt && cd ../fuzz && cargo fmt
lint: ## Check formatting, and clippy with warnings as errors
	cargo xtask ci fmt clippy probes-lint fuzz-fmt fuzz-clippy
ci: ## Run what CI runs, as root
	.ci/run
clean: ## Remove everything built
	cargo clean && rm -rf orb8-probes/target fuzz/target

.PHONY: help build install package test kernel-test vm-test e2e envtest fuzz bench probes probes-check codegen fmt lint ci clean
