# The front door: `make` prints what there is.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
SOAK_OPERATIONS ?= 2000
SOAK_SEED ?= $(shell date +%s)

# Where rustup puts cargo, for shells that do not know it.
export PATH := $(PATH):$(HOME)/.cargo/bin

binary := $(or $(CARGO_TARGET_DIR),target)/release/microagent
bindir := $(DESTDIR)$(PREFIX)/bin
mandir := $(DESTDIR)$(PREFIX)/share/man/man1
completions := $(DESTDIR)$(PREFIX)/share/bash-completion/completions/microagent \
	$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_microagent \
	$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/microagent.fish
shells := bash zsh fish

.PHONY: help demo build test lint fmt bench fuzz soak soaknet test-kvm deny advisories package install uninstall clean test-packages

help: ## Print this
	@awk -F ":.*## " '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## Install what is missing, build, and run a command in a microVM
	@scripts/demo

build: ## Build the release binary
	cargo build --release --locked --package microagent-cli
	@echo $(binary)

test: test-packages lint ## Install what is missing, check everything, run all tests
	cargo build --locked --package microagent-cli
	cargo test --workspace --locked
	cargo test --manifest-path fuzz/Cargo.toml --locked --target-dir "$${CARGO_TARGET_DIR:-target}"

lint: test-packages ## Check format, lints, documentation and scripts
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path fuzz/Cargo.toml
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	shellcheck scripts/* .ci/run

test-packages:
	@scripts/install-packages $$(scripts/packages test)

fmt: ## Format the code
	cargo fmt --all
	cargo fmt --all --manifest-path fuzz/Cargo.toml

bench: ## Time runs and the conversion of an image against other tools
	scripts/bench-run
	scripts/bench-podman
	scripts/bench-cold
	scripts/bench-convert
	scripts/bench-pull
	scripts/bench-network

fuzz: ## Fuzz each parser for FUZZ_SECONDS (60)
	@scripts/fuzz $(FUZZ_SECONDS)

soak: test-packages ## Do SOAK_OPERATIONS (2000) by SOAK_SEED (the time) at once while processes are killed, and look for what is lost or left
	cargo build --locked --package microagent-cli
	MICROAGENT_SOAK_OPERATIONS=$(SOAK_OPERATIONS) MICROAGENT_SOAK_SEED=$(SOAK_SEED) \
		cargo test --package microagent-tests --locked --test stories soak:: -- --nocapture

soaknet: test-packages ## Use a guest's network for a minute, and see that the memory for it is flat
	cargo build --locked --package microagent-cli
	MICROAGENT_NETWORK_SOAK=60 cargo test --package microagent-tests --locked --test stories network::loads::memory -- --nocapture

test-kvm: ## Test what differs under KVM, in a Debian guest with kvm_amd that QEMU plays; as root, some five minutes
	scripts/install-packages $$(scripts/packages run) mmdebstrap debian-archive-keyring
	cargo build --locked --package microagent-cli
	scripts/test-kvm

deny: ## Check licences, sources and bans of all crates (deny.toml)
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check licenses bans sources

advisories: ## Look for known holes in all crates, and withdrawn versions; needs the Internet
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check advisories

package: build ## Make a tarball and a Debian package of what `make build` builds
	@scripts/package $(binary)

install: ## Install what `make build` built, with completions and manual pages, under PREFIX (/usr/local)
	@test -x $(binary) || { echo 'not built yet: run `make build` first' >&2; exit 1; }
	install -D -m 0755 $(binary) $(bindir)/microagent
	@set -- $(completions); for shell in $(shells); do \
		install -d "$$(dirname "$$1")"; \
		$(binary) completion "$$shell" >"$$1"; \
		echo "$$1"; shift; \
	done
	install -d $(mandir)
	$(binary) man $(mandir)

uninstall: ## Remove what `make install` installed
	rm -f $(bindir)/microagent $(completions) $(mandir)/microagent.1 $(mandir)/microagent-*.1

clean: ## Remove what was built; the state of microagent stays
	cargo clean
	cargo clean --manifest-path fuzz/Cargo.toml
