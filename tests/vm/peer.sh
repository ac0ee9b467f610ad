#!/bin/bash
# Runs the conformance cases against Debian's containerd and runc: on this machine, with mounts, a network and
# processes of their own, and in the test machine those that need what this one has not.
#
# usage: peer.sh [NAME...]        after `make build-tests` and `tests/vm/deps.sh bench`; parts of names of cases
#        peer.sh guest [NAME...]  the part that runs beside a containerd of its own
#
# What was said and the daemons' logs are left in target/peer.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=$(realpath "${CARGO_TARGET_DIR:-target}")
out=$target/peer
if [ "${1:-}" != guest ]; then
    export BERTH_PEERS=${BERTH_CACHE:-$HOME/.cache/berth}/peers
    mkdir -p "$out"
    status=0
    # Its cgroups are those of any containerd of the host, and are removed in the end.
    groups=(-path '*/k8s.io*' -type d)
    if [ -n "$(find /sys/fs/cgroup "${groups[@]}" -print -quit)" ]; then
        echo "peer.sh: this machine has pods of a containerd: all cases run in the test machine" >&2
        exec tests/vm/run.sh --timeout "${VM_TIMEOUT:-6000}" --out "$out" \
            env CARGO_TARGET_DIR="$target" BERTH_TEST_VM=1 tests/vm/peer.sh guest "$@"
    fi
    trap 'find /sys/fs/cgroup -depth "${groups[@]}" -exec rmdir {} +' EXIT
    BERTH_VM_OUT=$out unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private bash -c '
        mount -t tmpfs -o mode=0755 tmpfs /run && exec tests/vm/peer.sh guest "$@"' peer "$@" 2>&1 |
        tee "$out/native.log" || status=$?
    mapfile -t left < <(sed -n 's/^skipped: \([a-z_]*\): .*/\1/p' "$out/native.log")
    [ ${#left[@]} -eq 0 ] || tests/vm/run.sh --timeout "${VM_TIMEOUT:-2400}" --out "$out" \
        env CARGO_TARGET_DIR="$target" BERTH_TEST_VM=1 tests/vm/peer.sh guest "${left[@]}" || status=$?
    exit $status
fi
shift

# What is executed is in memory: the shared root file system of the test machine is slow.
work=/run/peer
mkdir -p $work/{bin,cni,folder}
cp "$BERTH_PEERS"/usr/bin/{containerd,containerd-shim-runc-v2,ctr} "$BERTH_PEERS/usr/sbin/runc" $work/bin/
cp -L /usr/lib/cni/{bridge,host-local,loopback} $work/bin/
strip --strip-debug -o $work/bin/integration "$(cat "$target/logs/integration")"
export PATH=$work/bin:$PATH
cat >$work/cni/10-peer.conflist <<END
{ "cniVersion": "1.0.0", "name": "peer", "plugins": [
  { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.91.0.0/16" }]],
              "routes": [{ "dst": "0.0.0.0/0" }], "dataDir": "$work/leases" } } ] }
END
ip link set lo up
tests/vm/containerd.sh $work berth.test/pause:latest >$work/containerd.toml
containerd --config $work/containerd.toml >$work/containerd.log 2>&1 &
daemon=$!
status=0
BERTH_PEER=$work/containerd.sock BERTH_PEER_FOLDER=$work/folder \
    BERTH_PEER_IMPORT="ctr --address $work/containerd.sock --namespace k8s.io images import" \
    integration "$@" || status=$?
kill $daemon
wait $daemon || true
cp $work/containerd.log "$BERTH_VM_OUT/containerd${BERTH_TEST_VM:+-vm}.log"
exit $status
