#!/bin/bash
# The part of run.sh that runs inside the test machine: images, registry, then one daemon after the
# other. Everything that is executed or written is in memory: the shared root file system is slow.
#
# usage: guest.sh [pods] [images] [streams] [kept]      with BERTH_STAGE, BERTH_PEERS, BERTH_VM_OUT and BERTH_BENCH_PODS set
set -euo pipefail

out=$BERTH_VM_OUT
pods=$BERTH_BENCH_PODS
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=/run/bench
registry=127.0.0.1:5000
daemon=

mkdir -p $work/{bin,cni,certs.d/$registry,rootfs,tmp}
export PATH=$work/bin:$PATH TMPDIR=$work/tmp
cp "$BERTH_STAGE"/berth{,-shim,-pause} "$out/floor" "$out/cri" $work/bin/
cp "$BERTH_PEERS"/usr/bin/{containerd,containerd-shim-runc-v2} "$BERTH_PEERS/usr/sbin/runc" $work/bin/
cp -L /usr/bin/docker-registry /usr/lib/cni/{bridge,host-local,loopback} $work/bin/

# Waits until a command succeeds.
await() {
    local what=$1 tries=600
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "guest.sh: no $what after 120 s" >&2; return 1; }
        [ -z "$daemon" ] || kill -0 "$daemon" || { echo "guest.sh: the daemon ended before $what" >&2; return 1; }
        sleep 0.2
    done
}

# Runs one daemon, measures it, ends it.
# usage: measure COURSE NAME SOCKET OPTIONS -- COMMAND...
measure() {
    local course=$1 name=$2 socket=$3 options=()
    shift 3
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    echo "$name: $(date +%T)"
    # A log on the shared root file system would slow whoever writes more of it.
    "$@" >"$work/$name.log" 2>&1 &
    daemon=$!
    await "socket of $name" cri ping --socket "$socket"
    cri "$course" --socket "$socket" --daemon $daemon --registry $registry --out "$out/$name.json" \
        "${options[@]}" || { tail -n 30 "$work/$name.log" >&2; return 1; }
    kill $daemon
    wait $daemon || true
    cp "$work/$name.log" "$out/"
    daemon=
}

cat >$work/registry.yml <<END
version: 0.1
log: { level: error }
storage: { filesystem: { rootdirectory: $work/registry }, delete: { enabled: false } }
http: { addr: $registry }
END
cat >$work/certs.d/$registry/hosts.toml <<END
server = "http://$registry"
[host."http://$registry"]
capabilities = ["pull", "resolve"]
END
# Both sides bring lo up by themselves: containerd by its loopback plugin.
cat >$work/cni/10-bench.conflist <<END
{ "cniVersion": "1.0.0", "name": "bench", "plugins": [
  { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.90.0.0/16" }]],
              "routes": [{ "dst": "0.0.0.0/0" }], "dataDir": "$work/leases" } } ] }
END
for mode in builtin cni; do
    cat >$work/berth-$mode.toml <<END
[server]
socket = "$work/berth-$mode/berth.sock"
[paths]
run = "$work/berth-$mode/run"
state = "$work/berth-$mode/state"
libexec = "$work/bin"
[network]
mode = "$mode"
cni_conf_dir = "$work/cni"
cni_bin_dirs = ["$work/bin"]
[image]
plain_http = ["$registry"]
END
done
"$here/../tests/vm/containerd.sh" $work $registry/pause:latest $work/certs.d >$work/containerd.toml
berth=(berth --config $work/berth-builtin.toml serve)
berth_socket=$work/berth-builtin/berth.sock
containerd=(containerd --config $work/containerd.toml)

bench_pods() {
    # The machine may be busier at one time than at another: the floor is measured before berth and after it.
    floor $work/rootfs $work/bin/berth-pause /sys/fs/cgroup/floor "$pods" >"$out/floor-before.tsv"
    measure measure berth $berth_socket --pods "$pods" -- "${berth[@]}"
    floor $work/rootfs $work/bin/berth-pause /sys/fs/cgroup/floor "$pods" >"$out/floor-after.tsv"
    measure measure berth-cni $work/berth-cni/berth.sock --pods "$pods" --network-only -- \
        berth --config $work/berth-cni.toml serve
    measure measure containerd $work/containerd.sock --pods "$pods" -- "${containerd[@]}"
    cri table --of pods --floor "$out/floor-before.tsv" --floor "$out/floor-after.tsv" --berth "$out/berth.json" \
        --berth-cni "$out/berth-cni.json" --peer "$out/containerd.json" >"$out/table-pods.txt"
}

