# What the demonstrations have in common: the place where they run, berth in a private root there, and the look at
# what is left behind. Sourced; a demonstration says `stage "$@"` first, and goes on inside.
#
# Set before: `demo`, the name of its files; `further`, further text of the configuration; `away`, a function that
# ends what a demonstration that failed has left.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$project/target}
# Absolute: the demonstration is started again elsewhere.
self=$here/$(basename "$0")
daemon=
cgroups=/sys/fs/cgroup
[ ! -e $cgroups/unified/cgroup.procs ] || cgroups=$cgroups/unified

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

# Goes on inside: here, if this machine can or is asked to, else in the virtual machine.
choose_place() {
    local reason
    reason=$(unfit)
    case ${BERTH_DEMO:-auto}:$reason in
        auto: | native:)
            echo "Place: this machine ($(uname -sr))."
            exec unshare --mount --propagation private "$self" inside
            ;;
        native:*)
            echo "Place: this machine ($(uname -sr)), with less than berth would insist on: $reason."
            export BERTH_DEMO_LESS=1
            exec unshare --mount --net --propagation private "$self" inside
            ;;
    esac
    [ "${BERTH_DEMO:-auto}" != vm ] || reason="asked for"
    echo "Place: a virtual machine, because this one is out: $reason."
    echo "It boots in some seconds; without KVM it is about ten times slower than hardware."
    exec "$project/tests/vm/run.sh" --timeout 900 --out "$target/demo" "$self" inside
}

# On a machine that others use at the same time: a tree of cgroups and a network of its own.
private_node() {
    local own=$root/cgroup group=$cgroups/berth-demo.$$
    mkdir "$group" "$own"
    echo $$ >"$group/cgroup.procs"
    exec unshare --cgroup bash -c '
        set -e
        mount -t cgroup2 none "$1"
        mkdir "$1/runner"
        echo $$ >"$1/runner/cgroup.procs"
        # A mount of the same file system is not taken over itself, a bind mount is.
        mount --bind "$1" "$2"
        umount "$1"
        rmdir "$1"
        ip link set lo up
        BERTH_DEMO_GROUP=$3 exec "$4" private "$5"' - "$own" "$cgroups" "$group" "$self" "$root"
}

stage() {
    case ${1:-} in
        inside)
            root=$(mktemp -d "${TMPDIR:-/tmp}/berth-demo.XXXXXX")
            mount -t tmpfs -o mode=0755 demo "$root"
            [ -z "${BERTH_DEMO_LESS:-}" ] || private_node
            ;;
        private) root=$2 ;;
        *) choose_place ;;
    esac
    trap finish EXIT
    mount --make-rshared /
    # Copied: in the virtual machine the project's folder is a slow network file system.
    cp -r "$target/stage" "$root/bin"
    cd "$root"
    PATH=$root/bin:/usr/sbin:/sbin:$PATH
    configure >"$root/config.toml"
}

configure() {
    cat <<CONFIG
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
    [ -z "${BERTH_DEMO_LESS:-}" ] || cat <<CONFIG
[cgroups]
root = "$cgroups"
enforce = "best-effort"
[process]
privileges = "best-effort"
CONFIG
    printf '%s\n' "${further//ROOT/$root}"
}

finish() {
    local status=$?
    trap - EXIT
    set +e
    if [ $status -ne 0 ]; then
        echo "The demonstration failed ($status). The daemon said:" >&2
        tail -n 30 "$root/daemon.log" >&2
        away >/dev/null 2>&1
    fi
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null
    wait
    cd /
    umount -l "$root"
    rmdir "$root"
    if [ -n "${BERTH_DEMO_GROUP:-}" ]; then
        # The tree of its own is mounted over the node's.
        umount -l "$cgroups"
        echo $$ >"$cgroups/cgroup.procs"
        find "$BERTH_DEMO_GROUP" -depth -type d -exec rmdir {} + 2>/dev/null
    fi
    exit $status
}

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
alive() { ! grep -q '^State:.*[ZX] (' "/proc/$1/status" 2>/dev/null && [ -e "/proc/$1" ]; }

# Everything of berth that the kernel knows, one thing a line: the kind, then what it is.
snapshot() {
    # Without the daemon itself, and without what has ended and is another's to reap (after the kill -9: init's).
    ps -e -ww -o pid=,ppid=,stat=,comm=,cgroup:2048= | awk -v daemon="$daemon" '
        # Outside of the own tree of cgroups are those of others.
        $1 != daemon && $5 !~ /0::\/\.\./ && ($4 ~ /^berth/ || $5 ~ /0::\/(berth|kubepods)/) && ($3 !~ /^Z/ || $2 == daemon) {
            print "process", $1, $4, $5
        }'
    find /sys/fs/cgroup -mindepth 1 -type d \( -path '*berth*' -o -path '*kubepods/*' \) | sed 's/^/cgroup /'
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
