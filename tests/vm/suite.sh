#!/bin/bash
# Runs the test programs that `make build-tests` made, and keeps what they print.
#
# usage: suite.sh unit                      unit and property tests, and the shim's own
#        suite.sh native [ARGUMENT...]      integration tests here, in a mount namespace of their own
#        suite.sh vm KERNEL SECONDS [ARGUMENT...]  unit and integration tests in the virtual machine
#        suite.sh guest [ARGUMENT...]       the part of `vm` that runs inside
#        suite.sh summary                   the summary lines of all runs so far
# ARGUMENTs go to the integration tests: names to choose by, --list, ...
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=${CARGO_TARGET_DIR:-target}
logs=$target/logs
what=${1:?usage: suite.sh unit|native|vm|guest|summary}
shift

# Prints the name of the log in front of each summary line that a test runner left in it.
summaries() {
    grep -H -E '^(test result: |FAILED|ok: |not ok: )' "$@" | sed -E "s#^.*/([^/]*)\.log:#\1: #"
}

# Python speaks to the daemon as other gRPC libraries do.
export BERTH_PEERS=${BERTH_CACHE:-$HOME/.cache/berth}/peers
export BERTH_PYTHON=${BERTH_CACHE:-$HOME/.cache/berth}/venv/bin/python
export NODE_PATH=${BERTH_CACHE:-$HOME/.cache/berth}/npm/node_modules
export BERTH_PROMETHEUS=${BERTH_CACHE:-$HOME/.cache/berth}/prometheus/usr/bin/prometheus
export BERTH_CRIU=${BERTH_CACHE:-$HOME/.cache/berth}/criu/criu
export BERTH_STAGE=$PWD/$target/stage
[ "${target#/}" = "$target" ] || export BERTH_STAGE=$target/stage

case $what in
    unit)
        status=0
        "$(cat "$logs/unit")" 2>&1 | tee "$logs/unit.log" || status=$?
        "$(cat "$logs/shim")" 2>&1 | tee "$logs/shim.log" || status=$?
        exit $status
        ;;
    native)
        export BERTH_TEST_ROOT=${BERTH_TEST_ROOT:-$(mktemp -d "${TMPDIR:-/tmp}/berth-tests.XXXXXX")}
        # A root of the cgroup hierarchy of its own: a starting daemon ends what it finds of no sandbox
        # that it knows, and with it the pods of a suite that runs beside this one.
        v2=/sys/fs/cgroup
        [ ! -e $v2/unified/cgroup.procs ] || v2=$v2/unified
        group=$v2/berth-tests.$$
        mkdir -p "$group"
        trap 'rm -rf "$BERTH_TEST_ROOT"; find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true' EXIT
        status=0
        (
            echo "$BASHPID" >"$group/cgroup.procs"
            exec unshare --mount --cgroup --propagation private bash -c '
                mount -t tmpfs -o mode=0755 tmpfs "$BERTH_TEST_ROOT" &&
                own=$BERTH_TEST_ROOT/cgroup && mkdir "$own" && mount -t cgroup2 none "$own" &&
                mkdir "$own/runner" && echo $$ >"$own/runner/cgroup.procs" &&
                # A mount of the same file system is not taken over itself, a bind mount is.
                mount --bind "$own" "$0" && umount "$own" && rmdir "$own" &&
                mount --make-rshared / && exec "$@"' "$v2" "$(cat "$logs/integration")" "$@"
        ) 2>&1 | tee "$logs/native.log" || status=$?
        exit $status
        ;;
    vm)
        kernel=$1 limit=$2
        shift 2
        status=0
        tests/vm/run.sh --kernel "$kernel" --timeout "$limit" --out "$target/vm" \
            env CARGO_TARGET_DIR="$target" tests/vm/suite.sh guest "$@" || status=$?
        cp "$target/vm/output.log" "$logs/vm-$kernel.log"
        exit $status
        ;;
    guest)
        # Reading a program page by page over 9p is slow: copy it into memory.
        mkdir -p /run/stage
        cp "$BERTH_STAGE"/* /run/stage/
        strip --strip-debug -o /run/stage/unit "$(cat "$logs/unit")"
        strip --strip-debug -o /run/stage/shim-tests "$(cat "$logs/shim")"
        strip --strip-debug -o /run/stage/integration "$(cat "$logs/integration")"
        export BERTH_STAGE=/run/stage BERTH_TEST_VM=1
        status=0
        alone=" ${BERTH_VM_SKIP:-} "
        if [ $# -eq 0 ] && [[ $alone != *" unit "* ]]; then
            echo "unit tests:"
            /run/stage/unit || status=1
            echo "shim tests:"
            /run/stage/shim-tests || status=1
        elif [ $# -eq 0 ]; then
            echo "unit tests that ask what a host may not have (controllers, limits, overlayfs):"
            /run/stage/unit cgroups:: oci::executor sys:: image::snapshot || status=1
        fi
        for name in ${alone/ unit / }; do
            set -- "$@" --skip "$name"
        done
        echo "integration tests${BERTH_VM_SKIP:+ (on the host alone: $BERTH_VM_SKIP)}:"
        /run/stage/integration "$@" || status=1
        exit $status
        ;;
    summary)
        echo
        echo "all runs:"
        summaries "$logs"/*.log
        ;;
    *)
        echo "suite.sh: unknown run $what" >&2
        exit 2
        ;;
esac