bench_images() {
    local sizes=$out/sizes.tsv images=(small large-gzip large-zstd)
    cri inflate --storage $work/registry "${images[@]}" >"$out/inflate-before.tsv"
    measure pulls berth-images $berth_socket --state $work/berth-builtin/state --sizes "$sizes" -- "${berth[@]}"
    cri inflate --storage $work/registry "${images[@]}" >"$out/inflate-after.tsv"
    measure pulls containerd-images $work/containerd.sock --state $work/root --sizes "$sizes" -- "${containerd[@]}"
    cri table --of images --floor "$out/inflate-before.tsv" --floor "$out/inflate-after.tsv" \
        --berth "$out/berth-images.json" --peer "$out/containerd-images.json" >"$out/table-images.txt"
}

bench_streams() {
    local floor=(floor $work/rootfs $work/bin/berth-pause /sys/fs/cgroup/floor "$pods")
    { "${floor[@]}"; cri copy; } >"$out/copy-before.tsv"
    measure streams berth-streams $berth_socket --samples "$pods" --v5 -- "${berth[@]}"
    { "${floor[@]}"; cri copy; } >"$out/copy-after.tsv"
    measure streams containerd-streams $work/containerd.sock --samples "$pods" -- "${containerd[@]}"
    cri table --of streams --floor "$out/copy-before.tsv" --floor "$out/copy-after.tsv" \
        --berth "$out/berth-streams.json" --peer "$out/containerd-streams.json" >"$out/table-streams.txt"
}

# A berth whose kubelet half keeps the pods of a folder, by itself or through another runtime.
kept() {
    local name=$1 further=$2
    mkdir -p "$work/$name/manifests"
    sed "s|berth-builtin|$name|" $work/berth-builtin.toml
    cat <<END
[kubelet]
node_name = "bench"
manifest_dir = "$work/$name/manifests"
pod_logs_dir = "$work/$name/pod-logs"
container_logs_dir = "$work/$name/container-logs"
$further
END
}

bench_kept() {
    local floor=(floor $work/rootfs $work/bin/berth-pause /sys/fs/cgroup/floor "$pods") peer
    { "${floor[@]}"; cri follow --folder $work/follow --times "$pods"; } >"$out/follow.tsv"
    kept berth-kept "" >$work/berth-kept.toml
    kept containerd-kept "runtime_endpoint = \"$work/containerd.sock\"" >$work/containerd-kept.toml
    options() { echo --manifests "$work/$1/manifests" --payload "$work/$1/run/kubelet/payload" --samples "$pods"; }
    # shellcheck disable=SC2046 # several words
    measure kept berth-kept $work/berth-kept/berth.sock $(options berth-kept) -- \
        berth --config $work/berth-kept.toml serve
    "${containerd[@]}" >"$work/containerd-peer.log" 2>&1 &
    peer=$!
    await "socket of the peer" cri ping --socket $work/containerd.sock
    # shellcheck disable=SC2046
    measure kept containerd-kept $work/containerd.sock $(options containerd-kept) -- \
        berth --config $work/containerd-kept.toml serve
    kill $peer
    wait $peer || true
    cri table --of kept --floor "$out/follow.tsv" --berth "$out/berth-kept.json" \
        --peer "$out/containerd-kept.json" >"$out/table-kept.txt"
}

python3 "$here/pod_images.py" $work/registry $work/rootfs /bin/busybox $work/bin/berth-pause
[ ! -d "$out/storage" ] || cp -r "$out/storage/." $work/registry/
docker-registry serve $work/registry.yml >"$out/registry.log" 2>&1 &
registry_pid=$!
trap 'kill $registry_pid $daemon 2>/dev/null || true' EXIT
await registry bash -c ": </dev/tcp/${registry/:/\/}"

for part in "$@"; do "bench_$part"; done
