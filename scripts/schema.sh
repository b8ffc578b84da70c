#!/usr/bin/env bash
# Rewrites definitions/schema/ from what the workers host. Usage: schema.sh BINARIES
set -euo pipefail
cd "$(dirname "$0")/.."
for zone in owner operator; do
    "$1/sealift-$zone" kinds >"definitions/schema/$zone.json.new"
    mv "definitions/schema/$zone.json.new" "definitions/schema/$zone.json"
done
