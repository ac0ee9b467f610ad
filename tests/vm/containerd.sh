#!/bin/bash
# Prints the configuration of Debian's containerd as the peer that berth is measured and tested beside.
#
# usage: containerd.sh WORK PAUSE [CERTS]
# WORK   folder of everything: containerd.sock, root, state, bin (plugins and runc), cni (network lists)
# PAUSE  the image of its sandboxes
# CERTS  folder with the hosts of registries
set -euo pipefail
work=$1 pause=$2 certs=${3:-}
# Without CAP_SYS_RESOURCE no score can be lowered, and containerd's own sandboxes want a low one.
capabilities=$((16#$(sed -n 's/^CapEff:\t//p' /proc/self/status)))
restrict=$([ $((capabilities >> 24 & 1)) = 1 ] && echo false || echo true)
# The plugins that are off complain about file systems and tools that the machine has no use for.
cat <<END
version = 2
root = "$work/root"
state = "$work/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "$work/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$pause"
disable_apparmor = true
restrict_oom_score_adj = $restrict
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$work/bin"
conf_dir = "$work/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "$work/bin/runc"
SystemdCgroup = false
END
[ -z "$certs" ] || cat <<END
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "$certs"
END
