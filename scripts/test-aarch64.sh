#!/usr/bin/env bash
# Runs the tests of the encrypted product as an Arm machine would, on whatever machine this is:
# rustup's toolchain here may lack the target, Debian has it, and QEMU executes the result.
# Usage: test-aarch64.sh  (root, because the toolchain is kept in a root folder of its own)
set -euo pipefail

root=$PWD/target/aarch64/debian
package=jobs/seal/fhe-layer
target=aarch64-unknown-linux-gnu

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

missing=()
command -v debootstrap >/dev/null 2>&1 || missing+=(debootstrap)
command -v qemu-aarch64-static >/dev/null 2>&1 || missing+=(qemu-user-static)
if [ "${#missing[@]}" -gt 0 ]; then
    echo "sealift: installing from Debian: ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

in_debian() {
    as_root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
        chroot "$root" "$@"
}

# Debian's unstable release has Rust 1.95 or newer. The marker is written last, so that a
# download that was cut off is begun again.
if [ ! -e "$root/complete" ]; then
    echo "sealift: fetching a Rust toolchain for Arm from Debian (400 MB, some minutes)"
    as_root rm -rf "$root"
    mkdir -p "$(dirname "$root")"
    as_root debootstrap --variant=minbase sid "$root" http://deb.debian.org/debian >/dev/null
    as_root cp /etc/resolv.conf "$root/etc/resolv.conf"
    in_debian apt-get install -y -qq --no-install-recommends ca-certificates rustc cargo gcc \
        libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross >/dev/null 2>&1
    in_debian dpkg --add-architecture arm64
    # A snapshot of Debian says of itself that it is old; its signature is checked all the same.
    in_debian apt-get -o Acquire::Check-Valid-Until=false update -qq
    # Unpacked and not installed: of the other architecture only the standard library is wanted.
    in_debian sh -c 'cd /tmp && apt-get download -qq libstd-rust-dev:arm64 && dpkg-deb -x libstd-rust-dev_*.deb /'
    as_root touch "$root/complete"
fi

# The mounts are of this command's own namespace and end with it. Crates come from this machine's
# cargo, which knows the way to its registry.
echo "sealift: building the tests of $package for $target"
cargo fetch --locked --quiet
# shellcheck disable=SC2016 # expanded inside
executable=$(as_root unshare --mount -- sh -c '
    mkdir -p "$1/mnt/project" "$1/root/.cargo/registry" &&
    mount --bind "$PWD" "$1/mnt/project" && mount --bind "$4" "$1/root/.cargo/registry" &&
    mount -t proc proc "$1/proc" &&
    exec chroot "$1" env -i PATH=/usr/bin:/bin HOME=/root CARGO_TARGET_DIR=/var/tmp/sealift \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        sh -c "cd /mnt/project/$2 && cargo test --offline --locked --lib --no-run --release --target $3 2>&1"
' sh "$root" "$package" "$target" "${CARGO_HOME:-$HOME/.cargo}/registry" |
    tee /dev/stderr | sed -n 's/.*Executable.*(\(.*\))$/\1/p')

# One processor with I8MM and one without: each runs every kernel that it has.
for processor in max cortex-a72; do
    echo "sealift: running them on QEMU's $processor"
    qemu-aarch64-static -cpu "$processor" -L "$root/usr/aarch64-linux-gnu" "$root$executable"
done
