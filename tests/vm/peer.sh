#!/bin/bash
# Runs tests against Debian's containerd and runc: on this machine, with mounts, cgroups, a network and processes of
# their own, and in the test machine those that need what this one has not.
#
# usage: peer.sh conformance [NAME...]  the conformance cases, by CRI; parts of names of cases
#        peer.sh kubelet [NAME...]      the kubelet half with containerd as its runtime; parts of names of tests
#        peer.sh guest SUITE [NAME...]  the part that runs beside a containerd of its own
# after `make build-tests` and `tests/vm/deps.sh bench`
#
# What was said and the daemons' logs are left in target/peer.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=$(realpath "${CARGO_TARGET_DIR:-target}")
out=$target/peer
suite=${1:?usage: peer.sh conformance|kubelet [NAME...]}
shift
if [ "$suite" != guest ]; then
    export BERTH_PEERS=${BERTH_CACHE:-$HOME/.cache/berth}/peers
    export BERTH_PYTHON=${BERTH_CACHE:-$HOME/.cache/berth}/venv/bin/python
    export BERTH_PROMETHEUS=${BERTH_CACHE:-$HOME/.cache/berth}/prometheus/usr/bin/prometheus
    export NODE_PATH=${BERTH_CACHE:-$HOME/.cache/berth}/npm/node_modules
    mkdir -p "$out"
    status=0
    # A root of the newer cgroup hierarchy of its own, as suite.sh has it. In the older ones its cgroups are those of any
    # containerd of the host, and are removed in the end.
    v2=/sys/fs/cgroup older=()
    if [ -e $v2/unified/cgroup.procs ]; then
        v2=$v2/unified
        mapfile -t older < <(find /sys/fs/cgroup -mindepth 1 -maxdepth 1 -type d ! -name unified)
    fi
    left_of_pods() {
        [ ${#older[@]} -eq 0 ] ||
            find "${older[@]}" -depth \( -path '*/k8s.io*' -o -path '*/berth-tests-*' \) -type d "$@"
    }
    if [ -n "$(left_of_pods -print -quit)" ]; then
        echo "peer.sh: this machine has pods of a containerd: all cases run in the test machine" >&2
        exec tests/vm/run.sh --timeout "${VM_TIMEOUT:-6000}" --out "$out" \
            env CARGO_TARGET_DIR="$target" BERTH_TEST_VM=1 tests/vm/peer.sh guest "$suite" "$@"
    fi
    group=$v2/berth-peer.$$
    mkdir -p "$group"
    trap '{ left_of_pods -exec rmdir {} +; find "$group" -depth -type d -exec rmdir {} +; } 2>/dev/null || true' EXIT
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        export BERTH_VM_OUT=$out
        # Who waits for the processes of the inner namespace must not be in the root either.
        exec unshare --mount --cgroup --propagation private bash -c '
            mount -t tmpfs -o mode=0755 tmpfs /run && mkdir /run/cgroup &&
            mount -t cgroup2 none /run/cgroup && mkdir /run/cgroup/runner &&
            echo $$ >/run/cgroup/runner/cgroup.procs &&
            mount --bind /run/cgroup "$0" && umount /run/cgroup && mount --make-rshared / &&
            exec unshare --mount --net --pid --fork --kill-child --mount-proc --propagation shared \
                tests/vm/peer.sh guest "$@"' "$v2" "$suite" "$@"
    ) 2>&1 | tee "$out/native-$suite.log" || status=$?
    mapfile -t left < <(sed -n 's/^skipped: \([a-z_:]*\): .*/\1/p' "$out/native-$suite.log")
    [ ${#left[@]} -eq 0 ] || tests/vm/run.sh --timeout "${VM_TIMEOUT:-2400}" --out "$out" \
        env CARGO_TARGET_DIR="$target" BERTH_TEST_VM=1 tests/vm/peer.sh guest "$suite" "${left[@]}" || status=$?
    exit $status
fi
suite=$1
shift

# What is executed is in memory: the shared root file system of the test machine is slow.
work=/run/peer
mkdir -p $work/{bin,cni,folder,stage,tests}
cp "$BERTH_PEERS"/usr/bin/{containerd,containerd-shim-runc-v2,ctr} "$BERTH_PEERS/usr/sbin/runc" $work/bin/
cp -L /usr/lib/cni/{bridge,host-local,loopback,portmap} $work/bin/
strip --strip-debug -o $work/bin/integration "$(cat "$target/logs/integration")"
export PATH=$work/bin:$PATH
cat >$work/cni/10-peer.conflist <<END
{ "cniVersion": "1.0.0", "name": "peer", "plugins": [
  { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.91.0.0/16" }]],
              "routes": [{ "dst": "0.0.0.0/0" }], "dataDir": "$work/leases" } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }
END
ip link set lo up
tests/vm/containerd.sh $work berth.test/pause:latest >$work/containerd.toml
containerd --config $work/containerd.toml >$work/containerd.log 2>&1 &
daemon=$!
status=0
export BERTH_PEER_IMPORT="ctr --address $work/containerd.sock --namespace k8s.io images import"
case $suite in
    conformance)
        BERTH_PEER=$work/containerd.sock BERTH_PEER_FOLDER=$work/folder integration "$@" || status=$?
        ;;
    kubelet)
        cp "$target"/stage/* $work/stage/
        export BERTH_TEST_RUNTIME=$work/containerd.sock BERTH_STAGE=$work/stage BERTH_TEST_ROOT=$work/tests
        # All of them, or one after the other.
        [ $# -gt 0 ] || set -- ''
        for name in "$@"; do
            integration ${name:+"$name"} || status=$?
        done
        ;;
    *)
        echo "peer.sh: unknown suite $suite" >&2
        status=2
        ;;
esac
kill $daemon
wait $daemon || true
cp $work/containerd.log "$BERTH_VM_OUT/containerd-$suite${BERTH_TEST_VM:+-vm}.log"
exit $status
