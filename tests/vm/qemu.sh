#!/bin/bash
# Fetches the QEMU that emulates the test machine and prints the path of its program.
#
# usage: qemu.sh
#
# It comes from the backports: a machine of two emulated processors dies within a minute under QEMU 7.2, as soon as
# the kernel patches its own code (a first cgroup with a cpuset is enough): one processor goes on to execute the
# breakpoint that the other has already taken away ("Oops: int3"). The package is unpacked below the cache folder;
# the libraries are those of the release's own qemu-system-x86.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${BERTH_CACHE:-$HOME/.cache/berth}
root=$cache/qemu
mkdir -p "$cache"
exec 9>"$cache/.qemu.lock"
flock 9
if [ ! -e "$root/.whole" ]; then
    echo "qemu.sh: fetching qemu-system-x86" >&2
    "$here/unpack.sh" "$root" backports qemu-system-x86 qemu-system-common qemu-system-data seabios
    touch "$root/.whole"
fi
echo "$root/usr/bin/qemu-system-x86_64"
