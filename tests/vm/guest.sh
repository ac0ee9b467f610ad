#!/bin/bash
# First command inside the virtual machine (see run.sh): makes it look like a node, then runs what
# run.sh wrote into OUT/command and leaves the exit status in OUT/status.
#
# usage: guest.sh OUT
out=$1
exec >>"$out/output.log" 2>&1

finish() {
    sync -f "$out" 2>/dev/null
    echo "$1" >"$out/status.new"
    mv "$out/status.new" "$out/status"
    exit "$1"
}

# A mount namespace of our own, with / shared, as systemd leaves it on a real node.
if [ "${BERTH_GUEST_NS:-}" != 1 ]; then
    BERTH_GUEST_NS=1 unshare --mount --propagation private "$0" "$@"
    finish $?
fi

set -e
trap 'echo "guest.sh: line $LINENO failed" >&2' ERR
mount --make-rshared /

# Pure cgroup v2 with every controller on for the children of the root.
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 -o nsdelegate none /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
# The first cgroup with a cpuset or a CPU quota makes the kernel patch its own code, and so does the end of the last:
# slow where processors are emulated. One that stays spares every test that.
mkdir /sys/fs/cgroup/stays
echo "50000 100000" >/sys/fs/cgroup/stays/cpu.max

mountpoint -q /sys/kernel/security || mount -t securityfs none /sys/kernel/security
mountpoint -q /sys/fs/bpf || mount -t bpf none /sys/fs/bpf || true
for module in overlay bridge br_netfilter veth dummy nf_tables nft_chain_nat nft_nat nft_masq \
    nft_redir nft_ct nft_fib_inet nft_reject_inet nft_limit nft_compat xt_comment xt_MASQUERADE \
    xt_conntrack xt_addrtype xt_mark xt_multiport xt_statistic xt_nat ip_tables iptable_nat \
    ip6_tables ip6table_nat sch_tbf sch_ingress act_mirred ifb fuse tun loop ext4; do
    modprobe -q "$module" || true
done
sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 || true
sysctl -q -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1 2>/dev/null || true
ip link set lo up

# What is written goes to memory: overlayfs takes no upper directory on the shared root, and the
# overlays over /var and /tmp are no good ground for another one.
mkdir -p /run/data /run/tmp
mkdir -p /etc/cni/net.d
# Before Linux 6.6 a tmpfs has no user attributes; files of images may have some.
case $(uname -r) in
    6.[0-5].*)
        truncate -s 2G /run/tmp.ext4
        mke2fs -q -t ext4 -O ^has_journal /run/tmp.ext4
        mount -o loop /run/tmp.ext4 /run/tmp
        ;;
esac
export TMPDIR=/run/tmp BERTH_TEST_ROOT=/run/data

hostname node 2>/dev/null || true
ulimit -n 1048576 2>/dev/null || ulimit -n "$(ulimit -Hn)"

echo "guest.sh: Linux $(uname -r), up $(cut -d' ' -f1 /proc/uptime) s, controllers: $(cat /sys/fs/cgroup/cgroup.subtree_control)"
trap - ERR
set +e
bash "$out/command"
