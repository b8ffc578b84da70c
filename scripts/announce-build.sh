#!/usr/bin/env bash
# Says before a first build how long it may take. Usage: announce-build.sh release|debug DURATION
set -euo pipefail
if [ ! -x "target/$1/sealift" ]; then
    echo "sealift: the first build compiles every dependency; expect $2 (later builds take seconds)"
fi
