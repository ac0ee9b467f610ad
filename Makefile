# Everything that is done with berth from a source tree. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

TARGET := $(or $(CARGO_TARGET_DIR),target)
TRIPLE := x86_64-unknown-linux-gnu
STAGE := $(TARGET)/stage
LOGS := $(TARGET)/logs
PREFIX ?= /usr
VM_TIMEOUT ?= 2400
KERNEL ?= 6.12
CMD ?= bash
# What the tests run is built with the kill points of the recovery tests in it, and with the means to take
# a defence away. The shim never is.
TEST_FEATURES := failpoints,undefended

# Tests that take minutes on emulated processors and ask nothing of a machine but what the host has: `make test`
# runs them on the host alone, and of the unit tests (`unit`) most; `make test-all` in a virtual machine, too.
HOST_ALONE := unit oci_engines:: conformance::a_refused_field_is conformance::an_ignored_field_changes \
	handler_enforcement:: handler_failures:: handler_terminals:: \
	streaming:: terminal:: port_forward:: registry_hosts:: random:: recovery:: stop::a_stop_asks kubelet:: \
	checkpoint::a_checkpoint_of checkpoint::a_failed_dump checkpoint::a_restore checkpoint::all_go_on

# A C program that stands on nothing: no library, so that none is needed for 32 bits.
BARE := -O1 -Wall -Wextra -Werror -ffreestanding -nostdlib -static -no-pie -fno-pie -fno-stack-protector \
	-fcf-protection=none -fno-asynchronous-unwind-tables -Wl,-z,noexecstack -Wl,--build-id=none

