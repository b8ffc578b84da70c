#!/usr/bin/env bash
# Prints torch's sentences per CPU-second. Usage: torch.sh MODEL ROWS SECONDS
# The wheels on PyPI need a GPU vendor's libraries, so this takes Debian's build (151 MB), with OpenBLAS under it.
set -euo pipefail
cd "$(dirname "$0")/../../.."
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}
if ! dpkg --status python3-torch libopenblas0-pthread >/dev/null 2>&1; then
    echo "sealift: installing from Debian: python3-torch libopenblas0-pthread" >&2
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        python3-torch libopenblas0-pthread >/dev/null
fi
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
exec /usr/bin/python3 tests/bench/peers/torch_minilm.py "$@"
