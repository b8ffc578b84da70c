#!/usr/bin/env bash
# Prints onnxruntime's sentences per CPU-second. Usage: onnxruntime.sh MODEL ROWS SECONDS
set -euo pipefail
cd "$(dirname "$0")/../../.."
venv=target/bench/peers
if [ ! -f "$venv/ready" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/bench/peers/requirements.txt
    touch "$venv/ready"
fi
exec "$venv/bin/python" tests/bench/peers/onnxruntime_minilm.py "$@"
