# XTCP's commands. `make` alone lists them. All but check, build, soak and clean need root.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo run bench quick impairments test soak check clean

PACKAGES := $(shell sed -e 's/\#.*//' docker/packages.txt)
export CARGO_TERM_PROGRESS_WHEN ?= auto

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' Makefile

setup: ## install the Debian packages that are missing (docker/packages.txt)
	@missing=(); \
	for package in $(PACKAGES); do \
	  status=$$(dpkg-query -W -f '$${db:Status-Abbrev}' "$$package" 2>/dev/null || true); \
	  [[ $$status == ii* ]] || missing+=("$$package"); \
	done; \
	if (( $${#missing[@]} )); then \
	  echo "installing $${missing[*]}"; \
	  (( EUID == 0 )) || { echo "installing packages needs root: run make setup as root"; exit 1; }; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -q -y --no-install-recommends "$${missing[@]}"; \
	fi; \
	command -v cargo >/dev/null || \
	  { echo "no Rust toolchain: install one with https://rustup.rs, then again"; exit 1; }

build: setup ## build the appliance, its tools and the example server (target/release)
	cargo build --release --workspace --lib --bins --example presence --example relay --example http --example iperf

demo: build ## show it: kernel clients of a namespace served through DPDK; ends by itself
	target/release/xtcp-demo

run: build ## bring the same up and keep it until Ctrl-C
	target/release/xtcp-demo run

bench: build ## measure everything beside the Linux kernel, 10 to 20 minutes; table in bench/README.md
	target/release/xtcp-bench table --out bench/out --readme bench/README.md

quick: build ## the same in two minutes with fewer connections; table and charts only in bench/out
	target/release/xtcp-bench table --quick --out bench/out

impairments: build ## transfers over bad wires beside Linux, half an hour; tables in bench/README.md
	target/release/xtcp-bench impairments --repeat 3 --out bench/out --readme bench/README.md
	target/release/xtcp-bench impairments --simulated --repeat 3 --out bench/out --readme bench/README.md

test: build ## run every test; the kernel's part needs root
	bench/run-tests

soak: export XTCP_SEEDS = $(or $(SEEDS),100000)
soak: ## every simulation at 100,000 seeds, or SEEDS=n; Ctrl-C says how far it came; hours, no root
	@export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true; \
	run=(cargo test -q --release --target-dir target/soak -p xtcp-stack --test simulation); \
	"$${run[@]}" --no-run && trap '' INT && \
	"$${run[@]}" -- --exact --ignored --nocapture soak::every_simulation_for_a_night

check: ## formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

clean: ## remove what was built and what the demo left for you
	cargo clean
	rm -rf bench/out dataplane/stack/fuzz/target dataplane/stack/fuzz/corpus dataplane/stack/fuzz/artifacts
