#!/bin/bash
# The demonstration behind `make demo`: berth in a private root, a pod of two containers, what the kernel says
# of it, its end, and that nothing is left.
#
# usage: run.sh                 choose the place: this machine when it can, else the virtual machine
#        BERTH_DEMO=vm run.sh   the virtual machine in any case (or =native)
#        run.sh inside          the demonstration itself, in a mount namespace that it may change
set -euo pipefail

# shellcheck source=tests/demo/stage.sh
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh"
further=$(cat <<'KUBELET'
[kubelet]
node_name = "node"
pod_logs_dir = "ROOT/pod-logs"
container_logs_dir = "ROOT/container-logs"
cgroup_root = "berth-demo/kubepods"
KUBELET
)
away() { quiet delete pod demo; }
stage "$@"
cp "$here/pod.yaml" "$root"

# The first number behind a key of `berth inspect`.
number() { quiet inspect "$1" | sed -n "s/^ *\"$2\": \([0-9][0-9]*\),\{0,1\}$/\1/p" | head -n 1; }
text() { quiet inspect "$1" | sed -n "s/^ *\"$2\": \"\(.*\)\",\{0,1\}$/\1/p" | head -n 1; }

title "The node"
note "$(uname -sr), $(nproc) processors, cgroup v2: $(cat /sys/fs/cgroup/cgroup.controllers)"
snapshot >"$root/node.before"
start_daemon
note "berth runs as process $daemon, everything of it below $root"
snapshot >"$root/daemon.before"

title "An image from busybox"
echo "\$ image.py /bin/busybox busybox.oci localhost/busybox:demo"
"$here/image.py" /bin/busybox busybox.oci localhost/busybox:demo
shown image import busybox.oci

title "A pod from a Kubernetes file"
shown run pod.yaml
shown pods
shown ps
web=$(number demo/web pid) client=$(number demo/client pid)
pause=$(number demo pid) shim=$(number demo shimPid)

title "Namespaces: the pod's are shared, a container's are its own"
printf '   %-8s' ""
printf ' %-12s' web client pause host
echo
for kind in net ipc uts mnt pid cgroup; do
    printf '   %-8s' "$kind"
    for pid in "$web" "$client" "$pause" $$; do
        printf ' %-12s' "$(readlink "/proc/$pid/ns/$kind" | tr -dc 0-9)"
    done
    one=$(readlink "/proc/$web/ns/$kind") two=$(readlink "/proc/$client/ns/$kind")
    case $kind:$([ "$one" = "$two" ] && echo same) in
        net:same | ipc:same | uts:same) echo " shared" ;;
        mnt: | pid: | cgroup:) echo " separate" ;;
        *) echo " WRONG"; exit 1 ;;
    esac
done
shown exec demo/client hostname
shown exec demo/client ip -o -4 address

title "Limits, as the kernel has them"
pod=/sys/fs/cgroup$(text demo cgroup)
files=(memory.max memory.min cpu.max cpu.weight pids.max pids.current)
printf '   %-8s' ""
printf ' %-13s' "${files[@]}"
echo
for row in pod:"$pod" web:"$pod/$(text demo/web id)" client:"$pod/$(text demo/client id)" pause:"$pod/pause"; do
    printf '   %-8s' "${row%%:*}"
    for file in "${files[@]}"; do
        printf ' %-13s' "$(cat "${row#*:}/$file")"
    done
    echo
done
shim_group=$(cut -d: -f3 "/proc/$shim/cgroup")
note "the shim, process $shim, is outside of the pod, in ${shim_group:0:26}…"
own=$(awk '/^Anonymous|^Swap:/ { n += $2 } END { print n }' "/proc/$shim/smaps_rollup" "/proc/$pause/smaps_rollup")
note "memory of its own, with that of pause: $own KiB; their programs are shared by all pods"
shown stats

title "The client fetches the page over localhost; both see the same volume"
pages() { [ "$(quiet logs demo/client | grep -c '^page')" -ge "$1" ]; }
until_true 120 "three pages" pages 3
shown logs --tail 3 demo/client

title "kill -9 of berth: the pod does not notice"
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
note "berth is dead. Alive: web $web, client $client, pause $pause, shim $shim"
for pid in "$web" "$client" "$pause" "$shim"; do alive "$pid"; done
sleep 3
start_daemon
note "berth is back as process $daemon and has adopted the pod"
shown ps
[ "$(number demo/web pid)" = "$web" ] && [ "$(number demo/client pid)" = "$client" ]
until_true 120 "three more pages" pages 6
quiet logs demo/client | sed -n 's/^page \([0-9]*\):.*/\1/p' >"$root/numbers"
diff -q "$root/numbers" <(seq "$(wc -l <"$root/numbers")") >/dev/null
! quiet logs demo/client | grep DIFFERENT
note "the client's log has pages 1 to $(tail -n 1 "$root/numbers") without a gap"

title "A graceful stop"
shown stop demo/web demo/client
shown logs --tail 1 demo/web
shown logs --tail 1 demo/client
shown ps --all
[ "$(number demo/web exitCode)" = 0 ] && [ "$(number demo/client exitCode)" = 42 ]

title "Away with it"
shown delete pod demo
shown image rm localhost/busybox:demo
note "berth still runs; against the node before the pod (the bridge stays until berth ends):"
kept "$root/daemon.before" process cgroup mount file
kill "$daemon"
wait "$daemon"
daemon=
note "berth has ended; against the node before it:"
kept "$root/node.before" process cgroup mount link route nft
printf '\n%s\n' "Done: a pod ran, was looked at, and left nothing behind."
