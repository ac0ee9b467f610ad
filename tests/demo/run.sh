#!/bin/bash
# The demonstration behind `make demo`: berth in a private root, a pod of two containers, what the kernel says
# of it, its end, and that nothing is left.
#
# usage: run.sh                 choose the place: this machine when it can, else the virtual machine
#        BERTH_DEMO=vm run.sh   the virtual machine in any case (or =native)
#        run.sh inside          the demonstration itself, in a mount namespace that it may change
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$project/target}

# Why this machine cannot run the demonstration; nothing when it can.
unfit() {
    local offered controller
    [ "$(id -u)" -eq 0 ] || { echo "not root"; return; }
    offered=" $(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null) "
    for controller in cpu memory pids cpuset io; do
        [[ $offered = *" $controller "* ]] || { echo "no cgroup v2 controller $controller below /sys/fs/cgroup"; return; }
    done
    [ ! -e /sys/fs/cgroup/berth ] || echo "berth has pods here already"
}

if [ "${1:-}" != inside ]; then
    reason=$(unfit)
    case ${BERTH_DEMO:-auto} in
        vm) reason="asked for" ;;
        native) reason= ;;
    esac
    if [ -z "$reason" ]; then
        echo "Place: this machine ($(uname -sr))."
        exec unshare --mount --propagation private "$here/run.sh" inside
    fi
    echo "Place: a virtual machine, because this one is out: $reason."
    echo "It boots in some seconds; without KVM it is about ten times slower than hardware."
    exec "$project/tests/vm/run.sh" --timeout 900 --out "$target/demo" "$here/run.sh" inside
fi

root=$(mktemp -d "${TMPDIR:-/tmp}/berth-demo.XXXXXX")
mount --make-rshared /
mount -t tmpfs -o mode=0755 demo "$root"
# Copied: in the virtual machine the project's folder is a slow network file system.
cp -r "$target/stage" "$root/bin"
cp "$here/pod.yaml" "$root"
cd "$root"
PATH=$root/bin:/usr/sbin:/sbin:$PATH
cat >"$root/config.toml" <<CONFIG
[server]
socket = "$root/run/berth.sock"
[paths]
run = "$root/run"
state = "$root/state"
libexec = "$root/bin"
[network]
mode = "builtin"
bridge = "berthdemo0"
subnet = "10.89.77.0/24"
CONFIG
daemon=

finish() {
    local status=$?
    trap - EXIT
    set +e
    if [ $status -ne 0 ]; then
        echo "The demonstration failed ($status). The daemon said:" >&2
        tail -n 30 "$root/daemon.log" >&2
        berth --config "$root/config.toml" rm --force demo >/dev/null 2>&1
    fi
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null
    wait
    umount -l "$root"
    rmdir "$root"
    exit $status
}
trap finish EXIT

title() { printf '\n== %s\n' "$*"; }
note() { printf '   %s\n' "$*"; }
# Runs berth; shown: says so and indents what it prints.
quiet() { berth --config "$root/config.toml" "$@"; }
shown() {
    printf '$ berth %s\n' "$*"
    quiet "$@" 2>&1 | sed 's/^/   /'
}
# until_true SECONDS WHAT COMMAND...: polls.
until_true() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "waited too long for: $what" >&2; return 1; }
        sleep 0.2
    done
}
start_daemon() {
    berth --config "$root/config.toml" serve --log-level info >>"$root/daemon.log" 2>&1 &
    daemon=$!
    until_true 60 "the daemon" quiet pods
}
# The first number behind a key of `berth inspect`.
number() { quiet inspect "$1" | sed -n "s/^ *\"$2\": \([0-9][0-9]*\),\{0,1\}$/\1/p" | head -n 1; }
text() { quiet inspect "$1" | sed -n "s/^ *\"$2\": \"\(.*\)\",\{0,1\}$/\1/p" | head -n 1; }
alive() { ! grep -q '^State:.*[ZX] (' "/proc/$1/status" 2>/dev/null && [ -e "/proc/$1" ]; }

# Everything of berth that the kernel knows, one thing a line: the kind, then what it is.
snapshot() {
    # Without the daemon itself, and without what has ended and is another's to reap (after the kill -9: init's).
    ps -e -ww -o pid=,ppid=,stat=,comm=,cgroup:512= | awk -v daemon="$daemon" '
        $1 != daemon && ($4 ~ /^berth/ || $5 ~ /^0::\/berth/) && ($3 !~ /^Z/ || $2 == daemon) {
            print "process", $1, $4, $5
        }'
    find /sys/fs/cgroup -mindepth 1 -type d -path '*berth*' | sed 's/^/cgroup /'
    cut -d' ' -f5 /proc/self/mountinfo | sed 's/^/mount /'
    ip -o link show | cut -d: -f2 | sed 's/^/link/'
    ip -o route show | sed 's/^/route /'
    nft list ruleset | sed 's/^/nft /'
    { find "$root/run" "$root/state" -type f 2>/dev/null || true; } | sed 's/^/file /'
}
# as_before SNAPSHOT: the snapshot of now holds nothing that it does not hold.
as_before() {
    snapshot >"$1.now"
    [ -z "$(comm -13 <(sort "$1") <(sort "$1.now"))" ]
}
# kept SNAPSHOT KINDS...: prints what is new of each kind; fails when something is. Links go a moment later.
kept() {
    local before=$1 after=$1.now kind new all=0
    shift
    until_true 20 "nothing left" as_before "$before" 2>/dev/null || true
    for kind in "$@"; do
        new=$(comm -13 <(grep "^$kind " "$before" | sort) <(grep "^$kind " "$after" | sort))
        printf '   %-10s %d left\n' "$kind" "$(printf '%s' "$new" | grep -c .)"
        [ -z "$new" ] || { printf '%s\n' "$new" | sed 's/^/      /'; all=1; }
    done
    return $all
}

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
shown stop demo
shown logs --tail 1 demo/web
shown logs --tail 1 demo/client
shown ps --all
[ "$(number demo/web exitCode)" = 0 ] && [ "$(number demo/client exitCode)" = 42 ]

title "Away with it"
shown rm demo
shown image rm localhost/busybox:demo
note "berth still runs; against the node before the pod (the bridge stays until berth ends):"
kept "$root/daemon.before" process cgroup mount file
kill "$daemon"
wait "$daemon"
daemon=
note "berth has ended; against the node before it:"
kept "$root/node.before" process cgroup mount link route nft
printf '\n%s\n' "Done: a pod ran, was looked at, and left nothing behind."
