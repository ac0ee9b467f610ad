#!/bin/bash
# Fetches a Debian kernel for the test machine and prints the path of its vmlinuz.
#
# usage: kernel.sh 6.12|6.1
#
# 6.12 comes from the backports of the machine's own release, 6.1 from the release itself. Nothing is
# installed: the package is unpacked below the cache folder and its modules folder is linked into
# /lib/modules, where the virtual machine (which shares the root file system) looks for them.
set -euo pipefail

series=${1:?usage: kernel.sh 6.12|6.1}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${BERTH_CACHE:-$HOME/.cache/berth}/kernel
mkdir -p "$cache"

find_vmlinuz() {
    compgen -G "$cache/linux-image-$series.*/boot/vmlinuz-$series.*" | sort -V | tail -n 1 || true
}

link_modules() {
    local root=$1 release=$2
    local target=$root/lib/modules/$release
    [ "$(readlink -f "/lib/modules/$release" 2>/dev/null)" = "$(readlink -f "$target")" ] && return
    if [ -e "/lib/modules/$release" ] && [ ! -L "/lib/modules/$release" ]; then
        return # the package itself is installed: its own modules are as good
    fi
    mkdir -p /lib/modules
    ln -sfn "$target" "/lib/modules/$release"
}

fetch() {
    local suite package file root release
    case $series in
        6.1) suite=release ;;
        *) suite=backports ;;
    esac
    "$here/apt.sh" $suite apt-get update >&2
    package=$("$here/apt.sh" $suite apt-cache search --names-only "^linux-image-$series\.[0-9.+a-z-]*-amd64$" |
        awk '$1 !~ /cloud|rt-amd64|unsigned|dbg/ { print $1 }' | sort -V | tail -n 1)
    [ -n "$package" ] || { echo "kernel.sh: Debian's $suite has no linux-image-$series.*-amd64" >&2; exit 1; }
    echo "kernel.sh: fetching $package" >&2
    (cd "$cache" && "$here/apt.sh" $suite apt-get download "$package" >&2)
    file=$(compgen -G "$cache/${package}_*.deb" | tail -n 1)
    root=$cache/$package
    rm -rf "$root.new"
    dpkg -x "$file" "$root.new"
    release=${package#linux-image-}
    depmod -b "$root.new" "$release"
    rm -rf "$root" "$file"
    mv "$root.new" "$root"
}

exec 9>"$cache/.lock"
flock 9
vmlinuz=$(find_vmlinuz)
if [ -z "$vmlinuz" ]; then
    fetch
    vmlinuz=$(find_vmlinuz)
fi
release=${vmlinuz##*/vmlinuz-}
root=${vmlinuz%/boot/*}
link_modules "$root" "$release"
echo "$vmlinuz"