export CARGO_TERM_COLOR ?= never
export CARGO_NET_RETRY ?= 10

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install what building and testing needs (apt, pip, the test machine's kernel)
	@tests/vm/deps.sh
	@cargo fetch --quiet --locked

# The three programs side by side, as they are installed.
define stage
	mkdir -p $(STAGE)
	install -m 0755 $(TARGET)/$(TRIPLE)/shim/berth-shim $(STAGE)/berth-shim
	install -m 0755 $(TARGET)/pause/berth-pause $(STAGE)/berth-pause
	strip --strip-debug -o $(STAGE)/berth $(1)
endef

.PHONY: small
small:
	RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' cargo build --quiet --locked \
		--profile shim --no-default-features --bin berth-shim --target $(TRIPLE)
	cargo build --quiet --locked -p berth-pause --profile pause

.PHONY: build
build: small ## Build berth (debug), berth-shim and berth-pause into target/stage
	cargo build --locked --bin berth
	$(call stage,$(TARGET)/debug/berth)

.PHONY: release
release: small ## Build berth (optimised), berth-shim and berth-pause into target/stage
	cargo build --locked --release --bin berth
	$(call stage,$(TARGET)/release/berth)
	@# What is installed can neither be told to fail nor to leave a defence out.
	! grep -l -e BERTH_FAIL_PLAN -e BERTH_UNDEFENDED $(STAGE)/berth $(STAGE)/berth-shim

.PHONY: check
check: ## Formatting, lints of every feature set, documentation; warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --features $(TEST_FEATURES) -- -D warnings
	cargo clippy --locked --no-default-features --lib --bin berth-shim -- -D warnings
	cargo clippy --locked -p berth-pause --profile pause -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --no-deps --lib

.PHONY: audit
audit: ## Licences, bans and sources of all dependencies (installs cargo-deny when it is missing)
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --all-features check licenses bans sources

# Builds the tests and what they run; leaves the paths of the test programs in $(LOGS)/{unit,shim,integration}.
.PHONY: build-tests
build-tests: small
	mkdir -p $(LOGS)
	cargo build --locked --features $(TEST_FEATURES) --bin berth
	$(call stage,$(TARGET)/debug/berth)
	gcc $(BARE) -o $(STAGE)/test-syscall tests/integration/syscall.c
	gcc $(BARE) -m32 -o $(STAGE)/test-syscall32 tests/integration/syscall.c
	@# As every loader: at no fixed address, where Linux 6.1 would put the program itself.
	gcc $(filter-out -static -no-pie -fno-pie,$(BARE)) -fpie -static-pie -o $(STAGE)/test-takeover \
		tests/integration/takeover.c
	cargo test --locked --features $(TEST_FEATURES) --lib --test shim --test integration --no-run 2>&1 | tee $(LOGS)/build
	sed -n 's/^ *Executable unittests src.lib.rs (\(.*\))$$/\1/p' $(LOGS)/build >$(LOGS)/unit
	sed -n 's/^ *Executable tests.shim.main.rs (\(.*\))$$/\1/p' $(LOGS)/build >$(LOGS)/shim
	sed -n 's/^ *Executable tests.integration.main.rs (\(.*\))$$/\1/p' $(LOGS)/build >$(LOGS)/integration
	test -s $(LOGS)/unit -a -s $(LOGS)/shim -a -s $(LOGS)/integration

.PHONY: test-unit
test-unit: build-tests ## Unit and property tests, and the shim's own
	tests/vm/suite.sh unit

.PHONY: test-native
test-native: build-tests ## Integration tests on this machine; what it cannot do is a named skip
	tests/vm/suite.sh native

.PHONY: test-vm
test-vm: build-tests ## Integration tests in a virtual machine (KERNEL=6.12 or 6.1)
	tests/vm/suite.sh vm $(KERNEL) $(VM_TIMEOUT)

.PHONY: test-vm-systemd
test-vm-systemd: build-tests ## The systemd cgroup driver and the installed unit, in a virtual machine with systemd
	tests/vm/systemd.sh --timeout $(VM_TIMEOUT)

.PHONY: test-vm-selinux
test-vm-selinux: build-tests ## SELinux labels under a policy of the tests' own, in a virtual machine
	tests/vm/selinux.sh --timeout $(VM_TIMEOUT)

.PHONY: test-peer
test-peer: deps build-tests ## The conformance cases and the kubelet half's tests over Debian's containerd and runc
	tests/vm/deps.sh bench
	@# A failing run does not keep the other from telling what it finds.
	status=0; tests/vm/peer.sh conformance || status=$$?; tests/vm/peer.sh kubelet || status=$$?; exit $$status

.PHONY: test
test: deps ## Everything a change must pass: check, unit, native and virtual machine tests
	rm -f $(LOGS)/*.log
	$(MAKE) --no-print-directory check
	@# A failing run does not keep the others from telling what they find.
	status=0; BERTH_VM_SKIP='$(HOST_ALONE)' \
		$(MAKE) --no-print-directory --keep-going test-unit test-native test-vm || status=$$?; \
		tests/vm/suite.sh summary; exit $$status

.PHONY: test-all
test-all: test ## test, the suite on the oldest supported kernel, and the tests with systemd, SELinux, containerd
	$(MAKE) --no-print-directory test-vm KERNEL=6.1 VM_TIMEOUT=7200
	$(MAKE) --no-print-directory test-vm-systemd
	$(MAKE) --no-print-directory test-vm-selinux
	$(MAKE) --no-print-directory test-peer
	@tests/vm/suite.sh summary

# What libFuzzer needs of the compiler; the targets are functions of the library.
FUZZ_FLAGS := --cfg fuzzing -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
	-C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
	-C llvm-args=-sanitizer-coverage-trace-compares -C codegen-units=1

.PHONY: fuzz
fuzz: ## Run each fuzz target for SECONDS (60); what it finds is left in target/fuzz
	RUSTFLAGS='$(FUZZ_FLAGS)' cargo build --quiet --locked --release --manifest-path fuzz/Cargo.toml \
		--target $(TRIPLE) --target-dir $(TARGET)/fuzz
	for name in $(notdir $(wildcard fuzz/corpus/*)); do \
		mkdir -p $(TARGET)/fuzz/new/$$name && \
		$(TARGET)/fuzz/$(TRIPLE)/release/$$name -max_total_time=$(or $(SECONDS),60) -print_final_stats=1 \
			-artifact_prefix=$(TARGET)/fuzz/$$name- $(TARGET)/fuzz/new/$$name fuzz/corpus/$$name || exit; \
	done

.PHONY: demo
demo: deps build ## A two-container pod from a YAML file: what it is, how it ends, that nothing is left
	tests/demo/run.sh

.PHONY: demo-kubelet
demo-kubelet: deps build ## Pods of a folder of manifests: probed, restarted, updated, edited, removed, with times
	tests/demo/kubelet.sh

.PHONY: bench
bench: deps release ## Times and memory beside containerd + runc and the kernel's own floor, in the virtual machine
	benches/run.sh

.PHONY: bench-probes
bench-probes: ## CPU time of 1,000 HTTP probes a second beside a bare loop of connections
	cargo run --quiet --locked --release --example probe-bench

.PHONY: vm-shell
vm-shell: ## Run CMD="..." in the test machine
	@tests/vm/run.sh --kernel $(KERNEL) --timeout $(VM_TIMEOUT) bash -c $(call quote,$(CMD))

quote = '$(subst ','\'',$(1))'

.PHONY: install
install: release ## Install into $(DESTDIR)$(PREFIX)
	@$(MAKE) --no-print-directory install-files

# What was built last, whatever it is.
.PHONY: install-files
install-files:
	install -D -m 0755 $(STAGE)/berth $(DESTDIR)$(PREFIX)/bin/berth
	ln -sf berth $(DESTDIR)$(PREFIX)/bin/berth-oci
	install -D -m 0755 $(STAGE)/berth-shim $(DESTDIR)$(PREFIX)/libexec/berth/berth-shim
	install -D -m 0755 $(STAGE)/berth-pause $(DESTDIR)$(PREFIX)/libexec/berth/berth-pause
	install -D -m 0644 packaging/berth.service $(DESTDIR)$(PREFIX)/lib/systemd/system/berth.service
	install -D -m 0644 packaging/berth.slice $(DESTDIR)$(PREFIX)/lib/systemd/system/berth.slice
	install -D -m 0644 packaging/crictl.yaml $(DESTDIR)$(PREFIX)/share/doc/berth/crictl.yaml
