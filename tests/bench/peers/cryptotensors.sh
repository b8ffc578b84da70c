#!/usr/bin/env bash
# Seals or opens a model with PyPI's cryptotensors and prints what it cost.
# Usage: cryptotensors.sh install | seal PLAIN SEALED | open SEALED
set -euo pipefail
cd "$(dirname "$0")/../../.."
venv=target/bench/cryptotensors
if [ ! -f "$venv/ready" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/bench/peers/cryptotensors.txt
    touch "$venv/ready"
fi
[ "$1" = install ] || exec "$venv/bin/python" tests/bench/peers/cryptotensors_model.py "$@"
