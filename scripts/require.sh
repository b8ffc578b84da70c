#!/usr/bin/env bash
# Checks for what building or testing needs, installs what Debian has, and says so.
# Usage: require.sh build|test|bench ...
set -euo pipefail

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Debian package per command; pairs so that only what is missing is installed.
missing=()
need() {
    command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

for purpose in "$@"; do
    case "$purpose" in
        build)
            if ! command -v cargo >/dev/null 2>&1; then
                echo "sealift: no Rust toolchain found; install Rust 1.95 or newer, as https://rustup.rs describes" >&2
                exit 1
            fi
            version=$(rustc --version | cut -d' ' -f2)
            if [ "$(printf '%s\n1.95.0\n' "${version%%-*}" | sort -V | head -n 1)" != "1.95.0" ]; then
                echo "sealift: rustc $version is too old; Sealift needs 1.95 or newer: rustup update stable" >&2
                exit 1
            fi
            need cc build-essential
            ;;
        test)
            # age: results must open with a tool that is not ours. python3-venv: so must models.
            need age age
            # libFuzzer is C++.
            need c++ build-essential
            # A terminal at which a test types.
            need script bsdutils
            need python3 python3
            # Azurite: stores are tested on the emulators of their makers.
            need node nodejs
            need npm npm
            python3 -c 'import ensurepip' >/dev/null 2>&1 || missing+=(python3-venv)
            ;;
        bench)
            # What sealing is measured against: OpenSSL's AES, and packages of PyPI.
            need openssl openssl
            need python3 python3
            python3 -c 'import ensurepip' >/dev/null 2>&1 || missing+=(python3-venv)
            ;;
        *)
            echo "usage: require.sh build|test|bench ..." >&2
            exit 2
            ;;
    esac
done

if [ "${#missing[@]}" -gt 0 ]; then
    echo "sealift: installing from Debian: ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
