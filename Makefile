# `make demo` and `make test` are all a new user needs; each says what it installs and how long it may take.
.PHONY: demo test check bench schema

# Rolls out a real classifier sealed, scores 500 real sentences and checks every answer.
demo:
	@scripts/require.sh build
	@scripts/announce-build.sh release "8 to 15 minutes on 2 cores"
	cargo build --release --locked --workspace --bins
	@scripts/demo.sh target/release

# The whole suite, then the demo's own script on the same binaries.
test:
	@scripts/require.sh build test
	@scripts/announce-build.sh debug "6 to 12 minutes on 2 cores"
	cargo build --locked --workspace --bins
	cargo test --locked --workspace
	@scripts/demo.sh target/debug
	cargo test --locked --workspace --no-default-features --test without_fhe

# What a reviewer runs before a pull request.
check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

# Figures go to target/bench/results.json; ONLY=demo or ONLY=scoring picks one.
bench:
	@scripts/require.sh build
	cargo build --release --locked --workspace --bins
	target/release/sealift-bench $(ONLY)

# Rewrites definitions/schema/ from what the workers print.
schema:
	cargo build --locked --workspace --bins
	scripts/schema.sh target/debug
