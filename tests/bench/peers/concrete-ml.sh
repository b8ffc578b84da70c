#!/usr/bin/env bash
# Prints what concrete-ml-extensions takes for outputs of an encrypted head. Usage: concrete-ml.sh D_IN OUTPUTS TURNS
set -euo pipefail
cd "$(dirname "$0")/../../.."
venv=target/bench/concrete-ml
# Its wheel is for Python 3.11 alone.
python=$(command -v python3.11) || { echo "python3.11 is not installed; the wheel needs exactly it" >&2; exit 1; }
if [ ! -f "$venv/ready" ]; then
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        -r tests/bench/peers/concrete-ml.txt
    touch "$venv/ready"
fi
exec "$venv/bin/python" tests/bench/peers/concrete_ml_head.py "$@"
