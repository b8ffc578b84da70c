#!/usr/bin/env bash
# The demo: sealift commands that a user could type, printed as they run.
# Usage: demo.sh BINARIES [MODEL]   (target/release, or target/debug in the test suite)
# MODEL: tiny-bert (default), or minilm, which scripts/fetch-minilm.sh puts under target/models.
set -euo pipefail
cd "$(dirname "$0")/.."
binaries=$(realpath "$1")
export PATH="$binaries:$PATH" SEALIFT_STATE="$PWD/target/demo/state"

case "${2:-tiny-bert}" in
    tiny-bert) model=tests/fixtures/models/tiny-bert-sentiment ;;
    minilm) model=target/models/minilm-sentiment ;;
    *)
        echo "usage: demo.sh BINARIES [tiny-bert|minilm]" >&2
        exit 2
        ;;
esac
name=$(basename "$model")
out=target/demo
rm -rf "$out"
mkdir -p "$out"

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# The same, keeping what the command prints for programs.
keep() {
    local file=$1
    shift
    printf '\n$ %s > %s\n' "$*" "$file"
    "$@" >"$file"
}

run sealift init
run sealift validate definitions/sentiment-rollout.yaml
run sealift plan definitions/sentiment-rollout.yaml --input batch="$out/reviews.batch" \
    --input model="$model" --input model_name="$name"
run sealift batch seal "$model/rows.jsonl" --model "$name" --out "$out/reviews.batch" \
    --output-policy dangerous_full_scores
run sealift run definitions/sentiment-rollout.yaml --input batch="$out/reviews.batch" \
    --input model="$model" --input model_name="$name" --input output_policy=dangerous_full_scores
run sealift runs
run sealift show
run sealift logs
results=$(sealift show --json | sed -n 's/.*"results":"\([^"]*\)".*/\1/p')
run sealift batch open "$results" --batch "$out/reviews.batch" --out "$out/results.jsonl"
keep "$out/comparison.json" sealift batch compare "$out/results.jsonl" --expect "$model/test.jsonl" \
    --integer-reference "$model" --json
keep "$out/receipts.json" sealift receipts verify "$results" --batch "$out/reviews.batch" --json
run sealift report --comparison "$out/comparison.json" --receipts "$out/receipts.json" --out "$out/summary.json"
run sealift status
run sealift stop
