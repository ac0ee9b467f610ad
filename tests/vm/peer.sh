#!/bin/bash
# Runs the conformance cases against Debian's containerd and runc, in the test machine.
#
# usage: peer.sh [NAME...]        after `make build-tests` and `tests/vm/deps.sh bench`; parts of names of cases
#        peer.sh guest [NAME...]  the part that runs inside
#
# The daemon's log is left in target/peer.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=$(realpath "${CARGO_TARGET_DIR:-target}")
if [ "${1:-}" != guest ]; then
    export BERTH_PEERS=${BERTH_CACHE:-$HOME/.cache/berth}/peers
    exec tests/vm/run.sh --timeout "${VM_TIMEOUT:-2400}" --out "$target/peer" \
        env CARGO_TARGET_DIR="$target" tests/vm/peer.sh guest "$@"
fi
shift

work=/run/peer
mkdir -p $work/{bin,cni,folder}
# What is executed is in memory: the shared root file system is slow.
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
tests/vm/containerd.sh $work berth.test/pause:latest >$work/containerd.toml
containerd --config $work/containerd.toml >$work/containerd.log 2>&1 &
daemon=$!
status=0
BERTH_PEER=$work/containerd.sock BERTH_PEER_FOLDER=$work/folder BERTH_TEST_VM=1 \
    BERTH_PEER_IMPORT="ctr --address $work/containerd.sock --namespace k8s.io images import" \
    integration "$@" || status=$?
kill $daemon
wait $daemon || true
cp $work/containerd.log "$BERTH_VM_OUT/"
exit $status
