#!/bin/bash
# Measures berth beside containerd + runc and the kernel's own floor, in the test machine.
#
# usage: run.sh [--pods N] [pods] [images] [streams] [kept]        after `make release` and `tests/vm/deps.sh`
#
# N (default 20) is the number of samples of each figure and of pods that run at once. The
# tables are printed and left in target/bench/table-*.txt, with the raw figures and the daemons' logs beside them.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
pods=20
if [ "${1:-}" = --pods ]; then pods=$2; shift 2; fi
[ $# -gt 0 ] || set -- pods images streams kept
for part in "$@"; do
    case $part in pods | images | streams | kept) ;; *) echo "run.sh: no part $part" >&2; exit 2 ;; esac
done
target=$(realpath "${CARGO_TARGET_DIR:-target}")
out=$target/bench
peers=${BERTH_CACHE:-$HOME/.cache/berth}/peers
mkdir -p "$out"
rm -rf "$out"/{*.json,*.tsv,*.log,*.txt,storage}

cargo build --locked --release --example cri-bench
install -m 0755 "$target/release/examples/cri-bench" "$out/cri"
gcc -O2 -Wall -static -o "$out/floor" benches/floor.c
case " $* " in *" images "*) python3 benches/pull_images.py "$out/storage" "$out/sizes.tsv" ;; esac

BERTH_STAGE=$target/stage BERTH_PEERS=$peers BERTH_BENCH_PODS=$pods \
    tests/vm/run.sh --timeout 4800 --out "$out" benches/guest.sh "$@"
for part in "$@"; do
    echo
    cat "$out/table-$part.txt"
done
