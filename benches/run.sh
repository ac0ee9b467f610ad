#!/bin/bash
# Measures berth beside containerd + runc and the kernel's own floor, in the test machine.
#
# usage: run.sh [PODS]        after `make release` and `tests/vm/deps.sh`
#
# PODS (default 20) is the number of samples of each figure and of pods that run at once. The
# table is printed and left in target/bench/table.txt, with the raw figures and the daemons' logs beside it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
pods=${1:-20}
target=$(realpath "${CARGO_TARGET_DIR:-target}")
out=$target/bench
peers=${BERTH_CACHE:-$HOME/.cache/berth}/peers
mkdir -p "$out"
rm -f "$out"/*.json "$out"/*.tsv "$out"/*.log "$out/table.txt"

cargo build --locked --release --example cri-bench
install -m 0755 "$target/release/examples/cri-bench" "$out/cri"
gcc -O2 -Wall -static -o "$out/floor" benches/floor.c

BERTH_STAGE=$target/stage BERTH_PEERS=$peers BERTH_BENCH_PODS=$pods \
    tests/vm/run.sh --timeout 3000 --out "$out" benches/guest.sh
echo
cat "$out/table.txt"
