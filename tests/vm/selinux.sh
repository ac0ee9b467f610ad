#!/bin/bash
# Runs the integration tests of SELinux in a virtual machine whose kernel enforces the tests' own policy.
#
# usage: selinux.sh [--timeout SECONDS] [ARGUMENT...]
#        selinux.sh guest POLICY [ARGUMENT...]    the part that runs inside
#
# Needs what `make build-tests` made. ARGUMENTs go to the integration tests; without any they are `selinux::`. What
# they print is kept with the console's log, which has the kernel's denials, in $(TARGET)/vm-selinux.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."

if [ "${1:-}" = guest ]; then
    policy=$2
    shift 2
    mountpoint -q /sys/fs/selinux || mount -t selinuxfs none /sys/fs/selinux
    # The kernel takes a policy in one write.
    dd if="$policy" of=/sys/fs/selinux/load bs=16M iflag=fullblock status=none
    echo 1 >/sys/fs/selinux/enforce
    echo "selinux.sh: $(tr -d '\0' </proc/self/attr/current), enforcing: $(cat /sys/fs/selinux/enforce)"
    [ "$(cat /sys/fs/selinux/enforce)" = 1 ]
    export BERTH_TEST_SELINUX=1
    status=0
    tests/vm/suite.sh guest "$@" || status=$?
    # What was denied, each once: for whoever reads a failure.
    dmesg | sed -n 's/^.*avc:  denied/denied/p' | sed -E 's/ (pid|ino|dev)=[^ ]*//g' | sort | uniq -c | sort -rn |
        head -n 40
    exit $status
fi

target=${CARGO_TARGET_DIR:-target}
limit=1200
if [ "${1:-}" = --timeout ]; then
    limit=$2
    shift 2
fi
[ $# -gt 0 ] || set -- selinux::

out=$target/vm-selinux
mkdir -p "$out"
out=$(cd "$out" && pwd)
categories=$(printf 'c%s ' $(seq 0 1023))
sed -e "s/@CATEGORIES@/$(printf '(category c%s) ' $(seq 0 1023))/" -e "s/@ORDER@/$categories/" \
    "$here/selinux.cil" >"$out/policy.cil"
# 33 is the newest version that both compiler and kernel know.
secilc -M true -c 33 -o "$out/policy" -f /dev/null "$out/policy.cil"

status=0
"$here/run.sh" --kernel "${KERNEL:-6.12}" --timeout "$limit" --out "$out" \
    --append "lsm=landlock,lockdown,yama,integrity,selinux,bpf audit=1" \
    env CARGO_TARGET_DIR="$target" "$here/selinux.sh" guest "$out/policy" "$@" || status=$?
cp "$out/output.log" "$target/logs/vm-selinux.log"
exit $status
